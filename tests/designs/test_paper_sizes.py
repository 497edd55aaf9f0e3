"""Closed-form sizes on ViT-B/16 against what the papers print, and against built modules."""

import math

import pytest
import timm
import torch

from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design
from utuning_search.designs.paper_sizes import FGVC, PAPER_SIZES, VIT_B, VTAB, PrintedSize
from utuning_search.designs.presets import PRESETS, Preset, preset
from utuning_search.tuners import BackboneShape

from ..helpers import CLASSES, shape_of, tiny_vit

CIFAR = 100


@pytest.fixture(scope="module")
def vit_b() -> BackboneShape:
    """ViT-B/16, no memory spent."""
    with torch.device("meta"):
        return shape_of(timm.create_model("vit_base_patch16_224", pretrained=False, num_classes=0))


def test_shape_of_vit_b(vit_b: BackboneShape) -> None:
    assert vit_b == VIT_B


@pytest.mark.parametrize("row", PAPER_SIZES, ids=[f"{p.preset} {p.printed}" for p in PAPER_SIZES])
def test_sizes_are_the_printed_ones(row: PrintedSize) -> None:
    """To the digits printed; where a table contradicts itself or another one, the row says so."""
    assert (row.rounded == row.printed) != bool(row.remark)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("linear-probe", 76_900),
        ("prefix", 261_220),
        ("vpt-shallow", 84_580),
        ("vpt-deep", 169_060),
        ("adapter", 270_556),
        ("u-tuning-1", 109_176),
        ("u-tuning-dual", 482_644),  # with channel scales
        ("u-tuning-tri", 666_964),
    ],
)
def test_cifar_sizes_by_hand(name: str, count: int) -> None:
    assert Design.preset(name).num_parameters(VIT_B, CIFAR) == count


def test_printed_sizes_that_are_cut() -> None:
    """Two rows of U-Tuning's table drop digits where the others round."""
    for name, printed in (("linear-probe", 0.07), ("adaptformer", 1.26)):
        assert math.floor(Design.preset(name).num_parameters(VIT_B, CIFAR) / 1e4) / 100 == printed


@pytest.mark.parametrize(("classes", "printed"), [(VTAB, "0.33"), (FGVC, "0.47")])
def test_rlrr_is_as_printed_with_the_shifts_of_keys(classes: float, printed: str) -> None:
    row = PrintedSize("rlrr", printed, classes, "its paper")
    assert f"{(row.computed + 12 * 768) / 1e6:.2f}" == printed


def test_dual_without_scales() -> None:
    assert Design.preset("u-tuning-dual", scale="none").num_parameters(VIT_B, CIFAR) == 464_212


def test_lora_on_all_linear_maps() -> None:
    assert Design.preset("lora-all", rank=4).num_parameters(VIT_B) == 12 * 4 * (4 + 2 + 5 + 5) * 768


def test_sas_is_as_small_as_its_paper_says() -> None:
    """Less than .05% of ViT-B: what all blocks share counts once, and each of the 24 norms has an embedding."""
    shared = 2 * 4 * 768 + 4 * 2 * 4 * 768  # a low-rank pair, and the hypernetwork of another
    assert Design.preset("sas").num_parameters(VIT_B) == shared + 24 * 4 == 30_816
    assert Design.preset("sas").num_parameters(VIT_B) / VIT_B.parameters < 0.0005


def test_what_lies_outside_the_blocks_counts_once() -> None:
    for name, vectors in (("bitfit", 2), ("ssf", 4), ("ln-tuning", 2)):
        inside, whole = (Design.preset(name, ends=e).num_parameters(VIT_B) for e in (False, True))
        assert whole - inside == vectors * 768, name


@pytest.mark.parametrize("item", PRESETS, ids=[p.name for p in PRESETS])
@pytest.mark.parametrize("size", [None, 1, 3])
def test_presets_are_the_size_they_say(item: Preset, size: int | None) -> None:
    sizes = {k: size for k, v in item.options.items() if type(v) is int} if size is not None else {}
    backbone, design = tiny_vit(), Design.preset(item.name, **sizes)
    counted = sum(p.numel() for p in TunedModel(backbone, design, CLASSES).parameters_trained())
    assert counted == design.num_parameters(shape_of(backbone), CLASSES)
    assert item.title
    assert bool(item.references) == bool(design.placements)


def test_there_are_at_least_twenty_presets() -> None:
    assert len({Design.preset(p.name).key for p in PRESETS}) >= 20, "distinct designs"


def test_preset_names_are_distinct() -> None:
    assert len({p.name for p in PRESETS}) == len({p.title for p in PRESETS}) == len(PRESETS)


def test_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"got 'vpt-dep'\. Did you mean 'vpt-deep'\?"):
        preset("vpt-dep")


@pytest.mark.parametrize("size", [0, -1, 10**6])
def test_preset_of_an_illegal_size_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"rank is an integer from 1 to 4096; got {size}"):
        Design.preset("adapter", rank=size)
