"""The architecture of the embedded backbone, and where its weights are."""

from pathlib import Path
from typing import Any

from timm.models.vision_transformer import VisionTransformer

__all__ = ["GLYPH_VIT", "TIMM_ARGS", "TIMM_NAME", "WEIGHTS", "VisionTransformer", "glyph_vit"]

GLYPH_VIT = "glyph_vit"  # its name among backbones
WEIGHTS = Path(__file__).with_name("glyph_vit.safetensors")
TIMM_ARGS: dict[str, Any] = {"img_size": 8, "patch_size": 2, "in_chans": 1, "embed_dim": 64, "depth": 6, "num_heads": 4}
TIMM_NAME = "vit_tiny_patch16_224"  # with those arguments it is the same architecture; timm has no name for ours


def glyph_vit(num_classes: int = 0) -> VisionTransformer:
    """8x8 grey images, patch 2, dim 64, 6 blocks, 4 heads; fresh weights."""
    return VisionTransformer(num_classes=num_classes, **TIMM_ARGS)
