"""How much an image looks like those that were trained on: scores for detecting images of other kinds, and two figures.

Each score is larger the more an image is like the known ones. Maximum softmax probability: Hendrycks & Gimpel (arXiv
1610.02136); maximum logit: Hendrycks et al. (arXiv 1911.11132); energy, at temperature 1: Liu et al. (arXiv 2010.03759,
equation 4, negated); nearest features: Sun et al. (arXiv 2204.06507).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

MSP, ENERGY, MAX_LOGIT, KNN = "msp", "energy", "max_logit", "knn"
SCORES = (MSP, ENERGY, MAX_LOGIT, KNN)
NEIGHBOURS = 10  # at most: of a few-shot task as many as its smallest class has
TPR = 0.95
Floats = npt.NDArray[np.float64]

_OF_LOGITS: dict[str, Callable[[Tensor], Tensor]] = {
    MSP: lambda logits: logits.softmax(dim=1).amax(dim=1),
    ENERGY: lambda logits: logits.logsumexp(dim=1),
    MAX_LOGIT: lambda logits: logits.amax(dim=1),
}


def of_logits(name: str, logits: Tensor) -> Floats:
    """The score of a name for logits (images, classes); in double precision, as 1 - 1e-9 and 1 are no tie."""
    found: Floats = _OF_LOGITS[name](logits.double()).cpu().numpy()
    return found


def neighbours(labels: Tensor) -> int:
    """Which nearest neighbour counts among training images of these classes, (images,)."""
    counts = torch.bincount(labels)
    return max(1, min(NEIGHBOURS, int(counts[counts > 0].min())))


def nearest(features: Tensor, known: Tensor, k: int, *, own: bool = False) -> Floats:
    """Cosine similarity of each image to its k-th nearest among the known ones: Sun et al. without their square root.

    Args:
        features: (images, dim).
        known: Of the training images, (known, dim).
        k: From 1; of fewer known images the last one counts.
        own: Whether `features` are `known` themselves: an image is then no neighbour of its own.
    """
    near = F.normalize(features, dim=1) @ F.normalize(known, dim=1).T
    if own:
        near.fill_diagonal_(-torch.inf)
    k = max(1, min(k, near.shape[1] - own))
    found: Floats = near.topk(k, dim=1).values[:, -1].double().cpu().numpy()
    return found


def auroc(known: Floats, unknown: Floats) -> float:
    """Chance that a known image has a larger score than an unknown one; 0.5 is a guess."""
    from sklearn.metrics import roc_auc_score  # takes a second to import, which most studies need not pay

    labels = np.repeat([1, 0], (len(known), len(unknown)))
    return float(roc_auc_score(labels, np.concatenate([known, unknown])))


def fpr_at_95(known: Floats, unknown: Floats) -> float:
    """Share of unknown images that pass for known where the threshold lets 95% of the known ones pass."""
    from sklearn.metrics import roc_curve

    labels = np.repeat([1, 0], (len(known), len(unknown)))
    fpr, tpr, _ = roc_curve(labels, np.concatenate([known, unknown]), drop_intermediate=False)
    return float(fpr[int(np.argmax(tpr >= TPR))])
