"""From a rung to the end: what trials that were trained to the end say of those that were not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SLOPE, SLOPE_PAIRS = 0.6, 4.0  # believed before any trial is complete, and as firmly as so many pairs
SPREAD, SPREAD_PAIRS = 0.03, 3.0  # of what is predicted after no epoch at all, likewise; it falls to 0 at the end
GAIN = 0.5  # share of what is missing to 1 that is believed to be won after a first rung


@dataclass(frozen=True)
class Extrapolation:
    """Final quality from that of a rung: a straight line, its slope held near a usual one while trials are few.

    Args:
        rung: (trials,) quality at the rung.
        final: (trials,) of the same trials at the end.
        share: Of the epochs that are trained by then.
    """

    rung: Sequence[float]
    final: Sequence[float]
    share: float

    def predict(self, value: float) -> tuple[float, float]:
        """Mean and standard deviation of the end, where the rung says `value`."""
        believed = SPREAD * (1 - self.share**0.5)
        if not self.rung:
            return value + GAIN * max(1 - value, 0.0), 2 * believed + 0.02
        x, y = np.array(self.rung), np.array(self.final)
        spread = x.std() + 1e-3
        prior = SLOPE_PAIRS * spread**2
        slope = (((x - x.mean()) * (y - y.mean())).sum() + SLOPE * prior) / (((x - x.mean()) ** 2).sum() + prior)
        left = y - y.mean() - slope * (x - x.mean())
        variance = ((left**2).sum() + SPREAD_PAIRS * believed**2) / (len(x) + SPREAD_PAIRS)
        far = 1 + 1 / len(x) + ((value - x.mean()) / spread) ** 2 / (len(x) + SLOPE_PAIRS)
        return float(y.mean() + slope * (value - x.mean())), float(np.sqrt(variance * far))


def ends(measured: Sequence[Mapping[int, float]], last: int) -> list[tuple[float, float] | None]:
    """Mean and standard deviation of the quality at the last epoch, of trials given by their quality at each rung.

    Args:
        measured: By epoch; empty for a trial that was never measured, which gets None.
        last: Epoch.
    """
    found: list[tuple[float, float] | None] = []
    lines: dict[int, Extrapolation] = {}
    for curve in measured:
        if not curve:
            found.append(None)
            continue
        epoch = max(curve)
        if epoch == last:
            found.append((curve[last], 0.0))
            continue
        if epoch not in lines:
            pairs = [(c[epoch], c[last]) for c in measured if epoch in c and last in c]
            lines[epoch] = Extrapolation([a for a, _ in pairs], [b for _, b in pairs], epoch / last)
        found.append(lines[epoch].predict(curve[epoch]))
    return found
