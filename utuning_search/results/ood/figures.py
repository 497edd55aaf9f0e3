"""AUROC and FPR at 95% TPR of a design's trainings, with intervals over images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utuning_search.results.ood.intervals import Draws, curves, interval
from utuning_search.results.rows import check_shares
from utuning_search.training.ood_scores import Floats, auroc, fpr_at_95


@dataclass(frozen=True)
class Detection:
    """How well a design tells unknown images from its own by a score.

    Attributes:
        key: Of the design.
        name: Of the finalist.
        outliers: Name of the set of unknown images.
        method: "tuned", "use" or "dsgf"; see `scoring.py`.
        score: Of `ood_scores.SCORES`.
        auroc, fpr95: Means over trainings, in [0, 1].
        auroc_low, auroc_high, fpr95_low, fpr95_high: 95% over the choice of images, not of trainings.
        accuracy: On the test images, by the same head.
        seeds: Trainings.
        test_images, outlier_images: How many were compared.
    """

    key: str
    name: str
    outliers: str
    method: str
    score: str
    auroc: float
    auroc_low: float
    auroc_high: float
    fpr95: float
    fpr95_low: float
    fpr95_high: float
    accuracy: float
    seeds: int
    test_images: int
    outlier_images: int

    def __post_init__(self) -> None:
        ends = {"auroc_low": self.auroc_low, "auroc_high": self.auroc_high}
        ends |= {"fpr95_low": self.fpr95_low, "fpr95_high": self.fpr95_high}
        check_shares(auroc=self.auroc, fpr95=self.fpr95, accuracy=self.accuracy, **ends)


def figures(pairs: Sequence[tuple[Floats, Floats]], drawn: Draws) -> dict[str, float]:
    """The figures of `Detection` from the scores of known and of unknown images, a pair a training."""
    samples = [curves(known, unknown, drawn) for known, unknown in pairs]
    areas, rates = (np.mean([s[i] for s in samples], axis=0) for i in (0, 1))
    ends = {"auroc": interval(areas), "fpr95": interval(rates)}
    return {
        "auroc": float(np.mean([auroc(*pair) for pair in pairs])),
        "fpr95": float(np.mean([fpr_at_95(*pair) for pair in pairs])),
        **{f"{name}_{side}": value[i] for name, value in ends.items() for i, side in enumerate(("low", "high"))},
    }
