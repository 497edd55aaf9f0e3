"""Every registered backbone family meets the contract, and so does one from outside."""

import pytest
import torch
from timm.models.beit import Beit
from timm.models.eva import Eva
from torch import nn

from utuning_search.backbones import registry
from utuning_search.backbones.beit import BeitAdapter
from utuning_search.backbones.convnext import ConvNextAdapter
from utuning_search.backbones.eva import EvaAdapter
from utuning_search.backbones.hiera import HieraAdapter
from utuning_search.backbones.metaformer import MetaFormerAdapter
from utuning_search.backbones.mvitv2 import MultiScaleVitAdapter
from utuning_search.backbones.naflexvit import NaFlexVitAdapter
from utuning_search.backbones.parallel import ParallelVitAdapter, SummedVitAdapter
from utuning_search.backbones.qwen3 import Qwen3Adapter
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.relpos import RelPosAdapter
from utuning_search.backbones.swin import SwinAdapter
from utuning_search.backbones.swin_v2 import SwinV2Adapter
from utuning_search.backbones.swin_v2_cr import SwinV2CrAdapter
from utuning_search.backbones.vit import VisionTransformerAdapter
from utuning_search.backbones.xcit import XcitAdapter
from utuning_search.common.errors import BackboneError
from utuning_search.designs.design import Design, Placement
from utuning_search.testing import BackboneContract
from utuning_search.tuners import LoraConfig

from ..helpers import CLASSES, randomise, tiny_vit, tuned
from .staged import (
    FORMER_MODELS,
    HIERA_MODELS,
    MVIT_MODELS,
    NEXT_MODELS,
    SWIN_MODELS,
    SWIN_V2_CR_MODELS,
    SWIN_V2_MODELS,
    XCIT_MODELS,
)
from .toy_family import Toy, ToyAdapter, ToyLayer
from .variants import (
    BEITS,
    EVAS,
    NAFLEX_MODELS,
    PARALLEL_MODELS,
    QWEN_MODELS,
    RELPOS_MODELS,
    SUMMED_MODELS,
    VARIANTS,
    makers,
)


@pytest.fixture(autouse=True)
def _with_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FAMILIES", {**registry.FAMILIES, ToyAdapter.named: ToyAdapter})


class TestVisionTransformer(BackboneContract):
    adapter = VisionTransformerAdapter
    models = {name: lambda s=s: tiny_vit(**s) for name, s in VARIANTS.items()}  # noqa: RUF012  # ours to set


class TestEva(BackboneContract):
    adapter = EvaAdapter
    models = makers(Eva, EVAS)


class TestBeit(BackboneContract):
    adapter = BeitAdapter
    models = makers(Beit, BEITS)


class TestSwin(BackboneContract):
    adapter = SwinAdapter
    models = SWIN_MODELS
    reorders = True


class TestSwinV2(BackboneContract):
    adapter = SwinV2Adapter
    models = SWIN_V2_MODELS
    reorders = True


class TestSwinV2Cr(BackboneContract):
    adapter = SwinV2CrAdapter
    models = SWIN_V2_CR_MODELS
    reorders = True
    plain_residuals = False


class TestConvNext(BackboneContract):
    adapter = ConvNextAdapter
    models = NEXT_MODELS
    plain_residuals = False
    overlaps = True


class TestMetaFormer(BackboneContract):
    adapter = MetaFormerAdapter
    models = FORMER_MODELS
    plain_residuals = False
    overlaps = True


class TestXcit(BackboneContract):
    adapter = XcitAdapter
    models = XCIT_MODELS
    plain_residuals = False
    overlaps = True


@pytest.mark.skipif(not QWEN_MODELS, reason="this timm has no such models")
class TestQwen3(BackboneContract):
    adapter = Qwen3Adapter
    placeless = False
    models = QWEN_MODELS or {"none": nn.Identity}


class TestNaFlexVit(BackboneContract):
    adapter = NaFlexVitAdapter
    models = NAFLEX_MODELS


class TestRelPos(BackboneContract):
    adapter = RelPosAdapter
    models = RELPOS_MODELS


class TestParallelVit(BackboneContract):
    adapter = ParallelVitAdapter
    models = PARALLEL_MODELS
    plain_residuals = False


class TestSummedVit(BackboneContract):
    adapter = SummedVitAdapter
    models = SUMMED_MODELS
    plain_residuals = False
    placeless = False


class TestHiera(BackboneContract):
    adapter = HieraAdapter
    models = HIERA_MODELS
    reorders = True
    overlaps = True


class TestMultiScaleVit(BackboneContract):
    adapter = MultiScaleVitAdapter
    models = MVIT_MODELS
    overlaps = True


class TestToy(BackboneContract):
    adapter = ToyAdapter
    models = {"toy": lambda: randomise(Toy(), seed=1, std=0.1).eval()}  # noqa: RUF012  # likewise


def test_every_registered_family_has_a_contract() -> None:
    assert {cls.adapter for cls in BackboneContract.__subclasses__()} == set(registry.FAMILIES.values())


def test_an_operation_that_the_family_has_not_is_refused() -> None:
    with pytest.raises(BackboneError, match="a toy has the operation of each placement; got 'qkv'"):
        tuned(Toy(), Placement("qkv", LoraConfig(1)))


def test_why_a_model_of_a_family_is_refused_comes_from_the_family() -> None:
    with pytest.raises(BackboneError, match=r"^backbone 'Toy': a toy has blocks; got none"):
        adapter_of(Toy(depth=0))
    rule = r"^backbone 'mine': the model is a timm VisionTransformer or .* or a toy; got Linear"
    with pytest.raises(BackboneError, match=rule):
        adapter_of(nn.Linear(2, 2), "mine")


def test_the_toy_is_no_copy_of_ours() -> None:
    """It keeps its parts under names of its own, so that whoever knows ours by name fails on it."""
    ours = {n.rpartition(".")[2] for n, _ in tiny_vit().named_modules()}
    assert not ours & {n for n, _ in ToyLayer().named_modules() if n}
    assert tuned(Toy(), random=True)(torch.zeros(1, 1, 8, 8)).shape == (1, CLASSES)
    assert Design().num_parameters(adapter_of(Toy()).shape, CLASSES) == CLASSES * (12 + 1)
