"""Pareto fronts of accuracy (up) against trainable parameters (down): dominance, hypervolume, knee.

Tie policy: a point is dominated if another is at least as good in both and better in one. Of points
equal in both, the earliest given stands on the front and the later ones do not.
"""

import numpy as np
import numpy.typing as npt

from utuning_search.common.errors import InputError

Floats = npt.ArrayLike


def front(accuracy: Floats, parameters: Floats) -> list[int]:
    """Indices of the non-dominated points, by parameters ascending.

    Args:
        accuracy: (n,) to be maximized.
        parameters: (n,) to be minimized.
    """
    a, p = _pair(accuracy, parameters)
    # By parameters up, then accuracy down, then the order given: a point stands if it beats all before it.
    order = np.lexsort((np.arange(len(a)), -a, p))
    found: list[int] = []
    best = -np.inf
    for i in order:
        if a[i] > best:
            found.append(int(i))
            best = float(a[i])
    return found


def hypervolume(accuracy: Floats, parameters: Floats, *, reference: float) -> float:
    """Share in [0, 1] of the box that the points dominate, on a log axis of parameters.

    The box spans accuracy 0 to 1 and parameters 1 to `reference` (log10), so figures of one study are
    comparable at any time, and those of two studies where the reference is the same.

    Args:
        accuracy: (n,) in [0, 1].
        parameters: (n,) at least 1; points above `reference` add nothing.
        reference: The largest size that counts, in parameters: full fine-tuning of the backbone.
    """
    a, p = _pair(accuracy, parameters)
    if reference <= 1:
        raise InputError("hypervolume", "reference is above 1", reference)
    if len(p) and p.min() < 1:
        raise InputError("hypervolume", "parameters are at least 1", p.min())
    top = np.log10(reference)
    area, floor = 0.0, 0.0
    for i in front(a, p):
        width = top - np.log10(p[i])
        if width > 0:
            area += float(width * (a[i] - floor))
            floor = float(a[i])
    return area / float(top)


def knee(accuracy: Floats, parameters: Floats) -> int:
    """Index of the front's knee: the point farthest above the chord of the front's ends.

    Both axes are scaled to [0, 1], parameters by their logarithm (Kneedle: Satopaa et al., 2011). With
    fewer than three front points it is the most accurate one.
    """
    a, p = _pair(accuracy, parameters)
    indices = front(a, p)
    if not indices:
        raise InputError("knee", "at least one point", "none")
    if len(indices) < 3:
        return indices[-1]
    x, y = np.log10(p[indices]), a[indices]
    gain = (y - y[0]) / (y[-1] - y[0]) - (x - x[0]) / (x[-1] - x[0])
    return indices[int(np.argmax(gain))]


def _pair(accuracy: Floats, parameters: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    a = np.asarray(accuracy, dtype=np.float64)
    p = np.asarray(parameters, dtype=np.float64)
    if a.ndim != 1 or a.shape != p.shape or not (np.isfinite(a).all() and np.isfinite(p).all()):
        raise InputError(
            "front", "accuracy and parameters are finite and of one length (n,)", f"{a.shape} and {p.shape}"
        )
    return a, p
