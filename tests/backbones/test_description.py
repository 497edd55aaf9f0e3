"""What is said of a backbone: the numbers of the loaded one, and which tuners it leaves out."""

from dataclasses import replace

import pytest

from utuning_search.backbones import description
from utuning_search.backbones.description import describe
from utuning_search.backbones.loading import load_backbone
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.vit import VisionTransformerAdapter
from utuning_search.designs.paper_sizes import VIT_B as SHAPE
from utuning_search.tuners import OPERATIONS, TUNERS

from ..helpers import CORNERS


def test_the_numbers_are_those_of_the_loaded_model() -> None:
    adapter, found = adapter_of(load_backbone("glyph_vit")), describe("glyph_vit")
    assert found.shape == adapter.shape
    assert found.tokens == 17
    assert found.architecture == ""


def test_operations_that_a_family_lacks_have_a_reason() -> None:
    found = describe("hiera_tiny_224")
    why = "in some blocks they give wider or fewer tokens than they read"
    assert found.family.lacks == {"block": why, "mhsa": why}
    assert {"attention", "qkv", "norm1", "mlp"} <= set(found.family.operations)
    assert describe("glyph_vit").family.lacks == {}


def test_nothing_of_a_large_model_is_made() -> None:
    found = describe("vit_giant_patch14_dinov2", 224)
    assert found.shape.parameters > 1e9
    assert found.class_name == "VisionTransformer"


def test_a_tuner_is_left_out_where_all_its_operations_are_missing() -> None:
    shape = replace(SHAPE, lacks=tuple(o for o in OPERATIONS if o not in ("block", "qkv")))
    found = description._family(VisionTransformerAdapter, shape)
    assert {"lora", "bias"} <= found.tuners.keys()
    assert found.tuners["lora"] == ("qkv",)
    assert found.tuners["prompt"] == ("block",)
    assert found.left_out["norm"] == "it is placed at attention, mlp, which its blocks lack"
    assert set(found.left_out) == {*TUNERS} - found.tuners.keys() | {"exact prefix", "gated prefix"}


@pytest.mark.parametrize("kind", TUNERS)
def test_what_is_said_to_be_legal_is_legal(kind: str) -> None:
    """Of all its readings together."""
    configs = [TUNERS[kind](**options) for options in CORNERS.get(kind, ({},))]
    legal = {operation for config in configs for operation in config.operations}
    assert set(description._family(VisionTransformerAdapter, SHAPE).tuners[kind]) == legal


def test_readings_that_a_backbone_cannot_carry_are_left_out_with_the_reason() -> None:
    found = describe("swin_tiny_patch4_window7_224").family
    assert set(found.left_out) == {"exact prefix", "gated prefix", "deep prompt", "shallow prompt", "bypass"}
    assert found.tuners["prefix"] == ("attention", "mlp", "block")
    assert found.left_out["deep prompt"].startswith("its tokens would join the sequence")
    rms = description._family(VisionTransformerAdapter, replace(SHAPE, plain_norms=False))
    assert rms.left_out == {"norm": "it changes LayerNorms with weight and bias, and not all norms are"}
    assert all(not family.left_out for family in description.families()[:3])
