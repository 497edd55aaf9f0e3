"""Models of several stages that timm builds, small, with random weights."""

from collections.abc import Callable
from typing import Any, cast

import timm
import torch
from packaging.version import Version
from timm.layers import GroupNorm1, LayerNorm2d
from timm.models.convnext import ConvNeXt
from timm.models.hiera import Hiera
from timm.models.metaformer import Attention, LayerNorm2dNoBias, LayerNormNoBias, MetaFormer, Pooling, SepConv
from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.swin_transformer_v2_cr import SwinTransformerV2Cr
from timm.models.xcit import Xcit
from torch import nn

from ..helpers import randomise

Maker = Callable[[], nn.Module]

SWIN: dict[str, Any] = {"img_size": 8, "patch_size": 2, "embed_dim": 8, "depths": (2, 1), "num_heads": (2, 4)}
SWINS: dict[str, dict[str, Any]] = {
    # One window sees all of a grid; its biases by relative position are zeros, see `without_places`.
    "swin without places": {"window_size": 4},
    "swin, shifted windows": {"window_size": 2, "drop_path_rate": 0.0},
    "swin, windows to fill up": {"img_size": 12, "window_size": 4, "qkv_bias": False, "proj_drop_rate": 0.1},
    "swin, any size": {"window_size": 2, "strict_img_size": False, "in_chans": 1, "drop_path_rate": 0.0},
}


def staged(kind: Callable[..., nn.Module], **settings: Any) -> nn.Module:
    """A fresh model without a head, in evaluation mode, all of whose parameters are random."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        model = kind(**{"num_classes": 0, **settings})
    return randomise(model, seed=1).eval()


def without_places(model: nn.Module) -> nn.Module:
    """With biases by relative position that are all equal."""
    for name, parameter in model.named_parameters():
        if "relative_position_bias_table" in name or "cpb_mlp" in name or "meta_mlp" in name:
            nn.init.zeros_(parameter)
    return model


def _swins(kind: Callable[..., nn.Module], label: str) -> dict[str, Maker]:
    found: dict[str, Maker] = {}
    for name, settings in SWINS.items():

        def make(settings: dict[str, Any] = settings, plain: bool = name.endswith("places")) -> nn.Module:
            model = staged(kind, **{**SWIN, **settings})
            return without_places(model) if plain else model

        found[name.replace("swin", label)] = make
    return found


NEXT: dict[str, Any] = {"depths": (1, 2, 1, 1), "dims": (4, 8, 8, 12), "kernel_sizes": 3}
NEXTS: dict[str, dict[str, Any]] = {
    "convnext": {"ls_init_value": None},
    "convnext, patches of 2": {"ls_init_value": None, "patch_size": 2},
    "convnext, layer scale": {"ls_init_value": 0.5, "drop_path_rate": 0.2, "head_norm_first": True},
    "convnext, convolutions": {"conv_mlp": True, "ls_init_value": None, "head_hidden_size": 6},
    "convnext v2": {"use_grn": True, "ls_init_value": None, "stem_type": "overlap_tiered"},
    "convnext v2, convolutions": {"use_grn": True, "conv_mlp": True, "ls_init_value": None, "in_chans": 1},
    "convnext, norms without means": {"norm_layer": "simplenorm", "conv_mlp": True, "conv_bias": False},
}


def _of_size(size: int, kind: Callable[..., nn.Module], settings: dict[str, Any]) -> Maker:
    """Of a model that takes any size, with a configuration that says one."""

    def make() -> nn.Module:
        model: Any = staged(kind, **settings)
        model.pretrained_cfg = {"input_size": (settings.get("in_chans", 3), size, size)}
        return cast(nn.Module, model)

    return make


# Of 40 pixels, a stage has an odd number of rows, and loses one of them.
NEXT_MODELS = {name: _of_size(40, ConvNeXt, {**NEXT, **more}) for name, more in NEXTS.items()}
FORMER: dict[str, Any] = {"depths": (1, 2, 1), "dims": (4, 8, 12), "norm_layers": LayerNorm2dNoBias}
MIXED = {"token_mixers": (SepConv, SepConv, Attention), "norm_layers": (LayerNorm2dNoBias,) * 2 + (LayerNormNoBias,)}
FORMERS: dict[str, dict[str, Any]] = {
    "poolformer": {"token_mixers": Pooling, "norm_layers": GroupNorm1, "mlp_act": nn.GELU, "mlp_bias": True}
    | {"layer_scale_init_values": 0.1, "res_scale_init_values": None, "downsample_norm": None},
    "caformer": MIXED | {"head_dim": 4, "use_mlp_head": False, "res_scale_init_values": (None, 0.5, 1.0)},
    "caformer, stochastic depth": MIXED | {"head_dim": 4, "drop_path_rate": 0.2, "res_scale_init_values": None},
    "convformer": {"token_mixers": SepConv, "norm_layers": LayerNorm2d, "output_norm": LayerNorm2d}
    | {"res_scale_init_values": None},
}
FORMER_MODELS = {name: _of_size(40, MetaFormer, {**FORMER, **more}) for name, more in FORMERS.items()}
XCIT: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
XCITS: dict[str, dict[str, Any]] = {
    "xcit": {"eta": 0.5},
    "xcit, average": {"global_pool": "avg", "use_pos_embed": False, "qkv_bias": False, "drop_path_rate": 0.2},
    "xcit, all tokens normalised": {"tokens_norm": True, "cls_attn_layers": 1, "in_chans": 1},
}
XCIT_MODELS: dict[str, Maker] = {
    name: lambda more=more: staged(Xcit, **{**XCIT, **more})  # type: ignore[misc]  # mypy knows no such default
    for name, more in XCITS.items()
}
HIERA: dict[str, Any] = {"img_size": 32, "embed_dim": 4, "stages": (1, 2, 1), "q_pool": 2, "mask_unit_size": (4, 4)}
HIERAS: dict[str, dict[str, Any]] = {
    "hiera": {"mask_unit_attn": (True, False, False)},
    "hiera, absolute windows": {"abs_win_pos_embed": True, "global_pos_size": (3, 3), "init_values": 0.1}
    | {"use_expand_proj": False, "drop_path_rate": 0.2, "num_heads": 2, "mask_unit_attn": (True, True, False)},
    "hiera, strides left": {"q_pool": 1, "mask_unit_attn": (True, True, True), "in_chans": 1},
}
HIERA_MODELS: dict[str, Maker] = {
    name: lambda more=more: staged(Hiera, **{**HIERA, **more})  # type: ignore[misc]  # mypy knows no such default
    for name, more in HIERAS.items()
}
MVITS: dict[str, dict[str, Any]] = {
    "mvitv2": {"depths": (1, 2, 1), "stride_q": ((1, 1), (2, 2), (2, 2))},
    "mvitv2, class token": {"depths": (1, 2), "stride_q": ((1, 1), (2, 2)), "use_cls_token": True, "use_abs_pos": True}
    | {"residual_pooling": False, "stride_kv_adaptive": (2, 2), "qkv_bias": False},
    "mvitv2, one kernel": {"depths": (1, 1), "stride_q": ((1, 1), (2, 2)), "kernel_qkv": (1, 1), "rel_pos_type": ""}
    | {"stride_kv_adaptive": (1, 1)},
}


def _mvit(name: str) -> nn.Module:
    return staged(MultiScaleVit, cfg=MultiScaleVitCfg(embed_dim=4, **MVITS[name]), img_size=32, drop_path_rate=0.1)


MVIT_MODELS: dict[str, Maker] = {
    name: lambda name=name: _mvit(name)  # type: ignore[misc]  # likewise
    for name in MVITS
}
SWIN_MODELS = _swins(SwinTransformer, "swin")
SWIN_V2_MODELS = _swins(SwinTransformerV2, "swin v2")
CR = {"embed_dim": 8, "depths": (2, 1), "num_heads": (2, 4), "patch_size": 2, "init_values": None}
CRS: dict[str, dict[str, Any]] = {
    "swin v2 cr without places": {"img_size": 8, "window_size": 4},
    "swin v2 cr, shifted windows": {"img_size": 8, "window_size": 2, "extra_norm_stage": True, "in_chans": 1},
    "swin v2 cr, windows to fill up": {"img_size": 12, "window_size": 4, "extra_norm_period": 2, "drop_path_rate": 0.2},
}


def _cr(name: str) -> nn.Module:
    model = staged(SwinTransformerV2Cr, **{**CR, **CRS[name]})
    return without_places(model) if name.endswith("places") else model


SWIN_V2_CR_MODELS: dict[str, Maker] = {
    name: lambda name=name: _cr(name)  # type: ignore[misc]  # mypy knows no such default
    for name in CRS
}
if Version(timm.__version__) < Version("1.0.31"):  # it cannot make masks for windows that are filled up
    del SWIN_V2_MODELS["swin v2, windows to fill up"], SWIN_V2_CR_MODELS["swin v2 cr, windows to fill up"]
WINDOWED = {**SWIN_MODELS, **SWIN_V2_MODELS, **SWIN_V2_CR_MODELS}
STAGED: dict[str, Maker] = {**WINDOWED, **NEXT_MODELS, **FORMER_MODELS, **XCIT_MODELS}
STAGED |= {**HIERA_MODELS, **MVIT_MODELS}
