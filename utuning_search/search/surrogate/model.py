"""A model of final quality on features of designs."""

import numpy as np
import numpy.typing as npt

from utuning_search.search.surrogate.features import GROUPS, Floats
from utuning_search.search.surrogate.process import Process, matern, squares
from utuning_search.search.surrogate.subset import telling

# Inverse length scales of each group of features, found on TunerBench by marginal likelihood.
SCALES = np.repeat([0.3, 0.25, 0.4, 0.3, 1.05, 0.3, 0.4, 0.9, 0.6, 1.8], GROUPS)
SIZE = -3  # column
STRETCH = (0.7, 1.0, 1.4, 2.0)  # of all length scales, that are tried
AMOUNTS = (0.5, 1.0, 2.0)  # of the variance around the line, that are tried
USUAL, BELIEF = 0.03, 10.0  # standard deviation around the line, believed as firmly as so many trials say it
SLOPE = 0.3  # how little a slope of the line is believed beforehand


class Model:
    """Gaussian process regression around a straight line in the logarithm of the size.

    Length scales relative to each other are known, because a study's few trials could not tell them; how far the
    function varies, and over which distance, is chosen among a few by marginal likelihood. Of many trials it learns
    from some (`subset.py`), but the line and how far designs lie from it from all.

    Args:
        raw: (trials, features) of designs.
        quality: (trials,) at the end, or what a rung says of it.
        sd: (trials,) standard deviation of what a rung says; 0 where the end was measured.
        noise: Standard deviation of one measured quality: of validation images and of training.
        always: (trials,) which are learned from however many there are.
    """

    def __init__(
        self, raw: Floats, quality: Floats, sd: Floats, noise: float, always: npt.NDArray[np.bool_] | None = None
    ) -> None:
        variances = noise**2 + sd**2
        self._line = _line(raw, quality, variances)
        left = quality - _basis(raw) @ self._line
        weights = noise**2 / variances
        spread = float((weights @ left**2 + BELIEF * USUAL**2) / (weights.sum() + BELIEF))
        rows = telling(left - sd, np.zeros(len(raw), dtype=bool) if always is None else always)
        left, variances, self._inputs = left[rows], variances[rows], raw[rows] * SCALES
        apart, tried = squares(self._inputs, self._inputs), []
        for stretch in STRETCH:
            correlations = matern(apart / stretch**2)
            tried += [(stretch, Process(correlations, left, a * spread, variances)) for a in AMOUNTS]
        self._stretch, self._process = max(tried, key=lambda pair: pair[1].likelihood)

    def predict(self, raw: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the quality without the noise of one training: (designs,) each."""
        near = self._near(raw)
        return self._process.mean(near) + _basis(raw) @ self._line, self._process.sd(near)

    def mean(self, raw: Floats) -> Floats:
        """The mean alone, which takes much less time."""
        found: Floats = self._process.mean(self._near(raw)) + _basis(raw) @ self._line
        return found

    def draws(self, raw: Floats, count: int, rng: np.random.Generator) -> Floats:
        """The quality of designs together, without noise, drawn so many times: (count, designs). The line stays."""
        scaled = raw * SCALES
        own = matern(squares(scaled, scaled) / self._stretch**2)
        found: Floats = self._process.draws(self._near(raw), own, count, rng) + _basis(raw) @ self._line
        return found

    def _near(self, raw: Floats) -> Floats:
        return matern(squares(raw * SCALES, self._inputs) / self._stretch**2)


def _basis(raw: Floats) -> Floats:
    found: Floats = np.stack([np.ones(len(raw)), raw[:, SIZE]], axis=1)
    return found


def _line(raw: Floats, quality: Floats, variances: Floats) -> Floats:
    """Intercept and slope by weighted least squares."""
    basis, weights = _basis(raw), 1 / (variances + USUAL**2)
    prior = np.diag([1e-6, SLOPE]) * (weights.mean() if len(weights) else 1.0)
    return np.asarray(np.linalg.solve(basis.T @ (basis * weights[:, None]) + prior, basis.T @ (quality * weights)))
