"""Small backbones, and every registered tuner at its legal corner values."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.designs.design import Design, Placement
from utuning_search.tuners import TUNERS, BackboneShape, Scale

M = TypeVar("M", bound=nn.Module)

IMAGE, PATCH, DIM, DEPTH, HEADS, CLASSES = 8, 2, 16, 2, 2, 5

# Options at the corners of each tuner: the smallest size, a larger one, and each named value at least once.
CORNERS: dict[str, tuple[dict[str, Any], ...]] = {
    "adapter": ({"rank": 1, "activation": "gelu"}, {"rank": 3, "activation": "relu"}),
    "conv": ({"rank": 1, "depthwise": True}, {"rank": 3, "depthwise": False}),
    "lora": ({"rank": 1}, {"rank": 3}),
    "experts": ({"rank": 1, "dropout": 0.0}, {"rank": 3, "dropout": 0.25}),
    "fact": ({"rank": 1}, {"rank": 3}),
    "prefix": (
        {"length": 1, "reading": "exact"},
        {"length": 3, "reading": "exact"},
        {"length": 1, "reading": "parallel"},
        {"length": 3, "reading": "parallel"},
    ),
    "prompt": (
        {"length": 1, "reading": "deep"},
        {"length": 3, "reading": "deep"},
        {"length": 1, "reading": "shallow"},
        {"length": 3, "reading": "shallow"},
        {"length": 1, "reading": "parallel"},
        {"length": 3, "reading": "parallel"},
    ),
    "scale_shift": ({},),
    "bias": ({},),
    "norm": ({},),
}
SCALES: tuple[Scale, ...] = ("none", "scalar", "channel", 0.5, "gate")


def tiny_vit(**settings: Any) -> VisionTransformer:
    """A fresh VisionTransformer of 2 blocks on 8x8 images, without a head, in evaluation mode.

    timm's initialisation leaves biases and the class token at about zero, so that much could go wrong
    unseen; here every parameter is random, and a function of the settings alone.
    """
    small = {"img_size": IMAGE, "patch_size": PATCH, "embed_dim": DIM, "depth": DEPTH, "num_heads": HEADS}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        model = VisionTransformer(**{**small, "num_classes": 0, **settings})
    return randomise(model, seed=1).eval()


def randomise(model: M, seed: int, std: float = 0.2) -> M:
    """Add noise to every parameter of `model`, in place; the noise is a function of the seed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(std * torch.randn(parameter.shape, generator=generator))
    return model


def tuned(backbone: nn.Module, *placements: Placement, random: bool = False, double: bool = False) -> TunedModel:
    """A tuned model in evaluation mode; `random` tuner weights act as trained ones would, `double` is
    double precision, of the backbone too.
    """
    model = TunedModel(backbone, Design(placements), CLASSES).eval()
    if random:
        randomise(model.tuners, seed=2)
    return model.double() if double else model


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


def snapshot(model: nn.Module) -> dict[str, tuple[bool, Tensor]]:
    """Name, trainable flag and values of all parameters."""
    return {n: (p.requires_grad, p.detach().clone()) for n, p in model.named_parameters()}


def same_snapshot(a: dict[str, tuple[bool, Tensor]], b: dict[str, tuple[bool, Tensor]]) -> bool:
    """Whether two snapshots are equal bit for bit."""
    return a.keys() == b.keys() and all(a[n][0] == b[n][0] and torch.equal(a[n][1], b[n][1]) for n in a)


@dataclass(frozen=True)
class Case:
    """One legal placement of one tuner."""

    name: str
    placement: Placement

    @property
    def claims(self) -> Any:
        """The tuner's config, which states the claims."""
        return self.placement.tuner


def cases() -> Iterator[Case]:
    """Every registered tuner x corner options x legal operations x forms.

    Of two corners of a tuner one has no scale, and in the other the scales take turns over operations and forms.
    """
    for tuner_class in TUNERS:
        for i, options in enumerate(CORNERS.get(tuner_class.kind, ())):
            tuner = tuner_class(**options)
            blocks = "first 1" if tuner.once else "all"
            for j, operation in enumerate(tuner.operations):
                for k, form in enumerate(tuner.forms_at(operation)):
                    scaled = tuner.scalable and i % 2 == 1
                    scale = SCALES[1 + (j + k) % (len(SCALES) - 1)] if scaled else "none"
                    parts = (tuner.kind, *options.values(), operation, form, scale)
                    yield Case("-".join(map(str, parts)), Placement(operation, tuner, form, scale, blocks))


CASES = tuple(cases())
