"""timm's Eva: what is refused and why, its checkpoints, sizes and the bias of keys that a rotation makes count."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models.eva import Eva
from torch import nn

from utuning_search.backbones.checkpoint import load_checkpoint
from utuning_search.backbones.merge import merge
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.supported import check_supported
from utuning_search.common.errors import BackboneError, InputError
from utuning_search.designs.design import Placement
from utuning_search.testing.backbones import pictures
from utuning_search.tuners import BiasConfig, LoraConfig

from ..helpers import tuned
from .variants import EVAS, KNOWN, tiny

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no pooling": ({"global_pool": ""}, "the model pools its tokens; got no pooling"),
    "grouped queries": (
        {"attn_type": "rope", "qkv_fused": False, "num_kv_heads": (2, 1)},
        "block 2: queries, keys and values have as many heads; got 2 queries a key",
    ),
    "moving places": (
        {"use_rot_pos_emb": True, "rope_type": "dinov3", "rope_rescale_coords": 2.0},
        "patches keep their places in training; got a rotary embedding that moves them",
    ),
    "patch dropout": ({"patch_drop_rate": 0.5}, "all patches are there in training; got patch dropout"),
    "oblong": ({"img_size": (8, 6)}, r"images are square; got 8x6\. Set image_size"),
}


REFUSED = {
    name: (s, rule) for name, (s, rule) in REFUSED.items() if s.keys() <= KNOWN.keys()
}  # the oldest timm has not


@pytest.mark.parametrize(("settings", "rule"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(BackboneError, match=f"^backbone 'mine'.*{rule}"):
        adapter_of(tiny(Eva, **settings), "mine")


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3.lvd1689m", "eva02_enormous_patch14_clip_224"])
def test_published_names_are_let_through(name: str) -> None:
    assert check_supported(name, None) == {}


def test_published_names_at_other_sizes() -> None:
    check_supported("vit_small_patch16_dinov3", 112)
    with pytest.raises(InputError, match=r"image_size is a multiple of its patches, 16; got 100\. Take 96 or 112"):
        check_supported("vit_small_patch16_dinov3", 100)


@pytest.mark.parametrize(
    ("name", "got"),
    [("vit_large_patch16_sapiens2", "2 queries a key"), ("vit_base_patch16_sapiens2", "moves them")],
)
def test_published_names_are_refused_with_their_reason(name: str, got: str) -> None:
    if not timm.is_model(name):
        pytest.skip(f"the oldest timm has no {name}")
    with pytest.raises(BackboneError, match=got):
        check_supported(name, None)


def test_images_of_another_size_are_refused() -> None:
    """timm resamples positions for them; blocks, which count tokens, would take the patches for prompts."""
    adapter = adapter_of(tiny(Eva, **EVAS["dinov3"]))
    with pytest.raises(BackboneError, match="images are of 8 pixels; got 12x12"):
        adapter.embed(torch.zeros(1, 3, 12, 12))


@pytest.mark.parametrize("name", [n for n in EVAS if n in ("eva-02", "mixed rope", "perception encoder")])
def test_rotations_follow_the_image_size(name: str, tmp_path: Path) -> None:
    """A checkpoint of another size; frequencies stay, places are of the new grid."""
    small, large = (tiny(Eva, **EVAS[name], **size) for size in ({}, {"img_size": 12}))
    torch.save(small.state_dict(), tmp_path / "eva.pth")
    load_checkpoint(adapter_of(large), tmp_path / "eva.pth")
    small.set_input_size((12, 12))
    with torch.no_grad():
        images = pictures(adapter_of(large))
        assert torch.allclose(large(images), small(images), atol=1e-6)
        model = tuned(large, Placement("proj", LoraConfig(1)))
        assert torch.equal(model(images), model.head(large(images)))


@pytest.mark.parametrize("name", ["eva-02", "dinov3"])
def test_a_bias_of_keys_has_no_place_in_timm_where_keys_are_turned(name: str) -> None:
    """It counts, so merging keeps it; what cannot be kept is not dropped in silence."""
    eva = tiny(Eva, **EVAS[name] | {"qkv_bias": True}).double()
    model = tuned(eva, Placement("qkv", BiasConfig()), random=True, double=True)
    images = pictures(model.adapter).double()
    with torch.no_grad():
        merged = merge(model)
        assert torch.allclose(merged(images), model(images), rtol=0, atol=1e-9)
        with pytest.raises(
            BackboneError, match=r"Eva, block 1: keys get no bias: .* got one. Export it with --format onnx"
        ):
            merged.adapter.plain_state()
        for block in model.tuners.values():
            block.added["qkv"]["bias"].parallel.bias[16:32] = 0
        fresh = tiny(Eva, **EVAS[name] | {"qkv_bias": True}).double()
        fresh.load_state_dict(merge(model).adapter.plain_state())
        assert torch.allclose(model.head(fresh(images)), model(images), rtol=0, atol=1e-9)


def test_an_attention_of_another_kind_is_refused() -> None:
    odd = tiny(Eva)
    odd.blocks[0].attn = nn.Identity()
    with pytest.raises(BackboneError, match=r"block 1: an EvaBlock .*; got EvaBlock with Identity and Mlp"):
        adapter_of(odd)
