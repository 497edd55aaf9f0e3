"""VisionTransformerRelPos: what is refused."""

from typing import Any

import pytest
from timm.models.vision_transformer_relpos import VisionTransformerRelPos

from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.supported import check_supported
from utuning_search.common.errors import BackboneError

from .variants import tiny

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no pooling": ({"global_pool": ""}, "the model pools its tokens; got no pooling"),
    "one map for all": ({"shared_rel_pos": True}, "patches keep their places in training; got a dropout that changes"),
}


@pytest.mark.parametrize(("settings", "rule"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(BackboneError, match=f"^backbone 'mine'.*{rule}"):
        adapter_of(tiny(VisionTransformerRelPos, **settings), "mine")


def test_a_published_name_is_let_through() -> None:
    assert check_supported("vit_relpos_medium_patch16_cls_224", 96) == {"img_size": 96}
