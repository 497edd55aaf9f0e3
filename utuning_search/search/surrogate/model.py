"""A model of final quality on features of designs."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from utuning_search.search.surrogate.features import GROUPS, Floats
from utuning_search.search.surrogate.process import Process, matern, squares
from utuning_search.search.surrogate.subset import telling

# Inverse length scales of each group of features, found on TunerBench by marginal likelihood.
SCALES = np.repeat([0.3, 0.25, 0.4, 0.3, 1.05, 0.3, 0.4, 0.9, 0.6, 1.8, 0.0], GROUPS)
SIZE, BARE = -4, -1  # columns of the line
STRETCH = (0.7, 1.0, 1.4, 2.0)  # of all length scales, that are tried
AMOUNTS = (0.5, 1.0, 2.0)  # of the variance around the line, that are tried
USUAL, BELIEF = 0.03, 10.0  # standard deviation around the line, believed as firmly as so many trials say it
SLOPE, PROBE = 0.3, 0.02  # how little a slope of the line is believed beforehand, and what a bare head lacks
FAR = 1.5  # standard deviations from the line, from which on it is drawn less and less
RISE = 0.5  # how far a rise from a bare head is off, as a share of it
LOWEST = 2.5  # below the line, in which nothing is told apart: training went wrong
STEPS = 10  # of reweighting
CHOOSING = 150  # trials by which stretch and amount are chosen, where there are more


class Model:
    """Gaussian process regression around a straight line in the logarithm of the size, with a drop towards a bare head.

    Length scales relative to each other are known, because a study's few trials could not tell them; how far the
    function varies, and over which distance, is chosen among a few by marginal likelihood. Of many trials it learns
    from some (`subset.py`), but the line and how far designs lie from it from all.

    Some trainings fail, and how badly is beside the point: the line is drawn by Huber's weights, and what lies far
    below it counts as if it lay less far. Otherwise a few such trials would have designs seem to vary far more than
    good ones do, and nothing would be learnt of those.

    How steeply quality rises from a bare head differs between tasks and tuners more than anything else, so next to one
    designs vary more, by `RISE` of the drop that the line has there, and what is learnt of it is little said of larger
    ones. (Else one small design that is much better than the line has it had all that are like it seem as good, were
    they ever so much larger.)

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
        above = quality - _basis(raw) @ self._line
        left = np.maximum(above, -LOWEST * np.sqrt(_width(above) ** 2 + sd**2))
        bare = raw[:, BARE]
        weights = noise**2 / variances * np.maximum(1 - 2 * bare, 1e-9)
        spread = float((weights @ left**2 + BELIEF * USUAL**2) / (weights.sum() + BELIEF))
        rows = telling(left - sd, np.zeros(len(raw), dtype=bool) if always is None else always)
        left, variances, self._inputs, self._bare = left[rows], variances[rows], raw[rows] * SCALES, bare[rows]
        every = np.arange(len(rows))
        # A dozen fits of all would take most of a proposal's time, and tell no more of two numbers than half of them.
        some = every if len(every) <= CHOOSING else every[np.arange(CHOOSING) * len(every) // CHOOSING]
        fits = [(fit, stretch) for stretch in STRETCH for fit in self._fits(left, variances, stretch, spread, some)]
        best, self._stretch = max(fits, key=lambda pair: pair[0].likelihood)
        if len(some) < len(every):
            (best,) = self._fits(left, variances, self._stretch, best.variance, every, (1.0,))
        self._process = best

    def _fits(
        self,
        left: Floats,
        variances: Floats,
        stretch: float,
        variance: float,
        some: npt.NDArray[np.intp],
        amounts: Sequence[float] = AMOUNTS,
    ) -> list[Process]:
        """Of some of the trials, for each amount of the variance."""
        inputs, bare = self._inputs[some], self._bare[some]
        correlations = matern(squares(inputs, inputs) / stretch**2)
        found = []
        for amount in amounts:
            more = 1 + self._rise(amount * variance) * bare[:, None] * bare
            found.append(Process(correlations * more, left[some], amount * variance, variances[some]))
        return found

    def predict(self, raw: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the quality without the noise of one training: (designs,) each."""
        near, own = self._near(raw), 1 + self._rise(self._process.variance) * raw[:, BARE] ** 2
        return self._process.mean(near) + _basis(raw) @ self._line, self._process.sd(near, own)

    def mean(self, raw: Floats) -> Floats:
        """The mean alone, which takes much less time."""
        found: Floats = self._process.mean(self._near(raw)) + _basis(raw) @ self._line
        return found

    def draws(self, raw: Floats, count: int, rng: np.random.Generator) -> Floats:
        """The quality of designs together, without noise, drawn so many times: (count, designs). The line stays."""
        scaled = raw * SCALES
        own = matern(squares(scaled, scaled) / self._stretch**2)
        bare = raw[:, BARE]
        own *= 1 + self._rise(self._process.variance) * bare[:, None] * bare
        found: Floats = self._process.draws(self._near(raw), own, count, rng) + _basis(raw) @ self._line
        return found

    def _near(self, raw: Floats) -> Floats:
        found = matern(squares(raw * SCALES, self._inputs) / self._stretch**2)
        return found * self._more(self._process.variance, raw[:, BARE][:, None])

    def _more(self, variance: float, bare: Floats) -> Floats:
        """What correlations with those that were learned from are multiplied with."""
        return 1 + self._rise(variance) * bare * self._bare

    def _rise(self, variance: float) -> float:
        """How much more a bare head varies than other designs do, in terms of their variance."""
        return (RISE * float(self._line[BARE])) ** 2 / variance


def _basis(raw: Floats) -> Floats:
    found: Floats = np.stack([np.ones(len(raw)), raw[:, SIZE], raw[:, BARE]], axis=1)
    return found


def _line(raw: Floats, quality: Floats, variances: Floats) -> Floats:
    """Intercept, slope and what a bare head adds, by weighted least squares with Huber's weights."""
    basis, firm = _basis(raw), raw[:, BARE] > 0.5
    found: Floats = np.zeros(3)
    weights = 1 / (variances + USUAL**2)
    prior = np.diag([1e-6, SLOPE, PROBE]) * (weights.mean() if len(weights) else 1.0)
    share: Floats = np.ones(len(raw))
    for _ in range(STEPS):
        scaled = basis * (weights * share)[:, None]
        found = np.asarray(np.linalg.solve(basis.T @ scaled + prior, scaled.T @ quality))
        apart = np.abs(quality - basis @ found) * np.sqrt(weights)
        share = np.where(firm, 1.0, FAR / np.maximum(apart, FAR))
    return found


def _width(above: Floats) -> float:
    """The standard deviation around the line of those that did not go wrong, by the median; not below the usual one."""
    return max(USUAL, 1.4826 * float(np.median(np.abs(above)))) if len(above) else USUAL
