"""VisionTransformerRelPos: what is refused, and what is dropped in training."""

from typing import Any

import pytest
import torch
from timm.models.vision_transformer_relpos import VisionTransformerRelPos

from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.supported import check_supported
from utuning_search.common.errors import BackboneError
from utuning_search.designs.design import Placement
from utuning_search.testing.backbones import pictures
from utuning_search.tuners import AdapterConfig, LoraConfig

from ..helpers import tuned
from .variants import tiny

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no pooling": ({"global_pool": ""}, "the model pools its tokens; got no pooling"),
}


@pytest.mark.parametrize(("settings", "rule"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(BackboneError, match=f"^backbone 'mine'.*{rule}"):
        adapter_of(tiny(VisionTransformerRelPos, **settings), "mine")


@pytest.mark.parametrize("name", ["vit_relpos_medium_patch16_cls_224", "vit_srelpos_small_patch16_224"])
def test_a_published_name_is_let_through(name: str) -> None:
    assert check_supported(name, 96) == {"img_size": 96}


@torch.no_grad()
def test_what_all_blocks_share_drops_nothing_in_training() -> None:
    """timm drops units of the map that makes it, for all blocks together; those of blocks by themselves are dropped."""
    for shared in (True, False):
        vit = tiny(VisionTransformerRelPos, shared_rel_pos=shared, rel_pos_type="mlp")
        model = tuned(vit, Placement("q", LoraConfig(1)), Placement("mlp", AdapterConfig(1)))
        images = pictures(model.adapter)
        still = model.head(vit(images))
        model.train()
        assert torch.equal(model(images), still) is shared
        assert not torch.equal(model.head(vit(images)), still)
        assert all(module.training for module in vit.modules())
