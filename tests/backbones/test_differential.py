"""Differential attention: rows of tuners are as the model's own keys and values, dropout is where timm has it."""

import pytest
import torch
from torch import nn

from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.supported import check_supported
from utuning_search.designs.design import Placement
from utuning_search.testing.backbones import pictures
from utuning_search.tuners import LoraConfig, PrefixConfig

from ..helpers import check_draws_alike, tiny_vit, tuned, unfuse_attention


@torch.no_grad()
def test_rows_that_join_are_keys_and_values_as_the_models_own() -> None:
    """As a prefix, doubled, the model's own change nothing."""
    vit = tiny_vit(attn_layer="diff", qk_norm=True)
    model = tuned(vit, Placement("attention", PrefixConfig(17, "exact"), blocks=(1,)))
    tokens, block = model.adapter.embed(pictures(model.adapter, 1)), model.adapter.blocks[0]
    k, v = block.keys_values(vit.blocks[0].norm1(tokens)[0])
    before, tuners = block(tokens), model.tuners["block_1"]
    assert not torch.allclose(block.run(tokens, tuners), before, atol=1e-3)
    inside = tuners.inside["attention"]["prefix"]
    inside.keys.copy_(k)
    inside.values.copy_(v)
    assert torch.allclose(block.run(tokens, tuners), before, atol=1e-5)


@torch.no_grad()
def test_what_is_attended_to_is_subtracted_and_not_normalised() -> None:
    """Own keys and values give the model's own attention, but for the norm of its heads."""
    vit = tiny_vit(attn_layer="diff", qk_norm=True)
    attn, block = vit.blocks[1].attn, adapter_of(vit).blocks[1]
    tokens = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(2))
    normed = vit.blocks[1].norm1(tokens)
    found = block.attend(tokens, *block.keys_values(normed[0]))
    attn.sub_norm = nn.Identity()
    assert torch.allclose((1 - attn.lambda_init) * found + attn.proj.bias, attn(normed), atol=1e-6)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@torch.no_grad()
def test_training_mode_drops_what_the_backbone_drops(fused: bool) -> None:
    vit = tiny_vit(attn_layer="diff", attn_drop_rate=0.3)
    if not fused:
        unfuse_attention(vit)
    assert {b.attn.fused_attn for b in vit.blocks} == {fused}
    model = tuned(vit, Placement("qkv", LoraConfig(1))).train()
    check_draws_alike(model, vit)


def test_a_published_name_is_let_through() -> None:
    assert check_supported("vit_dwee_patch16_reg1_gap_256", 96) == {"img_size": 96}
