"""timm's Eva: what is refused and why, its checkpoints, sizes and the bias of keys that a rotation makes count."""

from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.eva import Eva
from torch import nn

from utuning_search.backbones.checkpoint import load_checkpoint
from utuning_search.backbones.description import describe
from utuning_search.backbones.merge import merge
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.supported import check_supported
from utuning_search.common.errors import BackboneError, InputError
from utuning_search.designs.design import Placement
from utuning_search.testing.backbones import pictures
from utuning_search.tuners import AdapterConfig, BiasConfig, LoraConfig, PrefixConfig

from ..helpers import tuned
from .variants import EVAS, KNOWN, tiny

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no pooling": ({"global_pool": ""}, "the model pools its tokens; got no pooling"),
    "patch dropout": ({"patch_drop_rate": 0.5}, "all patches are there in training; got patch dropout"),
    "oblong": ({"img_size": (8, 6)}, r"images are square; got 8x6\. Set image_size"),
}
shares_keys = pytest.mark.skipif("num_kv_heads" not in KNOWN, reason="the oldest timm has no such attention")


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


@shares_keys
def test_images_of_sapiens2_are_squares_of_their_shorter_side() -> None:
    """Its own are 1024 x 768; its only places are rotations, of any grid."""
    assert check_supported("vit_large_patch16_sapiens2", None) == {"img_size": 768}
    assert check_supported("vit_large_patch16_sapiens2", 256) == {"img_size": 256}
    shape = describe("vit_large_patch16_sapiens2").shape
    assert [(s.blocks, s.kv_heads) for s in shape.stages] == [(8, 0), (8, 8), (8, 0)]
    assert shape.at(9).widths("qkv") == (1024, 1024 + 2 * 512)
    assert shape.at(9).widths("v") == (1024, 512)
    assert describe("vit_base_patch16_sapiens2").shape.stages == ()


@pytest.mark.parametrize("fixed", [True, False], ids=["one size", "any size"])
@pytest.mark.parametrize("kind", ["dinov3", "cat"])
def test_places_that_move_in_training_stay(kind: str, fixed: bool) -> None:
    """timm moves all together; blocks that run from cached tokens could not know where to."""
    moving = {"use_rot_pos_emb": True, "rope_type": kind, "rope_rescale_coords": 2.0, "dynamic_img_size": not fixed}
    eva = tiny(Eva, **{k: v for k, v in moving.items() if k in KNOWN})
    model = tuned(eva, Placement("q", LoraConfig(1)), Placement("mlp", AdapterConfig(1)))
    images = pictures(model.adapter)
    with torch.no_grad():
        still = model.head(eva(images))
        model.train()
        assert torch.equal(model(images), still)
        assert eva.rope.training
        if getattr(eva.rope, "aug_active", False):
            assert not torch.equal(model.head(eva(images)), still)


@shares_keys
@torch.no_grad()
def test_queries_that_share_keys_attend_to_rows_as_the_model_does() -> None:
    """Its own keys and values give its own attention; and as a prefix, doubled, they change nothing."""
    shared = {"attn_type": "rope", "qkv_fused": False, "num_kv_heads": 1, "qk_norm": True, "class_token": False}
    eva = tiny(Eva, **shared)
    adapter = adapter_of(eva)
    tokens, block = adapter.embed(pictures(adapter, 1)), adapter.blocks[0]
    normed = eva.blocks[0].norm1(tokens)
    k, v = block.keys_values(normed[0])
    assert k.shape == v.shape == (1, 16, 8)
    assert adapter.shape.kv_heads == 1
    own = eva.blocks[0].attn(normed)
    assert torch.allclose(block.attend(tokens, k, v) + eva.blocks[0].attn.proj.bias, own, atol=1e-6)
    model = tuned(eva, Placement("attention", PrefixConfig(16, "exact"), blocks=(1,)))
    inside = model.tuners["block_1"].inside["attention"]["prefix"]
    assert inside.keys.shape == (1, 16, 8)
    before = block(tokens)
    inside.keys.copy_(k)
    inside.values.copy_(v)
    assert torch.allclose(block.run(tokens, model.tuners["block_1"]), before, atol=1e-6)


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
