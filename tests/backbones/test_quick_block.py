"""Stand-in blocks for training: the same losses as the backbone's own blocks, for every tuner at every place."""

import copy
from collections.abc import Sequence

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from utuning_search.backbones.family import BackboneBlock
from utuning_search.backbones.merge import merge
from utuning_search.backbones.quick_block import QuickBlock, quick, tokens_read
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.presets import PRESETS
from utuning_search.training.loop import Examples, train
from utuning_search.training.recipe import Recipe
from utuning_search.training.runtime import Runtime
from utuning_search.tuners import AdapterConfig, ConvConfig, LoraConfig, ScaleShiftConfig

from ..helpers import CASES, CLASSES, DEPTH, IMAGE, tiny_vit

DESIGNS = {
    **{p.name: Design(p.placements()) for p in PRESETS},
    **{c.name: Design((c.placement,)) for c in CASES},
}
RECIPE = Recipe(epochs=2, batch_size=4, learning_rate=0.01, rungs=(1,))
ADAPTER = Placement("mlp", AdapterConfig(2))


@pytest.fixture(scope="module")
def plain() -> VisionTransformer:
    """A backbone with plain matmuls in its attention, as trainers have it on a CPU."""
    model = tiny_vit()
    adapter_of(model).unfuse_attention()
    return model


def examples() -> Examples:
    draw = torch.Generator().manual_seed(3)
    return Examples(torch.randn(8, 3, IMAGE, IMAGE, generator=draw), torch.randint(CLASSES, (8,), generator=draw))


def losses(backbone: VisionTransformer, design: Design, *, stand_in: bool, precision: str = "fp32") -> list[float]:
    """Mean losses of two epochs of two steps."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(5)
        model = TunedModel(backbone, design.resolve(DEPTH), CLASSES)
    model.train()
    backbone.eval()
    blocks: Sequence[BackboneBlock] | None = None
    if stand_in:
        blocks = quick(model.adapter.blocks, tokens_read(model.adapter, model.design))
        assert all(type(b) is QuickBlock for b in blocks)
    autocast = Runtime(precision=precision).autocast()
    found = train(
        lambda x: model.forward_from(x, -1, blocks),
        model.parameters_trained(),
        [examples()],
        RECIPE,
        learning_rate=RECIPE.learning_rate,
        seed=1,
        autocast=autocast,
    )
    return [epoch.loss for epoch in found]


@pytest.mark.parametrize("name", DESIGNS)
def test_losses_along_a_training_are_the_same(name: str, plain: VisionTransformer) -> None:
    """For every known method, and for every tuner at every place and in every form."""
    wanted = losses(plain, DESIGNS[name], stand_in=False)
    assert losses(plain, DESIGNS[name], stand_in=True) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("name", [p.name for p in PRESETS])
def test_losses_in_bf16_are_near(name: str, plain: VisionTransformer) -> None:
    """As near as those of autocast on the model's own modules are: a few steps of 2^-8 of them."""
    wanted = losses(plain, DESIGNS[name], stand_in=False)
    for stand_in in (False, True):
        assert losses(plain, DESIGNS[name], stand_in=stand_in, precision="bf16") == pytest.approx(wanted, rel=0.03)


# Without a tuner


def tokens(model: VisionTransformer) -> Tensor:
    return adapter_of(model).embed(examples().inputs)


@pytest.mark.parametrize("settings", [{}, {"init_values": 0.5}, {"qkv_bias": False}, {"global_pool": "avg"}])
def test_gradients_of_tokens_are_those_of_the_block(settings: dict[str, object]) -> None:
    model = tiny_vit(**settings)
    for p in model.parameters():
        p.requires_grad_(False)
    adapter = adapter_of(model)
    adapter.unfuse_attention()
    (own, _), (block, _) = adapter.blocks, quick(adapter.blocks)
    assert type(block) is QuickBlock
    x, y = (tokens(model).requires_grad_() for _ in range(2))
    weights = torch.randn(own(x).shape, generator=torch.Generator().manual_seed(1))
    (own(x) * weights).sum().backward()
    (block(y) * weights).sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert torch.allclose(own(x), block(y), atol=1e-5)
    assert torch.allclose(x.grad, y.grad, atol=1e-4)


def test_only_the_tokens_that_are_read_are_computed() -> None:
    model = tiny_vit()
    for p in model.parameters():
        p.requires_grad_(False)
    adapter = adapter_of(model)
    x = tokens(model)
    whole, first = quick(adapter.blocks)[-1](x), quick(adapter.blocks, 2)[-1](x)
    assert first.shape[1] == 2
    assert torch.allclose(first, whole[:, :2], atol=1e-5)


# Where there is none


@pytest.mark.parametrize("settings", [{"qk_norm": True}, {"proj_drop_rate": 0.1}, {"attn_drop_rate": 0.1}])
def test_blocks_of_other_parts_stay_as_they_are(settings: dict[str, object]) -> None:
    model = tiny_vit(**settings)
    for p in model.parameters():
        p.requires_grad_(False)
    adapter = adapter_of(model)
    assert quick(adapter.blocks) == adapter.blocks
    assert tokens_read(adapter, Design()) is None


def test_weights_that_are_trained_have_no_stand_in() -> None:
    adapter = adapter_of(tiny_vit())
    assert quick(adapter.blocks) == adapter.blocks


def test_all_tokens_are_needed_where_some_tuner_or_the_pooling_reads_them(plain: VisionTransformer) -> None:
    def read(model: VisionTransformer, *placements: Placement) -> int | None:
        tuned = TunedModel(model, Design(placements), CLASSES)
        return tokens_read(tuned.adapter, tuned.design)

    conv = ConvConfig(2)
    assert read(plain) == read(plain, ADAPTER) == 1
    assert read(plain, Placement("mlp", conv, blocks="first 1")) == 1
    assert read(plain, ADAPTER, Placement("attention", conv)) is None
    assert read(plain, Placement("mlp", AdapterConfig(2), "parallel", "gate")) is None
    assert read(plain, Placement("block", AdapterConfig(2), "bypass")) == 1
    assert read(plain, Placement("block", AdapterConfig(2), "bypass", "gate", "first 1")) is None
    assert read(plain, Placement("final", ScaleShiftConfig())) == 1
    assert read(tiny_vit(global_pool="avg")) is None


# Copies of weights


def test_copies_follow_weights_that_change(plain: VisionTransformer) -> None:
    """Merging puts other weights in their place, or changes them."""
    model = TunedModel(copy.deepcopy(plain), Design((Placement("fc1", LoraConfig(2)),)), CLASSES)
    blocks, x = quick(model.adapter.blocks), tokens(plain)
    fc2 = model.backbone.blocks[0].mlp.fc2
    halves = [torch.nn.Parameter(fc2.weight.detach() * factor, requires_grad=False) for factor in (1, 2)]
    assert halves[0]._version == halves[1]._version, "a version alone would tell them apart"
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        fc2.weight = halves[0]
        before = blocks[0](x)
        fc2.weight = halves[1]
        changed = blocks[0](x)
        assert not torch.equal(changed, before)
        fc2.weight.div_(2)
        assert torch.equal(blocks[0](x), before)
        assert type(quick(merge(model).adapter.blocks)[0]) is QuickBlock
