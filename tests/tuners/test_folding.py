"""What folds beside two others, or on backbones where more than one map reads a norm; pairs are the contract's."""

import pytest
import torch
from torch import Tensor

from utuning_search.backbones.merge import merge
from utuning_search.designs.design import Placement
from utuning_search.designs.mergeability import unmerged
from utuning_search.tuners import AdapterConfig, DoraConfig, LoraConfig, RepAdapterConfig, ScaleShiftConfig

from ..backbones.variants import VARIANTS
from ..helpers import shape_of, tiny_vit, tuned

REPADAPTERS = tuple(Placement(at, RepAdapterConfig(4)) for at in ("norm1", "norm2"))
TOGETHER = {
    "a weight is read as it was": (
        Placement("q", DoraConfig(2)),
        Placement("qkv", LoraConfig(2)),
        Placement("q", AdapterConfig(2), "sequential"),
    ),
    "a weight is read before others are added to it": (
        Placement("q", DoraConfig(2)),
        Placement("q", LoraConfig(2)),
        Placement("v", DoraConfig(1)),
    ),
    "what folds behind a norm comes after what is added to the maps": (
        *REPADAPTERS,
        Placement("qkv", LoraConfig(2), "mixed"),
        Placement("fc1", DoraConfig(2)),
        Placement("norm2", ScaleShiftConfig()),
    ),
    "normed tokens are read by what stays": (*REPADAPTERS, Placement("mhsa", AdapterConfig(2))),
}


@pytest.mark.parametrize("placements", TOGETHER.values(), ids=TOGETHER.keys())
def test_merging_keeps_the_function(placements: tuple[Placement, ...], images: Tensor) -> None:
    model = tuned(tiny_vit(global_pool="avg").double(), *placements, random=True, double=True)
    with torch.no_grad():
        assert (merge(model)(images.double()) - model(images.double())).abs().max() < 1e-9


def test_what_stays_is_known() -> None:
    shape = shape_of(tiny_vit())
    weights = tuple(p.resolve(2) for p in TOGETHER["a weight is read as it was"])
    assert unmerged(weights, shape) == weights
    assert unmerged([p.resolve(2) for p in TOGETHER["a weight is read before others are added to it"]], shape) == ()
    assert unmerged([p.resolve(2) for p in REPADAPTERS], shape) == ()
    read = tuple(p.resolve(2) for p in TOGETHER["normed tokens are read by what stays"])
    assert unmerged(read, shape) == (read[0], read[2])


@pytest.mark.skipif("gated attention" not in VARIANTS, reason="this timm has no gated attention")
def test_where_a_gate_reads_the_norm_nothing_folds_behind_it(images: Tensor) -> None:
    backbone = tiny_vit(**VARIANTS["gated attention"], global_pool="avg").double()
    model = tuned(backbone, *REPADAPTERS, random=True, double=True)
    with torch.no_grad():
        assert (merge(model)(images.double()) - model(images.double())).abs().max() < 1e-9
    kept = unmerged([p.resolve(2) for p in REPADAPTERS], shape_of(backbone))
    assert [p.operation for p in kept] == ["norm1"]
