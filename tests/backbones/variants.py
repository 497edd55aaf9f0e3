"""Kinds of vision transformers that timm builds, small, and images for them."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
import torch
from timm.layers import Attention, GluMlp, RmsNorm, SwiGLU, SwiGLUPacked, get_mixed_freqs
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.naflexvit import NaFlexVit
from timm.models.vision_transformer import (
    DiffParallelScalingBlock,
    ParallelScalingBlock,
    ResPostBlock,
    VisionTransformer,
)
from timm.models.vision_transformer_relpos import ResPostRelPosBlock, VisionTransformerRelPos
from torch import Tensor, nn

from ..helpers import DIM, HEADS, IMAGE, PATCH, randomise


class _Gated(Attention):
    """Attention with a sigmoid gate on its output."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, gated=True, **settings)


class _WideHeads(Attention):
    """Attention whose heads together are wider than a token."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, attn_head_dim=12, **settings)


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "average": {"global_pool": "avg"},
    "average without class token": {"global_pool": "avg", "class_token": False},
    "average with prefix": {"global_pool": "avg", "pool_include_prefix": True},
    "max": {"global_pool": "max"},
    "average and max": {"global_pool": "avgmax"},
    "attention pooling": {"global_pool": "map"},
    "attention pooling without class token": {"global_pool": "map", "class_token": False},
    "registers": {"reg_tokens": 4},
    "registers and average": {"reg_tokens": 4, "global_pool": "avg", "class_token": False},
    "registers without position": {"reg_tokens": 4, "no_embed_class": True},
    "layer scale": {"init_values": 0.1},
    "stochastic depth": {"drop_path_rate": 0.3},
    "dropout": {"drop_rate": 0.1, "pos_drop_rate": 0.1, "proj_drop_rate": 0.1, "attn_drop_rate": 0.1},
    "qk norm": {"qk_norm": True},
    "scaled attention norm": {"scale_attn_norm": True},
    "scaled mlp norm": {"scale_mlp_norm": True},
    "gated attention": {"attn_layer": _Gated},
    "wide heads": {"attn_layer": _WideHeads},
    "no qkv bias": {"qkv_bias": False},
    "no output biases": {"proj_bias": False},
    "gated mlp": {"mlp_layer": GluMlp},
    "swiglu": {"mlp_layer": SwiGLUPacked},
    "swiglu, norm": {"mlp_layer": SwiGLUPacked, "scale_mlp_norm": True},
    "swiglu of two maps": {"mlp_layer": SwiGLU},
    "relu": {"act_layer": nn.ReLU},
    "pre-norm": {"pre_norm": True},
    "no final norm": {"final_norm": False},
    "norm after pooling": {"fc_norm": True},
    "no positions": {"pos_embed": "none"},
    "dynamic size": {"dynamic_img_size": True},
    "grey": {"in_chans": 1},
}
VARIANTS["differential"] = {"attn_layer": "diff", "qk_norm": True, "scale_attn_norm": True, "init_values": 0.1}
VARIANTS["differential, norms last"] = {"attn_layer": "diff", "block_fn": ResPostBlock}
VARIANTS["norms last"] = {"block_fn": ResPostBlock, "drop_path_rate": 0.2}
if "gated" not in inspect.signature(Attention).parameters:  # timm has it from 1.0.28 on
    del VARIANTS["gated attention"]

every_variant = pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())


def pictures(model: VisionTransformer, size: int = IMAGE) -> Tensor:
    return torch.randn(3, model.in_chans, size, size, generator=torch.Generator().manual_seed(3))


# Other families. The plainest, first of each, has no positions in its attention.

BEITS: dict[str, dict[str, Any]] = {
    "beit without positions in its attention": {},
    "beit": {"use_abs_pos_emb": False, "use_rel_pos_bias": True, "init_values": 0.1},
    "beit, shared biases": {"use_abs_pos_emb": False, "use_shared_rel_pos_bias": True, "global_pool": "token"}
    | {"qkv_bias": False},
    "beit, both biases": {"use_rel_pos_bias": True, "use_shared_rel_pos_bias": True},
    "beit, swiglu, norm": {"use_rel_pos_bias": True, "swiglu_mlp": True, "scale_mlp": True, "drop_path_rate": 0.3},
}

ROPE = {"use_abs_pos_emb": False, "use_rot_pos_emb": True}
EVAS: dict[str, dict[str, Any]] = {
    "eva": {},
    "eva-02": ROPE | {"swiglu_mlp": True, "scale_mlp": True, "scale_attn_inner": True, "qkv_fused": False},
    "eva-02, packed": {"use_rot_pos_emb": True, "swiglu_mlp": True, "ref_feat_shape": 2, "global_pool": "token"}
    | {"drop_path_rate": 0.3},
    "dinov3": ROPE
    | {"rope_type": "dinov3", "rope_rotate_half": True, "num_reg_tokens": 4, "init_values": 0.1, "use_fc_norm": False}
    | {"qkv_bias": False, "swiglu_mlp": True, "swiglu_align_to": 8, "dynamic_img_size": True},
    "perception encoder": {"attn_type": "rope", "use_rot_pos_emb": True, "rope_grid_indexing": "xy"}
    | {"rope_grid_offset": 1.0, "use_pre_transformer_norm": True, "global_pool": "map", "attn_pool_num_heads": 4},
    "mixed rope": ROPE
    | {"attn_type": "rope", "rope_type": "mixed", "rope_grid_indexing": "xy", "qk_norm": True}
    | {"no_embed_class": True, "class_token": True, "attn_only_layer_scale": True, "init_values": 1.0},
}
EVAS["sapiens2"] = ROPE | {
    "attn_type": "rope",
    "qkv_fused": False,
    "num_heads": 4,
    "num_kv_heads": (4, 2),
    "qk_norm": True,
    "init_values": 1.0,
    "attn_only_layer_scale": True,
    "swiglu_mlp": True,
    "num_reg_tokens": 2,
    "rope_type": "dinov3",
    "rope_rotate_half": True,
    "use_fc_norm": False,
    "norm_layer": RmsNorm,
    "dynamic_img_size": True,
    "global_pool": "token",
}
EVAS["eva, norms last"] = ROPE | {"use_post_norm": True, "swiglu_mlp": True, "scale_mlp": True}
KNOWN = inspect.signature(Eva).parameters
# The oldest timm has no norms of queries in Eva, and no layer scale of the attention alone.
EVAS = {name: {k: v for k, v in settings.items() if k in KNOWN} for name, settings in EVAS.items()}
if "dtype" not in inspect.signature(get_mixed_freqs).parameters:  # it turns by matrix products, in single precision
    del EVAS["mixed rope"]

QWENS: dict[str, dict[str, Any]] = {
    "qwen3": {"pos_embed_grid_size": 4},
    "qwen3, another grid": {"pos_embed_grid_size": 3, "final_norm": False, "drop_path_rate": 0.2, "in_chans": 1},
}
MERGED = {"pos_embed_grid_size": 4, "encoder_pool": "merge", "out_features": 10}
NAFLEX: dict[str, dict[str, Any]] = {
    "naflex": {"global_pool": "avg", "reg_tokens": 2},
    "naflex, another grid": {"pos_embed_grid_size": (3, 3), "pos_embed_ar_preserving": True, "class_token": True}
    | {"reg_tokens": 1, "global_pool": "token", "final_norm": False, "init_values": 0.1},
    "naflex, sides by themselves": {"pos_embed": "factorized", "global_pool": "map", "in_chans": 1},
    "naflex, convolution": {"embed_proj_type": "conv", "pre_norm": True, "pos_embed": "none", "class_token": True},
}
RELPOS: dict[str, dict[str, Any]] = {
    # Its biases are zeros, see `relpos`.
    "relpos without places": {"rel_pos_type": "bias", "init_values": None},
    "relpos": {
        "class_token": True,
        "rel_pos_type": "mlp-swin",
        "init_values": 0.1,
        "drop_path_rate": 0.2,
        "qk_norm": True,
    },
    "relpos, one for all": {"shared_rel_pos": True, "rel_pos_type": "mlp", "fc_norm": True, "init_values": None},
    "relpos, norms last": {"block_fn": ResPostRelPosBlock, "rel_pos_type": "bias", "class_token": True}
    | {"global_pool": "token", "qkv_bias": False},
}


def tiny(kind: Callable[..., nn.Module], **settings: Any) -> nn.Module:
    """A fresh model of 2 blocks on 8x8 images, without a head, in evaluation mode; as `tiny_vit`."""
    small = {"img_size": IMAGE, "patch_size": PATCH, "embed_dim": DIM, "depth": 2, "num_heads": HEADS}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        model = kind(**{**small, "num_classes": 0, **settings})
    return randomise(model, seed=1).eval()


def makers(kind: Callable[..., nn.Module], variants: dict[str, dict[str, Any]]) -> dict[str, Callable[[], nn.Module]]:
    """Of each variant, by its name."""
    return {name: lambda s=s: tiny(kind, **s) for name, s in variants.items()}


def _encoder(num_classes: int, **settings: Any) -> nn.Module:
    """Encoders have no head."""
    assert not num_classes
    return Qwen3VitEncoder(**settings)


def naflex(**settings: Any) -> nn.Module:
    """Of the size that its configuration says."""
    model: Any = NaFlexVit(**{"pos_embed_grid_size": None, **settings})
    model.pretrained_cfg = {"input_size": (settings.get("in_chans", 3), IMAGE, IMAGE)}
    return cast(nn.Module, model)


try:
    from timm.models.qwen3_vit import Qwen3VitClassifier, Qwen3VitEncoder
except ImportError:  # the oldest timm has none
    QWEN_MODELS: dict[str, Callable[[], nn.Module]] = {}
else:
    QWEN_MODELS = makers(Qwen3VitClassifier, QWENS)
    QWEN_MODELS["qwen3, merged"] = lambda: tiny(Qwen3VitClassifier, **MERGED)
    QWEN_MODELS["qwen3 encoder"] = lambda: tiny(_encoder, pos_embed_grid_size=4, global_pool="avg")


def _relpos(name: str) -> nn.Module:
    model = tiny(VisionTransformerRelPos, **RELPOS[name])
    if name.endswith("places"):
        for parameter in (p for n, p in model.named_parameters() if "rel_pos" in n):
            nn.init.zeros_(parameter)
    return model


# With attention and MLP side by side, and two output maps or one.
PARALLELS: dict[str, dict[str, Any]] = {
    "parallel": {"block_fn": ParallelScalingBlock},
    "parallel, qk norm": {"block_fn": ParallelScalingBlock, "qk_norm": True, "init_values": 0.1, "drop_path_rate": 0.2},
}
SUMMED: dict[str, dict[str, Any]] = {
    "summed": {"block_fn": partial(ParallelScalingBlock, fuse_out_proj=True), "norm_layer": RmsNorm},
    "summed, differential": {"block_fn": DiffParallelScalingBlock, "qk_norm": True, "init_values": 0.1},
}
PARALLEL_MODELS, SUMMED_MODELS = makers(VisionTransformer, PARALLELS), makers(VisionTransformer, SUMMED)
VIT_MODELS = makers(VisionTransformer, {"differential": VARIANTS["differential"]}) | PARALLEL_MODELS | SUMMED_MODELS
NAFLEX_MODELS = makers(naflex, NAFLEX)
RELPOS_MODELS: dict[str, Callable[[], nn.Module]] = {name: lambda n=name: _relpos(n) for name in RELPOS}
FAMILIES: dict[str, Callable[[], nn.Module]] = {
    **makers(Beit, BEITS),
    **makers(Eva, EVAS),
    **NAFLEX_MODELS,
    **RELPOS_MODELS,
}
every_family = pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES.keys())
