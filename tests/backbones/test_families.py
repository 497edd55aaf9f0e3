"""The contract of backbone families: every registered one, and one from outside, does what its adapter claims."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.backbones import registry
from utuning_search.backbones.family import BackboneAdapter, BlockTuners
from utuning_search.backbones.merge import merge
from utuning_search.backbones.registry import adapter_of
from utuning_search.common.errors import BackboneError
from utuning_search.designs.design import Design, Placement
from utuning_search.tuners import (
    LINEAR_OPERATIONS,
    OPERATIONS,
    AdapterConfig,
    FrozenBlock,
    LoraConfig,
    Operation,
    PrefixConfig,
    PromptConfig,
)

from ..helpers import CLASSES, randomise, same_snapshot, snapshot, tiny_vit, tuned
from .toy_family import Toy, ToyAdapter, ToyLayer
from .variants import VARIANTS

Maker = Callable[[], nn.Module]

# Tiny models of each family by the family's name in errors; the first is its plainest.
TINY: dict[str, dict[str, Maker]] = {
    "a timm VisionTransformer": {name: lambda s=s: tiny_vit(**s) for name, s in VARIANTS.items()},
    "a toy": {"toy": lambda: randomise(Toy(), seed=1, std=0.1).eval()},
}
MODELS = [(maker, f"{family.split()[-1]}: {name}") for family, made in TINY.items() for name, maker in made.items()]
every_model = pytest.mark.parametrize("make", [m for m, _ in MODELS], ids=[n for _, n in MODELS])
every_family = pytest.mark.parametrize("make", [next(iter(m.values())) for m in TINY.values()], ids=list(TINY))


@pytest.fixture(autouse=True)
def _with_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FAMILIES", (*registry.FAMILIES, ToyAdapter))


def pictures(adapter: BackboneAdapter, count: int = 3) -> Tensor:
    size = adapter.image_size
    return torch.randn(count, adapter.channels, size, size, generator=torch.Generator().manual_seed(3))


class Recorder(BlockTuners):
    """Adds nothing, and keeps what passed each operation; `steps` asks for no operation to be run as a whole."""

    def __init__(self, *, steps: bool) -> None:
        self.steps = steps
        self.seen: dict[Operation, tuple[Tensor, Tensor]] = {}
        self.order: list[Operation] = []
        self.blocks: set[int] = set()

    def touches(self, *operations: Operation) -> bool:
        return self.steps and bool(operations)

    def add(self, operation: Operation, block: FrozenBlock, x: Tensor, y: Tensor) -> Tensor:
        self.seen[operation] = x, y
        self.order.append(operation)
        self.blocks.add(id(block))
        return y

    def normalise(self, operation: Operation, norm: nn.Module, x: Tensor) -> Tensor:
        self.order.append(f"norm of {operation}")
        return norm(x)

    def rows(self) -> list[tuple[Tensor, Tensor]]:
        return []


def test_every_registered_family_has_tiny_models() -> None:
    assert set(TINY) == {family.named for family in registry.FAMILIES}


@every_model
def test_one_family_recognises_it(make: Maker) -> None:
    model = make()
    (family,) = (f for f in registry.FAMILIES if f.recognises(model))
    assert type(adapter_of(model)) is family
    assert set(family.operations) <= set(OPERATIONS)
    assert not any(f.recognises(nn.Linear(2, 2)) for f in registry.FAMILIES)


@every_model
@torch.no_grad()
def test_step_by_step_it_is_the_models_own_forward(make: Maker) -> None:
    """Embedding, blocks and pooling; the blocks bare, and with tuners inside that add nothing."""
    model = make()
    adapter = adapter_of(model)
    images = pictures(adapter)
    tokens = adapter.embed(images)
    features = adapter.pool(adapter.run(tokens, 0, len(adapter.blocks)))
    assert torch.equal(features, model(images))
    assert features.shape == (3, adapter.num_features)
    for block in adapter.blocks:
        bare = block(tokens)
        for steps in (False, True):
            assert torch.equal(block.run(tokens, Recorder(steps=steps)), bare)
        tokens = bare


@every_model
@torch.no_grad()
def test_any_stretch_of_blocks_can_be_run(make: Maker) -> None:
    adapter = adapter_of(make())
    tokens, depth = adapter.embed(pictures(adapter)), len(adapter.blocks)
    assert adapter.run(tokens, 1, 1) is tokens
    assert torch.equal(adapter.run(adapter.run(tokens, 0, 1), 1, depth), adapter.run(tokens, 0, depth))


@every_model
@torch.no_grad()
def test_a_block_passes_each_operation_once_at_its_widths(make: Maker) -> None:
    adapter = adapter_of(make())
    tokens = adapter.embed(pictures(adapter))
    for block in adapter.blocks:
        recorder = Recorder(steps=True)
        block.run(tokens, recorder)
        asked = [o for o in recorder.order if o in OPERATIONS]
        assert sorted(asked) == sorted(o for o in adapter.operations if o != "block")
        assert recorder.blocks == {id(block)}
        for operation, (x, y) in recorder.seen.items():
            assert (x.shape[-1], y.shape[-1]) == block.widths(operation) == adapter.shape.widths(operation)
            assert x.shape[:-1] == y.shape[:-1] == tokens.shape[:-1]
        assert block.widths("block") == (tokens.shape[-1],) * 2
        for outer, inner in (
            ("attention", ("norm of attention", "norm1", "q", "k", "v", "proj", "mhsa")),
            ("mlp", ("norm of mlp", "norm2", "fc1", "fc2", "ffn")),
        ):
            places = [recorder.order.index(o) for o in (*inner, outer)]
            assert places == sorted(places), f"{outer} comes after what it is made of"
        stream = tokens
        for outer, norm, core in (("attention", "norm1", "mhsa"), ("mlp", "norm2", "ffn")):
            (x, y), (read, normalised) = recorder.seen[outer], recorder.seen[norm]
            assert torch.equal(x, stream)
            assert torch.equal(read, stream)
            assert torch.equal(normalised, block.norm(outer)(stream))
            assert torch.equal(recorder.seen[core][0], normalised)
            assert torch.equal(recorder.seen[core][1], y)
            stream = x + y
        assert torch.equal(stream, block(tokens))
        assert block.norm("norm1") is block.norm("attention")
        assert block.norm("norm2") is block.norm("mlp")


@every_model
@torch.no_grad()
def test_linear_maps_are_those_behind_the_operations(make: Maker) -> None:
    adapter = adapter_of(make())
    tokens = adapter.embed(pictures(adapter))
    for block in adapter.blocks:
        recorder = Recorder(steps=True)
        block.run(tokens, recorder)
        for operation in [o for o in LINEAR_OPERATIONS if o in adapter.operations]:
            part, (x, y) = block.linear(operation), recorder.seen[operation]
            assert part is not None
            assert block.widths(operation) == (part.module.in_features, len(part.module.weight[part.rows]))
            bias = None if part.module.bias is None else part.module.bias[part.rows]
            assert torch.allclose(F.linear(x, part.module.weight[part.rows], bias), y, atol=1e-5)
            assert block.ends_in_linear(operation)
        for outer, last in (("attention", "proj"), ("mlp", "fc2")):
            assert block.linear(outer) == block.linear(last)
            if block.ends_in_linear(outer):
                assert torch.equal(recorder.seen[outer][1], recorder.seen[last][1])


@every_family
@torch.no_grad()
def test_frozen_projections_make_the_blocks_own_attention(make: Maker) -> None:
    """Attending to its own keys and values is the attention itself, but for the output projection's bias."""
    adapter = adapter_of(make())
    tokens = adapter.embed(pictures(adapter, 1))
    for block in adapter.blocks:
        recorder = Recorder(steps=True)
        block.run(tokens, recorder)
        k, v = block.keys_values(block.norm("attention")(tokens)[0])
        shape = adapter.shape
        assert k.shape == v.shape == (shape.num_heads, tokens.shape[1], shape.head_dim)
        part, own = block.linear("proj"), recorder.seen["attention"][1]
        assert part is not None
        assert torch.allclose(block.attend(tokens, k, v) + part.module.bias, own, atol=1e-5)


@every_model
@torch.no_grad()
def test_prefix_tokens_come_before_a_grid_row_by_row(make: Maker) -> None:
    """Changing one pixel changes one token before the blocks: that of its patch."""
    adapter = adapter_of(make())
    (rows, columns), shape = adapter.shape.grid, adapter.shape
    images = pictures(adapter, 1)
    tokens = adapter.embed(images)
    assert tokens.shape == (1, adapter.num_prefix_tokens + rows * columns, shape.dim)
    size = adapter.image_size
    for row, column in ((0, 0), (0, columns - 1), (rows - 1, 0), (1, 2)):
        changed = images.clone()
        changed[..., row * size // rows, column * size // columns] += 1
        differs = (adapter.embed(changed) != tokens).any(dim=-1)[0]
        assert differs.nonzero().flatten().tolist() == [adapter.num_prefix_tokens + row * columns + column]


@every_model
def test_shape_says_what_there_is(make: Maker) -> None:
    model = make()
    adapter = adapter_of(model)
    assert adapter.shape.depth == len(adapter.blocks)
    named = [(n, p) for n, p in model.named_parameters() if not n.startswith(adapter.head)]
    assert adapter.shape.parameters == sum(p.numel() for _, p in named)


@every_model
@torch.no_grad()
def test_a_design_without_tuners_is_the_bare_model(make: Maker) -> None:
    model = make()
    empty = tuned(model)
    images = pictures(empty.adapter)
    assert torch.equal(empty(images), empty.head(model(images)))


@every_model
@torch.no_grad()
def test_the_adapter_changes_nothing(make: Maker) -> None:
    model = make()
    model.requires_grad_(True)
    before, modules = snapshot(model), [(n, id(m), m.training) for n, m in model.named_modules()]
    adapter = adapter_of(model)
    assert not any(isinstance(part, nn.Module) for part in (adapter, *adapter.blocks))
    assert adapter.model is model
    tokens = adapter.run(adapter.embed(pictures(adapter)), 0, len(adapter.blocks))
    adapter.pool(adapter.blocks[0].run(tokens, Recorder(steps=True)))
    assert same_snapshot(snapshot(model), before)
    assert [(n, id(m), m.training) for n, m in model.named_modules()] == modules


@every_model
@torch.no_grad()
def test_plain_matmuls_compute_the_same(make: Maker) -> None:
    model = make().double()
    plain = copy.deepcopy(model)
    adapter_of(plain).unfuse_attention()
    images = pictures(adapter_of(model)).double()
    assert torch.allclose(plain(images), model(images), rtol=0, atol=1e-10)
    names = dict(plain.named_parameters())
    assert all(torch.equal(p, names[n]) for n, p in model.named_parameters())


@every_family
@torch.no_grad()
def test_a_copy_of_a_tuned_model_runs_on_its_own_backbone(make: Maker) -> None:
    model = tuned(make(), Placement("mlp", AdapterConfig(2)), random=True)
    images = pictures(model.adapter)
    before = model(images)
    twin = copy.deepcopy(model)
    assert twin.adapter.model is twin.backbone is not model.backbone
    assert torch.equal(twin(images), before)
    for parameter in twin.backbone.parameters():
        parameter.zero_()
    assert not torch.allclose(twin(images), before)
    assert torch.equal(model(images), before)


@every_family
def test_tuners_of_every_kind_run_train_and_merge(make: Maker) -> None:
    """LoRA at each linear map folds away; what reads or joins the attention stays, and the function with it."""
    backbone = make().double()
    adapter = adapter_of(backbone)
    linear = [o for o in LINEAR_OPERATIONS if o in adapter.operations]
    loras = [Placement(o, LoraConfig(2), f) for o in linear for f in ("parallel", "sequential")]
    others = [
        Placement("attention", PrefixConfig(2, "exact")),
        Placement("attention", PrefixConfig(2, "parallel")),
        Placement("block", PromptConfig(2, "deep")),
        Placement("block", PromptConfig(2, "parallel")),
        Placement("mlp", AdapterConfig(2), "mixed"),
    ]
    images = pictures(adapter).double()
    for placements, left in ((loras, False), ((*loras, *others), True)):
        model = tuned(backbone, *placements, random=True, double=True)
        logits = model(images)
        logits.square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in model.tuners.parameters())
        assert all(p.grad is None for p in backbone.parameters())
        merged = merge(model)
        assert (len(merged.tuners) > 0) == left
        with torch.no_grad():
            assert torch.allclose(merged(images), logits, rtol=0, atol=1e-9)


def test_an_operation_that_the_family_has_not_is_refused() -> None:
    with pytest.raises(BackboneError, match="a toy has the operation of each placement; got 'qkv'"):
        tuned(Toy(), Placement("qkv", LoraConfig(1)))


def test_why_a_model_of_a_family_is_refused_comes_from_the_family() -> None:
    with pytest.raises(BackboneError, match=r"^backbone 'Toy': a toy has blocks; got none"):
        adapter_of(Toy(depth=0))
    with pytest.raises(BackboneError, match=r"^backbone 'mine': the model is a timm VisionTransformer; got Linear"):
        adapter_of(nn.Linear(2, 2), "mine")


@every_family
def test_blocks_of_several_widths_are_refused(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes are told from one block's widths, so another block must not have others."""
    model = make()
    adapter = adapter_of(model)
    last: Any = adapter.blocks[-1].linear("fc2")
    monkeypatch.setattr(last.module, "in_features", 7)
    with pytest.raises(BackboneError, match=rf"block {len(adapter.blocks)}: all blocks are of one width, .* at fc2"):
        tuned(model, Placement("mlp", AdapterConfig(1)))


def test_the_toy_is_no_copy_of_ours() -> None:
    """It keeps its parts under names of its own, so that whoever knows ours by name fails on it."""
    ours = {n.rpartition(".")[2] for n, _ in tiny_vit().named_modules()}
    assert not ours & {n for n, _ in ToyLayer().named_modules() if n}
    assert tuned(Toy(), random=True)(torch.zeros(1, 1, 8, 8)).shape == (1, CLASSES)
    assert Design().num_parameters(adapter_of(Toy()).shape, CLASSES) == CLASSES * (12 + 1)
