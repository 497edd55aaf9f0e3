"""Whether a tuner is right as often as it is sure: expected calibration error and what a reliability diagram shows."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BINS = 15  # of equal width, as in Guo et al. 2017 (arXiv 1706.04599)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """Answers by how sure they were, those of all seeds together.

    Attributes:
        edges: Of the bins, (bins + 1,), from 0 to 1.
        answers: In each bin, (bins,).
        confidence: Their mean probability of the class that was answered, (bins,); 0 without answers.
        accuracy: The share of them that is right, (bins,); 0 without answers.
        error: Expected calibration error: how far the two are apart, averaged over answers; the mean over seeds of each
            one's own, because what is exported is one of them.
    """

    edges: Floats
    answers: npt.NDArray[np.int64]
    confidence: Floats
    accuracy: Floats
    error: float


def calibration(confidences: Floats, correct: npt.NDArray[np.bool_]) -> Calibration:
    """How sure trainings were, beside how often they were right.

    Args:
        confidences: Probability of the class that was answered, (seeds, images).
        correct: Whether it is the right one, (seeds, images).
    """
    answers, confidence, accuracy = _binned(confidences.ravel(), correct.ravel())
    errors = []
    for sure, right in zip(confidences, correct, strict=True):
        own, mean, share = _binned(sure, right)
        errors.append(float((own * np.abs(mean - share)).sum()) / max(len(sure), 1))
    return Calibration(np.linspace(0, 1, BINS + 1), answers, confidence, accuracy, float(np.mean(errors)))


def _binned(sure: Floats, right: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Number, mean confidence and accuracy of the answers of each bin, which holds its upper end."""
    rows = np.clip(np.ceil(sure.astype(np.float64) * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts, some = np.bincount(rows, minlength=BINS), np.maximum(np.bincount(rows, minlength=BINS), 1)
    means, shares = (np.bincount(rows, weights=values, minlength=BINS) / some for values in (sure, right))
    return counts, means, shares
