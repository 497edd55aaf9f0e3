"""timm's Beit: what is refused, what its checkpoints hold, and the bias that its keys never had."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.layers import SwiGLU
from timm.models.beit import Beit, checkpoint_filter_fn
from torch import nn

from utuning_search.backbones.checkpoint import load_checkpoint
from utuning_search.backbones.merge import merge
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.supported import check_supported
from utuning_search.common.errors import BackboneError, InputError
from utuning_search.designs.design import Design, Placement
from utuning_search.results.exports.peft_files import check_layers
from utuning_search.testing.backbones import pictures
from utuning_search.tuners import BiasConfig, LoraConfig, PrefixConfig, ScaleShiftConfig

from ..helpers import tiny_vit, tuned
from .variants import BEITS, tiny

BIASED = BEITS["beit, both biases"]


def test_what_is_refused() -> None:
    with pytest.raises(BackboneError, match="the model pools its tokens; got no pooling"):
        adapter_of(tiny(Beit, global_pool=""))
    odd = tiny(Beit)
    odd.blocks[1].mlp = nn.Identity()
    with pytest.raises(BackboneError, match="block 2: a pre-norm Block with its Attention and Mlp; got Block with"):
        adapter_of(odd, "mine")


def test_published_names_are_let_through_at_sizes_of_whole_patches() -> None:
    check_supported("beit_base_patch16_224", None)
    check_supported("beitv2_base_patch16_224.in1k_ft_in22k_in1k", 64)
    with pytest.raises(
        InputError, match=r"beit_base_patch16_224.*image_size is a multiple of its patches, 16; got 100"
    ):
        check_supported("beit_base_patch16_224", 100)


def test_suggestions_know_the_family() -> None:
    with pytest.raises(InputError, match=r"Did you mean 'beit_base_patch16_224'\?"):
        check_supported("beit_base_patch16_22", None)


def test_biases_are_resampled_to_another_image_size(tmp_path: Path) -> None:
    """As timm does it; the index that Microsoft's files hold is computed, not read."""
    settings = BEITS["beit"]
    small, large = tiny(Beit, **settings), tiny(Beit, **settings, img_size=12)
    state = {f"module.{n}": t for n, t in small.state_dict().items()}
    state["module.blocks.0.attn.relative_position_index"] = torch.zeros(17, 17, dtype=torch.long)
    torch.save({"model": state}, tmp_path / "beit.pth")
    load_checkpoint(adapter_of(large), tmp_path / "beit.pth")
    expected = checkpoint_filter_fn(dict(small.state_dict()), large)
    assert large.state_dict().keys() == expected.keys()
    assert all(torch.equal(t, expected[n]) for n, t in large.state_dict().items())
    table = "blocks.0.attn.relative_position_bias_table"
    assert len(large.state_dict()[table]) == (2 * 6 - 1) ** 2 + 3 > len(small.state_dict()[table])


@pytest.mark.parametrize("tuner", [BiasConfig(), ScaleShiftConfig()])
def test_a_bias_of_keys_is_kept_where_other_keys_are_and_dropped_where_not(tuner: Any) -> None:
    """Softmax does not see it; but keys that join get none, and then it counts."""
    beit = tiny(Beit, **BIASED).double()
    images = pictures(adapter_of(beit)).double()
    here = Placement("qkv", tuner)
    for others in ((), (Placement("attention", PrefixConfig(2, "exact")),)):
        model = tuned(beit, here, *others, random=True, double=True)
        merged = merge(model)
        assert len(merged.tuners) == len(others) * 2
        assert merged.backbone.blocks[0].attn.qkv.bias[16:32].any()
        with torch.no_grad():
            assert torch.allclose(merged(images), model(images), rtol=0, atol=1e-9)
    plain = tiny(Beit, **BIASED).double()
    model = tuned(beit, here, random=True, double=True)
    plain.load_state_dict(merge(model).adapter.plain_state())
    with torch.no_grad():
        assert torch.allclose(model.head(plain(images)), model(images), rtol=0, atol=1e-9)


def test_biases_move_once() -> None:
    """Folding into q, k and v one after another, and merging again, is the same function."""
    beit = tiny(Beit, **BIASED).double()
    parts = [Placement(o, LoraConfig(1), "sequential") for o in ("qkv", "q", "k", "v")]
    model = tuned(beit, *parts, random=True, double=True)
    images = pictures(model.adapter).double()
    with torch.no_grad():
        once = merge(model)
        assert torch.allclose(merge(once)(images), model(images), rtol=0, atol=1e-9)
    assert beit.blocks[0].attn.q_bias is not None


def test_peft_holds_no_lora_of_it() -> None:
    """timm's attention here takes the weight of `qkv` and never calls it, so a layer around it would do nothing."""
    lora = Design((Placement("fc1", LoraConfig(1)),))
    check_layers(lora, adapter_of(tiny_vit()))
    with pytest.raises(InputError, match="the backbone is a timm VisionTransformer; got a timm Beit"):
        check_layers(lora, adapter_of(tiny(Beit)))


def test_peft_holds_no_lora_of_two_layers() -> None:
    two = adapter_of(tiny_vit(mlp_layer=SwiGLU))
    check_layers(Design((Placement("fc2", LoraConfig(1)),)), two)
    with pytest.raises(InputError, match=r"a LoRA is around one layer; got fc1: parallel LoRA r=1.*: around two"):
        check_layers(Design((Placement("fc1", LoraConfig(1)),)), two)


def test_every_published_beit_is_listed() -> None:
    """The family's module holds Beits only."""
    assert {n.partition("_")[0] for n in timm.list_models(module="beit")} == {"beit", "beitv2"}
