"""NaFlexVit: images are of the size that its configuration says."""

from typing import Any

import pytest
import torch

from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.supported import check_supported
from utuning_search.common.errors import BackboneError, InputError

from .variants import NAFLEX_MODELS, naflex, tiny

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no pooling": ({"global_pool": ""}, "the model pools its tokens; got no pooling"),
    "eva's blocks": ({"rope_type": "axial"}, "block 1: a pre-norm Block .*; got EvaBlock with AttentionRope and Mlp"),
    "patch dropout": ({"patch_drop_rate": 0.5}, "all patches are there in training; got patch dropout"),
}


@pytest.mark.parametrize(("settings", "rule"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(BackboneError, match=f"^backbone 'mine'.*{rule}"):
        adapter_of(tiny(naflex, **settings), "mine")


def test_published_names_at_other_sizes() -> None:
    """timm ignores an img_size there."""
    name = "naflexvit_base_patch16_gap"
    assert check_supported(name, None) == {}
    assert check_supported(name, 96) == {"pretrained_cfg_overlay": {"input_size": (3, 96, 96)}}
    with pytest.raises(InputError, match=r"image_size is a multiple of its patches, 16; got 100\. Take 96 or 112"):
        check_supported(name, 100)


def test_images_of_another_size_are_refused() -> None:
    """timm resamples places for them; the configuration says another size."""
    with pytest.raises(BackboneError, match="images are of 8 pixels; got 12x12"):
        adapter_of(NAFLEX_MODELS["naflex"]()).embed(torch.zeros(1, 3, 12, 12))
