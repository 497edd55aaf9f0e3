"""Limits of axes that fit a front, and what they leave outside."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from utuning_search.search.trials import TrialRecord

Value = Callable[[TrialRecord], float]
MARGIN, BELOW = 0.07, 0.15  # of the front's height: around it, and on the side where the others stand
SIDE = 0.06  # of the width, in decades where it is logarithmic


@dataclass(frozen=True)
class Limits:
    """What a pair of axes shows.

    Attributes:
        x, y: From and to.
        outside: Trials that are not shown, in their order.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    outside: tuple[TrialRecord, ...] = ()


def fit(
    front: Sequence[TrialRecord],
    others: Sequence[TrialRecord],
    x: Value,
    y: Value,
    bars: Sequence[float] = (),
    *,
    log: bool = True,
    best_is_high: bool = True,
    most: float = np.inf,
) -> Limits | None:
    """Limits around a front and its bars; others are shown as far as they are about as high.

    A few trials that learned nothing, or that were pruned at once, would else press the front into a line. None where
    nothing is to be shown.

    Args:
        front: Shown whole; where there is none, the others are.
        others: Shown where they fit; how wide the picture is goes by those that do.
        x, y: A trial's place.
        bars: Ends of the front's error bars.
        log: Whether x is logarithmic.
        best_is_high: Whether the front lies at the top, so that others are looked for below it.
        most: The largest y there can be, which needs little margin.
    """
    first = front or others
    if not first:
        return None
    heights = [*map(y, first), *bars]
    low, high = min(heights), max(heights)
    span = (high - low) or max(abs(high), 1.0) * 0.1
    down, up = (BELOW, MARGIN) if best_is_high else (MARGIN, BELOW)
    bottom, top = low - down * span, min(high + up * span, most + 0.03 * span)
    shown = [r for r in (*front, *others) if bottom <= y(r) <= top]
    places = np.log10([x(r) for r in shown]) if log else np.array([x(r) for r in shown])
    left, right = float(places.min()), float(places.max())
    pad = SIDE * (right - left) or 0.1
    ends = (left - pad, right + pad)
    kept = {r.number for r in shown}
    outside = tuple(r for r in others if r.number not in kept)
    return Limits((10 ** ends[0], 10 ** ends[1]) if log else ends, (bottom, top), outside)
