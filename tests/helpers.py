"""Small backbones, and every registered tuner at its legal corner values; most of it is published as `testing`."""

from typing import Any

import torch
from torch import Tensor, nn

from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.testing.backbones import pictures
from utuning_search.testing.cases import SCALES, Case, cases
from utuning_search.testing.models import (
    CLASSES,
    DEPTH,
    DIM,
    HEADS,
    IMAGE,
    PATCH,
    randomise,
    same_snapshot,
    snapshot,
    tiny_vit,
    tuned,
)
from utuning_search.tuners import TUNERS, BackboneShape

__all__ = [
    "CASES",
    "CLASSES",
    "CORNERS",
    "DEPTH",
    "DIM",
    "HEADS",
    "IMAGE",
    "PATCH",
    "SCALES",
    "Case",
    "bare_logits",
    "embed",
    "pool",
    "randomise",
    "same_snapshot",
    "shape_of",
    "snapshot",
    "tiny_vit",
    "tuned",
    "unfuse_attention",
]

# Options at the corners of each tuner: the smallest size, a larger one, and each named value at least once.
CORNERS: dict[str, tuple[dict[str, Any], ...]] = {
    "adapter": ({"rank": 1, "activation": "gelu"}, {"rank": 3, "activation": "relu"}),
    "conv": ({"rank": 1, "depthwise": True}, {"rank": 3, "depthwise": False}),
    "graph": (
        {"rank": 1, "graph": "grid4", "joined": False},
        {"rank": 3, "graph": "grid8", "joined": True},
        {"rank": 2, "graph": "nearest", "joined": False},
    ),
    "compacter": ({"rank": 1, "terms": 1}, {"rank": 6, "terms": 3}),
    "lora": ({"rank": 1}, {"rank": 3}),
    "experts": ({"rank": 1, "dropout": 0.0}, {"rank": 3, "dropout": 0.25}),
    "fact": ({"rank": 1}, {"rank": 3}),
    "kronecker": ({"rank": 1, "terms": 1}, {"rank": 2, "terms": 3}),
    "grouped": ({"groups": 1}, {"groups": 3}),
    "vera": ({"rank": 1}, {"rank": 3}),
    "dora": ({"rank": 1}, {"rank": 3}),
    "rescale": ({"sides": "both"}, {"sides": "inputs"}),
    "oft": ({"parts": 8}, {"parts": 3}),
    "prefix": (
        {"length": 1, "reading": "exact"},
        {"length": 3, "reading": "exact"},
        {"length": 1, "reading": "parallel"},
        {"length": 3, "reading": "parallel"},
        {"length": 1, "reading": "gated"},
        {"length": 3, "reading": "gated"},
    ),
    "prompt": (
        {"length": 1, "reading": "deep"},
        {"length": 3, "reading": "deep"},
        {"length": 1, "reading": "shallow"},
        {"length": 3, "reading": "shallow"},
        {"length": 1, "reading": "parallel"},
        {"length": 3, "reading": "parallel"},
    ),
    "scale_shift": ({"shift": True}, {"shift": False}),
    "bias": ({},),
    "norm": ({},),
    "repadapter": ({"rank": 1, "groups": 1}, {"rank": 6, "groups": 2}),
    "arc": ({"rank": 1}, {"rank": 3}),
    "sas": ({"rank": 1, "embedding": 1}, {"rank": 3, "embedding": 2}),
}


def embed(backbone: nn.Module, images: Tensor) -> Tensor:
    """Everything before the first block."""
    return adapter_of(backbone).embed(images)


def pool(backbone: nn.Module, tokens: Tensor) -> Tensor:
    """Everything after the last block but the head."""
    return adapter_of(backbone).pool(tokens)


def shape_of(backbone: nn.Module) -> BackboneShape:
    """The numbers that sizes depend on."""
    return adapter_of(backbone).shape


def unfuse_attention(backbone: nn.Module) -> None:
    """Plain matmuls in the attention of this model."""
    adapter_of(backbone).unfuse_attention()


def bare_logits(model: TunedModel, images: Tensor) -> Tensor:
    """What the backbone alone computes, block by block as timm does, under the head of `model`."""
    backbone = model.backbone
    logits: Tensor = model.head(pool(backbone, backbone.blocks(embed(backbone, images))))
    return logits


CASES = tuple(case for kind, tuner in TUNERS.items() for case in cases(tuner, CORNERS.get(kind, ())))


def check_draws_alike(model: TunedModel, backbone: nn.Module) -> None:
    """In training mode a fresh model drops what its backbone drops, at the same places, and drops something."""
    images = pictures(model.adapter)
    torch.default_generator.manual_seed(11)
    expected = model.head(backbone(images))
    torch.default_generator.manual_seed(11)
    assert torch.equal(model(images), expected)
    assert not torch.equal(model(images), expected)
