"""From a rung to the end: what an unfinished training says of its final quality, in the light of finished ones.

Read the wrong way round, as a regression of the end on the rung, an early rung of every trial would say much the same,
the mean of finished trials, and count as an observation of it. So the rung is regressed on the end: x = a + b q + c z
+ e, with z the logarithm of the learning rate, for a high rate is ahead early and for no good reason. Then a rung is an
observation (x - a - c z) / b of q with the noise e / b, and an early one hardly counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from utuning_search.search.surrogate.features import Floats

# As found on TunerBench; each counts as much as a few finished trials of the study at hand.
SLOPE, LEAST_SLOPE = 1.2, 0.5
AHEAD = 0.0035  # that twice the learning rate is ahead at a quarter of the epochs; falls with their square
NOISE, FALLS = 0.014, 0.85  # at half of the epochs, and the power of the share that it falls with
PAIRS = 5.0


@dataclass(frozen=True)
class RungModel:
    """What a rung says of the end.

    Args:
        rung: (trials,) quality at the rung of trials that were finished.
        final: (trials,) at the end.
        rates: (trials,) logarithms to base 2 of their learning rates.
        share: Of the epochs that are trained by then.
    """

    rung: Floats
    final: Floats
    rates: Floats
    share: float

    def observe(self, value: float, rate: float) -> tuple[float, float]:
        """Final quality and its standard deviation, where a trial of such a rate is measured at `value`."""
        if not len(self.rung):
            return value, 1.0
        slope, ahead, sd = self._fit
        found = self.final.mean() + (value - self.rung.mean() - ahead * (rate - self.rates.mean())) / slope
        return float(found), sd / slope

    @cached_property
    def _fit(self) -> tuple[float, float, float]:
        """Slope, what twice the rate is ahead by, and standard deviation of what is left, of another trial."""
        noise = NOISE * (2 * self.share) ** -FALLS
        count = len(self.rung)
        q, z = self.final - self.final.mean(), self.rates - self.rates.mean()
        x = self.rung - self.rung.mean()
        # Ridge regression towards the usual coefficients, in units of a usual spread of each.
        design = np.stack([q, z], axis=1)
        prior = np.array([SLOPE, AHEAD / (4 * self.share) ** 2])
        weight = PAIRS * np.array([0.015**2, 1.0])
        slope, ahead = prior + np.linalg.solve(design.T @ design + np.diag(weight), design.T @ (x - design @ prior))
        slope = max(float(slope), LEAST_SLOPE)
        left = x - design @ np.array([slope, ahead])
        variance = (float((left**2).sum()) + PAIRS * noise**2) / (count + PAIRS)
        return slope, float(ahead), float(np.sqrt(variance * (1 + 1 / count)))


def ends(curves: Sequence[Mapping[int, float]], rates: Sequence[float], last: int) -> list[tuple[float, float] | None]:
    """Final quality and its standard deviation, 0 where it was measured, of trials given by their quality at rungs.

    Args:
        curves: By epoch; of a trial that was never measured nothing is known: None.
        rates: Learning rates.
        last: Epoch.
    """
    found: list[tuple[float, float] | None] = []
    logs = np.log2(np.array(rates, dtype=np.float64))
    models: dict[int, RungModel] = {}
    for curve, rate in zip(curves, logs, strict=True):
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
            models[epoch] = RungModel(rung, final, logs[rows], epoch / last)
        found.append(models[epoch].observe(curve[epoch], float(rate)))
    return found
