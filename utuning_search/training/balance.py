"""Training on classes of unequal size as if they were equal: by weights of the loss, or by how often each is drawn."""

import torch
from torch import Tensor

NONE, WEIGHTS, SAMPLING = BALANCES = ("none", "weights", "sampling")


def class_weights(labels: Tensor) -> Tensor:
    """Weights (classes,) of the loss, in inverse proportion to a class's images; 1 on average over images; on the CPU.

    As scikit-learn's "balanced" class weights. A class without images has 0.

    Args:
        labels: int64 (images,).
    """
    counts = torch.bincount(labels.cpu()).double()
    weights = len(labels) / (counts.gt(0).sum() * counts)
    return torch.where(counts > 0, weights, 0.0).float()


def drawn(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Rows of an epoch, (images,) on the CPU: drawn with replacement, each class as often as any other on average.

    Args:
        labels: int64 (images,).
        generator: On the CPU.
    """
    weights = class_weights(labels)[labels.cpu()]
    return torch.multinomial(weights.double(), len(labels), replacement=True, generator=generator)
