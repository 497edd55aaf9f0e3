"""From a rung to the end: what an unfinished training says of its final quality, in the light of finished ones.

Read the wrong way round, as a regression of the end on the rung, an early rung of every trial would say much the same,
the mean of finished trials, and count as an observation of it. So the rung is regressed on the end: x = a + b q + c z
+ d w + e, with z the logarithm of the learning rate, for a high rate is ahead early and for no good reason, and w that
of the rate that suits the design (`rate_factor`), for what wants a high one levels off soon. Then a rung is an
observation (x - a - c z - d w) / b of q with the noise e / b, and an early one hardly counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from utuning_search.search.surrogate.features import Floats

# As found on TunerBench; each counts as much as a few finished trials of the study at hand.
STEEP, LEAST_SLOPE = 0.4, 0.5  # the power of the share of epochs that b falls with, to 1 at the end
AHEAD = 0.0035  # c, that twice the learning rate is ahead at a quarter of the epochs; falls with their square
SOON = 0.02  # d, that twice the rate that suits is ahead at first; falls with the square of what is left to train.
# On digits-200 it was half as much again, on other tasks less.
NOISE, FALLS = 0.014, 0.85  # at half of the epochs, and the power of the share that it falls with
PAIRS = 8.0
USUAL = np.array([0.015, 1.0, 1.0])  # spread of ends and of handicaps, which says how much a finished trial tells


@dataclass(frozen=True)
class RungModel:
    """What a rung says of the end.

    Args:
        rung: (trials,) quality at the rung of trials that were finished.
        final: (trials,) at the end.
        handicaps: (trials, 2) logarithms to base 2 of their learning rates, and of those that suit them.
        share: Of the epochs that are trained by then.
    """

    rung: Floats
    final: Floats
    handicaps: Floats
    share: float

    def observe(self, value: float, handicaps: Floats) -> tuple[float, float]:
        """Final quality and its standard deviation, where a trial of such handicaps (2,) is measured at `value`."""
        if not len(self.rung):
            return value, 1.0
        level, slope, ahead, sd = self._fit
        return (value - level - float(handicaps @ ahead)) / slope, sd / slope

    @cached_property
    def _fit(self) -> tuple[float, float, Floats, float]:
        """a, b, (c, d) and the standard deviation of e, of another trial."""
        noise, count = NOISE * (2 * self.share) ** -FALLS, len(self.rung)
        prior = np.array([self.share**-STEEP, AHEAD / (4 * self.share) ** 2, SOON * (1 - self.share) ** 2])
        columns = np.column_stack([self.final, self.handicaps])
        means, x = columns.mean(axis=0), self.rung - self.rung.mean()
        columns = columns - means
        # Ridge regression towards the usual coefficients.
        gram = columns.T @ columns + PAIRS * np.diag(USUAL**2)
        found = prior + np.linalg.solve(gram, columns.T @ (x - columns @ prior))
        found[0] = max(found[0], LEAST_SLOPE)
        variance = (float(((x - columns @ found) ** 2).sum()) + PAIRS * noise**2) / (count + PAIRS)
        level = float(self.rung.mean() - means @ found)
        return level, float(found[0]), found[1:], float(np.sqrt(variance * (1 + 1 / count)))


def ends(curves: Sequence[Mapping[int, float]], handicaps: Floats, last: int) -> list[tuple[float, float] | None]:
    """Final quality and its standard deviation, 0 where it was measured, of trials given by their quality at rungs.

    Args:
        curves: By epoch; of a trial that was never measured nothing is known: None.
        handicaps: (trials, 2); see `RungModel`.
        last: Epoch.
    """
    found: list[tuple[float, float] | None] = []
    models: dict[int, RungModel] = {}
    for curve, own in zip(curves, handicaps, strict=True):
        if not curve:
            found.append(None)
            continue
        epoch = max(curve)
        if epoch == last:
            found.append((curve[last], 0.0))
            continue
        if epoch not in models:
            rows = [i for i, c in enumerate(curves) if epoch in c and last in c]
            rung, final = (np.array([curves[i][e] for i in rows]) for e in (epoch, last))
            models[epoch] = RungModel(rung, final, handicaps[rows], epoch / last)
        found.append(models[epoch].observe(curve[epoch], own))
    return found
