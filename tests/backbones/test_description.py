"""What is said of a backbone: the numbers of the loaded one, and which tuners it leaves out."""

import pytest

from utuning_search.backbones import description
from utuning_search.backbones.description import describe
from utuning_search.backbones.loading import load_backbone
from utuning_search.backbones.registry import adapter_of
from utuning_search.tuners import OPERATIONS, TUNERS, Operation

from ..helpers import CORNERS


def test_the_numbers_are_those_of_the_loaded_model() -> None:
    adapter, found = adapter_of(load_backbone("glyph_vit")), describe("glyph_vit")
    assert found.shape == adapter.shape
    assert found.tokens == 17
    assert found.architecture == ""


def test_nothing_of_a_large_model_is_made() -> None:
    found = describe("vit_giant_patch14_dinov2", 224)
    assert found.shape.parameters > 1e9
    assert found.class_name == "VisionTransformer"


def test_a_tuner_is_left_out_where_all_its_operations_are_missing() -> None:
    some: tuple[Operation, ...] = ("block", "qkv")
    found = description._family("a toy", some)
    assert {"lora", "bias"} <= found.tuners.keys()
    assert found.tuners["lora"] == ("qkv",)
    assert found.tuners["prompt"] == ("block",)
    assert found.left_out["norm"] == "it is placed at attention, mlp, which its blocks lack"
    assert found.tuners.keys() | found.left_out.keys() == set(TUNERS)


@pytest.mark.parametrize("kind", TUNERS)
def test_what_is_said_to_be_legal_is_legal(kind: str) -> None:
    """Of all its readings together."""
    configs = [TUNERS[kind](**options) for options in CORNERS.get(kind, ({},))]
    legal = {operation for config in configs for operation in config.operations}
    assert set(description._family("all", OPERATIONS).tuners[kind]) == legal
