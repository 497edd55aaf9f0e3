"""Models of several stages that timm builds, small, with random weights."""

from collections.abc import Callable
from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
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
        if "relative_position_bias_table" in name or "cpb_mlp" in name:
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


SWIN_MODELS = _swins(SwinTransformer, "swin")
SWIN_V2_MODELS = _swins(SwinTransformerV2, "swin v2")
STAGED: dict[str, Maker] = {**SWIN_MODELS, **SWIN_V2_MODELS}
