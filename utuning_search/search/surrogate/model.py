"""A model of final quality on features of designs, fed with finished, pruned and running trials."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utuning_search.designs.design import Design
from utuning_search.search.surrogate.features import GROUPS, Floats, matrix
from utuning_search.search.surrogate.process import Process
from utuning_search.tuners import BackboneShape

# Inverse length scales of each group of features, learned on TunerBench by marginal likelihood.
SCALES = np.repeat([0.3, 0.25, 0.4, 0.3, 1.05, 0.3, 0.4, 0.9, 0.6, 1.8], GROUPS)
SIZE, RATE = -3, -1  # columns
AMOUNTS = (0.5, 1.0, 2.0)  # of the variance around the line that may be the function's
STRETCH = (0.7, 1.0, 1.4)  # of all length scales


@dataclass(frozen=True)
class Observed:
    """What is known of designs.

    Attributes:
        designs: Resolved.
        quality: (designs,) at the end, or what is expected of it.
        sd: (designs,) of what is expected; 0 where it was measured.
    """

    designs: Sequence[Design]
    quality: Floats
    sd: Floats


class Model:
    """Gaussian process regression around a straight line in the logarithm of the size.

    Args:
        observed: At least one design.
        shape: Of the backbone.
        learning_rate: Of the task.
        noise: Standard deviation of one measured quality: of validation images and of training.
    """

    def __init__(self, observed: Observed, shape: BackboneShape, learning_rate: float, noise: float) -> None:
        self._shape, self._rate = shape, learning_rate
        raw = matrix(observed.designs, shape, learning_rate)
        self._line = _line(raw, observed.quality, observed.sd, noise)
        left = observed.quality - self._mean(raw)
        variances = noise**2 + observed.sd**2
        spread = max(float(np.average(left**2, weights=1 / variances)), noise**2)
        candidates = [
            Process(raw * SCALES / stretch, left, amount * spread, variances)
            for stretch in STRETCH
            for amount in AMOUNTS
        ]
        self._process = max(candidates, key=lambda p: p.likelihood)
        self._stretch = next(s for s in STRETCH if np.array_equal(self._process.inputs, raw * SCALES / s))

    def predict(self, designs: Sequence[Design]) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the final quality, without the noise of one training: (designs,) each."""
        raw = matrix(designs, self._shape, self._rate)
        mean, sd = self._process.predict(raw * SCALES / self._stretch)
        return mean + self._mean(raw), sd

    def _mean(self, raw: Floats) -> Floats:
        found: Floats = _basis(raw) @ self._line
        return found


def _basis(raw: Floats) -> Floats:
    return np.stack([np.ones(len(raw)), raw[:, SIZE]], axis=1)


def _line(raw: Floats, quality: Floats, sd: Floats, noise: float) -> Floats:
    """Least squares, with little belief in any slope."""
    basis, weights = _basis(raw), 1 / (noise**2 + sd**2 + 0.05**2)
    prior = np.diag([1e-6, 0.3]) * weights.mean()
    found: Floats = np.linalg.solve(basis.T @ (basis * weights[:, None]) + prior, basis.T @ (quality * weights))
    return found
