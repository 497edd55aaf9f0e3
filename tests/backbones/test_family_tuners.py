"""What tuners promise holds in families other than VisionTransformer: at every operation, in every form."""

import copy
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn

from utuning_search.backbones.family import BackboneAdapter
from utuning_search.backbones.merge import merge
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import BackboneError
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.flops import num_flops
from utuning_search.designs.legality import misplaced
from utuning_search.designs.mergeability import staying
from utuning_search.designs.presets import PRESETS
from utuning_search.results.exports.program import traced
from utuning_search.testing.backbones import pictures
from utuning_search.tuners import LoraConfig, NormConfig, Operation, PrefixConfig, PromptConfig

from ..designs.test_flops import counted
from ..helpers import CASES, CLASSES, randomise, same_snapshot, snapshot, tuned
from .staged import STAGED
from .test_tuned_model import EVERYTHING
from .variants import FAMILIES as PLAIN
from .variants import QWEN_MODELS, VIT_MODELS

Maker = Callable[[], nn.Module]
FAMILIES: dict[str, Maker] = {**PLAIN, **VIT_MODELS, **QWEN_MODELS, **STAGED}
every_family = pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES.keys())
PARTS = ("beit, both biases", "eva-02", "dinov3", "mixed rope", "sapiens2")  # blocks of the most parts
RICHEST = [name for name in PARTS if name in FAMILIES]
FILLED, FILLED_CR = "swin v2, windows to fill up", "swin v2 cr, windows to fill up"
EACH = [
    "parallel",
    "summed, differential",
    "differential",
    *RICHEST,
    "swin, windows to fill up",
    FILLED if FILLED in FAMILIES else "swin v2, shifted windows",  # older versions of timm cannot make it
    "convnext v2, convolutions",
    "caformer",
    "xcit",
    "eva, norms last",
    "naflex, another grid",
    FILLED_CR if FILLED_CR in FAMILIES else "swin v2 cr, shifted windows",
    "hiera",
    "relpos, norms last",
    "mvitv2, class token",
]
LINEAR: tuple[Operation, ...] = ("qkv", "q", "v", "proj", "fc1", "fc2")
HALVES: tuple[Operation, ...] = ("attention", "mlp")
KINDS = tuple(dict.fromkeys(c.placement.tuner.kind for c in CASES))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [FAMILIES[n] for n in EACH], ids=EACH)
def test_each_tuner_at_each_operation_in_each_form(make: Maker, kind: str) -> None:
    """Sizes, starts, gradients, merging and detaching are those that its config claims."""
    backbone = make()
    double, before = copy.deepcopy(backbone).double(), snapshot(backbone)
    adapter = adapter_of(backbone)
    images = pictures(adapter, 2)
    with torch.no_grad():
        bare = backbone(images)
    placements = carried(adapter, (c.placement for c in CASES if c.placement.tuner.kind == kind))
    for placement in placements:
        design = Design((placement,))
        fresh = tuned(backbone, placement)
        assert sum(p.numel() for p in fresh.tuners.parameters()) == design.num_parameters(adapter.shape), placement
        with torch.no_grad():
            assert torch.equal(fresh(images), fresh.head(bare)) == design.starts_as_backbone, placement
        _check_trained(double, placement, images.double())
        assert fresh.detach() is backbone
    assert not placements or all(not p.requires_grad for p in double.parameters())
    assert same_snapshot(snapshot(backbone), before)


def carried(adapter: BackboneAdapter, placements: Iterable[Placement]) -> tuple[Placement, ...]:
    """Those that a backbone can carry; the others are refused."""
    found = {p: misplaced(Design((p,)), adapter.shape) is None for p in placements}
    for placement in [p for p, fits in found.items() if not fits]:
        with pytest.raises(BackboneError):
            tuned(adapter.model, placement)
    return tuple(p for p, fits in found.items() if fits)


def _check_trained(backbone: nn.Module, placement: Placement, images: Tensor) -> None:
    """Gradients reach every parameter of a tuner that acts as a trained one, and merging keeps the function."""
    for seed in range(2, 7):
        model = tuned(backbone, placement, double=True)
        randomise(model.tuners, seed)
        logits = model(images)
        logits.square().sum().backward()
        reached = all(p.grad is not None and bool(p.grad.any()) for p in model.tuners.parameters())
        if reached or placement.tuner.options().get("activation") != "relu":
            break  # by chance all ReLUs of a block may be shut
    assert reached, placement
    merged = merge(model)
    with torch.no_grad():
        assert torch.allclose(merged(images), logits, rtol=0, atol=1e-9), placement
    assert (len(merged.tuners) > 0) == bool(staying(model.design, model.adapter.shape)), placement


@every_family
def test_everything_at_once_starts_trains_and_merges(make: Maker) -> None:
    """All that can meet in one model; and with plain matmuls it is the same function."""
    backbone = make()
    images = pictures(adapter_of(backbone))
    everything = carried(adapter_of(backbone), EVERYTHING)
    model = tuned(backbone, *(p for p in everything if Design((p,)).starts_as_backbone))
    with torch.no_grad():
        assert torch.equal(model(images), model.head(backbone(images)))
    model = tuned(backbone.double(), *everything, random=True, double=True)
    logits = model(images.double())
    logits.square().sum().backward()
    assert all(p.grad is not None for p in model.tuners.parameters())
    assert all(p.grad is None for p in backbone.parameters())
    merged = merge(model)
    with torch.no_grad():
        assert torch.allclose(merged(images.double()), logits, rtol=0, atol=1e-9)
        merged.adapter.unfuse_attention()
        assert torch.allclose(merged(images.double()), logits, rtol=0, atol=1e-9)


@every_family
def test_what_folds_leaves_a_plain_model_of_timm(make: Maker) -> None:
    """A fresh model takes the tensors of a merged one, and computes the same."""
    linear = [Placement(o, LoraConfig(2)) for o in LINEAR]
    norms = [Placement(o, NormConfig()) for o in HALVES]
    backbone = make().double()
    folding = carried(adapter_of(backbone), [*linear, *norms])
    model = tuned(backbone, *folding, random=True, double=True)
    images = pictures(model.adapter).double()
    merged, fresh = merge(model), make().double()
    assert len(merged.tuners) == 0
    state, own = merged.adapter.plain_state(), fresh.state_dict()
    state = {n: t for n, t in state.items() if n in own or t.any()}  # timm is told where there are biases
    assert own.keys() == state.keys()
    fresh.load_state_dict(state)
    with torch.no_grad():
        assert torch.allclose(model.head(fresh(images)), model(images), rtol=0, atol=1e-9)


@every_family
def test_flops_are_counted_flops(make: Maker) -> None:
    """Of the bare model, of all that can meet in it, and of what folds."""
    backbone = make()
    everything = carried(adapter_of(backbone), EVERYTHING)
    folding = tuple(p for p in everything if p.tuner.mergeable)
    for placements, fused in (((), True), (everything, True), (folding, False)):
        merged = merge(TunedModel(backbone, Design(placements), CLASSES).eval())
        adapter = merged.adapter
        if not fused and adapter.shape.softmaxes == 1:  # plain matmuls mix the values of two softmaxes once
            adapter.unfuse_attention()
        expected = num_flops(Design(placements), adapter.shape, CLASSES)
        assert counted(merged, adapter.channels, adapter.image_size) == expected


@every_family
def test_presets_run(make: Maker) -> None:
    backbone = make()
    images = pictures(adapter_of(backbone), 1)
    for preset in PRESETS:
        if misplaced(Design.preset(preset.name), adapter_of(backbone).shape) is not None:
            continue
        model = tuned(backbone, *Design.preset(preset.name).placements)
        assert sum(p.numel() for p in model.tuners.parameters()) == model.design.num_parameters(model.adapter.shape)
        with torch.no_grad():
            assert model(images).isfinite().all(), preset.name


@pytest.mark.parametrize("make", [FAMILIES[n] for n in EACH], ids=EACH)
@torch.no_grad()
def test_programs_take_batches_of_any_size(make: Maker) -> None:
    """Of a design whose tokens and keys join, where they can, for the formats torch and onnx."""
    backbone = make()
    joining = [Placement("block", PromptConfig(2, "deep")), Placement("attention", PrefixConfig(2, "exact"))]
    linear = [Placement(o, LoraConfig(2)) for o in ("qkv", "fc2")]
    placements = carried(adapter_of(backbone), [*joining, *linear])
    model = tuned(backbone, *placements, random=True).requires_grad_(False)
    images = pictures(model.adapter)
    program = traced(model, images)
    assert torch.allclose(program.module()(images), model(images), rtol=0, atol=1e-5)
