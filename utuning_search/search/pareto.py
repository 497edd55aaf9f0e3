"""Pareto fronts of any number of objectives: dominance, hypervolume, knee.

Points are rows of gains, all to be maximized (`Objectives.gains`), or of goodness, placed between each objective's
bounds (`Objectives.goodness`).

Tie policy: a point is dominated if another is at least as good in all objectives and better in one. Of points
equal in all, the earliest given stands on the front and the later ones do not.
"""

import moocore
import numpy as np
import numpy.typing as npt

from utuning_search.common.errors import InputError

Floats = npt.NDArray[np.float64]


def front(gains: npt.ArrayLike, cost: int = -1) -> list[int]:
    """Indices of the non-dominated points.

    Args:
        gains: (n, objectives) to be maximized.
        cost: Column that they are listed by, its best first; then by the others, the worst first.
    """
    points = _checked(gains)
    cost %= max(points.shape[1], 1)
    others = [i for i in range(points.shape[1]) if i != cost]
    # The best of the cost first, then the best of the others: whoever dominates a point comes before it.
    order = np.lexsort((np.arange(len(points)), *(-points[:, i] for i in reversed(others)), -points[:, cost]))
    if len(others) == 1:  # then whoever is better than all before it stands, which is known at once
        rest = points[order, others[0]]
        better = rest > np.maximum.accumulate(np.append(-np.inf, rest))[:-1]
        return [int(i) for i in order[better]]
    found: list[int] = []
    standing = np.empty_like(points)
    for i in order:
        kept = standing[: len(found)]
        # An equal point counts too: the earlier one stands.
        if not (kept >= points[i]).all(axis=1).any():
            standing[len(found)] = points[i]
            found.append(int(i))
    return sorted(found, key=lambda i: (-points[i, cost], *(points[i, j] for j in others), i))


def hypervolume(goodness: npt.ArrayLike) -> float:
    """Share in [0, 1] of the box between the bounds that the points dominate.

    Figures of one study are comparable at any time, and those of studies whose bounds are the same.

    Args:
        goodness: (n, objectives); below 0 adds nothing, above 1 counts as 1.
    """
    points = np.clip(_checked(goodness), 0.0, 1.0)
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(points.max())
    if points.shape[1] > 2:
        return float(moocore.hypervolume(points, ref=np.zeros(points.shape[1]), maximise=True))
    area, floor = 0.0, 0.0
    for i in front(points):
        if points[i, 1] > 0:
            area += float(points[i, 1] * (points[i, 0] - floor))
            floor = float(points[i, 0])
    return area


def knee(goodness: npt.ArrayLike, quality: int = 0, cost: int = -1) -> int:
    """Index of the front's knee: the point with the highest sum of goodness, each scaled to [0, 1] over the front.

    With two objectives that is the point farthest above the chord of the front's ends (Kneedle: Satopaa et al.,
    2011). With fewer than three front points it is the best in column `quality`.
    """
    points = _checked(goodness)
    indices = front(points, cost)
    if not indices:
        raise InputError("knee", "at least one point", "none")
    best = points[indices]
    if len(indices) < 3:
        return indices[int(np.argmax(best[:, quality]))]
    low, span = best.min(axis=0), np.ptp(best, axis=0)
    scaled = (best - low) / np.where(span > 0, span, 1.0)
    return indices[int(np.argmax(scaled.sum(axis=1)))]


class Archive:
    """The front of points that come one at a time."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._gains: Floats | None = None

    def add(self, number: int, gains: Floats) -> None:
        """Let a point in, unless one of the front dominates it; points equal in all leave the lowest number."""
        if self._gains is None:
            self._numbers, self._gains = [number], gains[None]
            return
        at_least: npt.NDArray[np.bool_] = np.all(self._gains >= gains, axis=1)
        at_most: npt.NDArray[np.bool_] = np.all(self._gains <= gains, axis=1)
        equal = at_least & at_most
        earlier = np.array(self._numbers) < number
        if (at_least & ~equal).any() or (equal & earlier).any():
            return
        self._numbers = [*np.array(self._numbers)[~at_most].tolist(), number]
        self._gains = np.concatenate([self._gains[~at_most], gains[None]])

    @property
    def numbers(self) -> list[int]:
        """Of the front's points, ascending."""
        return sorted(self._numbers)


def _checked(points: npt.ArrayLike) -> Floats:
    found = np.asarray(points, dtype=np.float64)
    if found.ndim != 2 or not np.isfinite(found).all():
        raise InputError("front", "points are finite, of shape (n, objectives)", f"{found.shape}")
    return found
