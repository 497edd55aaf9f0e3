"""Closed-form sizes on ViT-B/16 against what the papers print, and against built modules."""

import math

import pytest
import timm
import torch

from utuning_search.backbone import shape_of
from utuning_search.design import Design, Placement
from utuning_search.errors import InputError
from utuning_search.insertion import TunedModel
from utuning_search.presets import PRESETS, Preset, preset
from utuning_search.tuners import AdapterConfig, BackboneShape

from .helpers import CLASSES, tiny_vit

CIFAR = 100


@pytest.fixture(scope="module")
def vit_b() -> BackboneShape:
    """ViT-B/16, no memory spent."""
    with torch.device("meta"):
        return shape_of(timm.create_model("vit_base_patch16_224", pretrained=False, num_classes=0))


def test_shape_of_vit_b(vit_b: BackboneShape) -> None:
    assert vit_b == BackboneShape(
        dim=768, depth=12, num_heads=12, head_dim=64, hidden=3072, hidden_in=3072, parameters=85_798_656
    )


@pytest.mark.parametrize(
    ("name", "count", "printed"),
    [
        ("linear-probe", 76_900, ".08"),  # the paper cuts: see below
        ("prefix", 261_220, ".26"),
        ("vpt-shallow", 84_580, ".08"),
        ("vpt-deep", 169_060, ".17"),
        ("adapter", 270_556, ".27"),
        ("u-tuning-1", 109_176, ".11"),
        ("u-tuning-dual", 482_644, ".48"),  # with channel scales, as Res-Tuning prints the same structure
        ("u-tuning-tri", 666_964, ".67"),
    ],
)
def test_cifar_sizes_are_the_printed_ones(name: str, count: int, printed: str, vit_b: BackboneShape) -> None:
    size = preset(name).design().num_parameters(vit_b, CIFAR)
    assert size == count
    assert f"{size / 1e6:.2f}".lstrip("0") == printed


def test_linear_probe_is_printed_cut(vit_b: BackboneShape) -> None:
    assert math.floor(Design().num_parameters(vit_b, CIFAR) / 1e4) / 100 == 0.07


def test_dual_without_scales(vit_b: BackboneShape) -> None:
    dual = Design((Placement("attention", AdapterConfig(10)), Placement("mlp", AdapterConfig(10))))
    assert dual.num_parameters(vit_b, CIFAR) == 464_212


def test_fgvc_dual_of_rank_4(vit_b: BackboneShape) -> None:
    """.36 M with the mean head of .18 M."""
    size = preset("u-tuning-dual").design(4).num_parameters(vit_b) + 180_000
    assert f"{size / 1e6:.2f}" == "0.36"


def test_lora_on_qkv(vit_b: BackboneShape) -> None:
    assert preset("lora").design(8).num_parameters(vit_b) == 12 * 8 * (768 + 3 * 768)


@pytest.mark.parametrize("item", PRESETS, ids=[p.name for p in PRESETS])
@pytest.mark.parametrize("size", [None, 1, 3])
def test_presets_are_the_size_they_say(item: Preset, size: int | None) -> None:
    known = preset(item.name)
    if size is not None and known.size is None:
        with pytest.raises(InputError, match=f"preset '{known.name}': this method has no size; got {size}"):
            known.design(size)
        return
    backbone = tiny_vit()
    model = TunedModel(backbone, known.design(size), CLASSES)
    counted = sum(p.numel() for p in model.parameters_trained())
    assert counted == known.design(size).num_parameters(shape_of(backbone), CLASSES)
    assert known.title
    assert bool(known.references) == bool(known.design(size).placements)


def test_preset_names_are_distinct() -> None:
    assert len({p.name for p in PRESETS}) == len({p.title for p in PRESETS}) == len(PRESETS)


def test_unknown_preset_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"got 'vpt-dep'\. Did you mean 'vpt-deep'\?"):
        preset("vpt-dep")


@pytest.mark.parametrize("size", [0, -1, 10**6])
def test_preset_of_an_illegal_size_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"rank is an integer from 1 to 4096; got {size}"):
        preset("adapter").design(size)
