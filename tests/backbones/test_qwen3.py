"""Qwen3's vision towers: classifiers, with and without the projector, and encoders, which timm is told to average."""

from typing import Any

import pytest
import timm
import torch

from utuning_search.backbones.loading import load_backbone
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.supported import check_supported
from utuning_search.common.errors import BackboneError, InputError

from .variants import QWEN_MODELS

pytestmark = pytest.mark.skipif(not QWEN_MODELS, reason="this timm has no such models")


@pytest.mark.parametrize("name", ["qwen3_vit_88m", "qwen3_vit_88m_merge"])
def test_published_names_are_let_through(name: str) -> None:
    assert check_supported(name, 64) == {"img_size": 64}


def test_an_encoder_pools_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's own default is the projector's tokens."""
    made, small = timm.create_model, {"embed_dim": 16, "depth": 1, "num_heads": 2, "pretrained": False}
    monkeypatch.setattr(timm, "create_model", lambda name, **told: made(name, **{**told, **small}))
    model = load_backbone("qwen3_vit_88m_enc", image_size=32)
    adapter = adapter_of(model)
    assert (adapter.image_size, adapter.num_features) == (32, 16)
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 16)


def test_tokens_of_a_projector_are_no_features() -> None:
    with torch.device("meta"):
        encoder: Any = timm.create_model("qwen3_vit_88m_enc")
    with pytest.raises(BackboneError, match="the model pools its tokens; got those that a projector merges"):
        adapter_of(encoder)


def test_a_projector_merges_whole_patches() -> None:
    with pytest.raises(InputError, match="image_size is a multiple of 32, as its projector merges patches; got 48"):
        check_supported("qwen3_vit_88m_merge", 48)
