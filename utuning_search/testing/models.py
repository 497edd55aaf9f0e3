"""Small backbones, tuned ones, and what of them is compared; a door to timm."""

from typing import Any, TypeVar

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.designs.design import Design
from utuning_search.designs.placement import Placement

M = TypeVar("M", bound=nn.Module)

IMAGE, PATCH, DIM, DEPTH, HEADS, CLASSES = 8, 2, 16, 2, 2, 5


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


def images() -> Tensor:
    """Four normalised images for `tiny_vit`."""
    return torch.randn(4, 3, IMAGE, IMAGE, generator=torch.Generator().manual_seed(7))


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


def snapshot(model: nn.Module) -> dict[str, tuple[bool, Tensor]]:
    """Name, trainable flag and values of all parameters."""
    return {n: (p.requires_grad, p.detach().clone()) for n, p in model.named_parameters()}


def same_snapshot(a: dict[str, tuple[bool, Tensor]], b: dict[str, tuple[bool, Tensor]]) -> bool:
    """Whether two snapshots are equal bit for bit."""
    return a.keys() == b.keys() and all(a[n][0] == b[n][0] and torch.equal(a[n][1], b[n][1]) for n in a)


def parts(model: nn.Module) -> list[tuple[str, int, bool]]:
    """Name, identity and mode of all modules."""
    return [(n, id(m), m.training) for n, m in model.named_modules()]
