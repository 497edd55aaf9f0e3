"""Which trials a model learns from where there are too many of them: a fit takes as long as their number cubed."""

import numpy as np
import numpy.typing as npt

from utuning_search.search.surrogate.features import Floats

MOST = 300
NEAR = 0.5  # share of them that are the best: of what a front is made of they say more than all trials do


def telling(heights: Floats, always: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Numbers of trials, ascending: all, or `MOST` of them, half the best and half spread evenly over the others.

    Args:
        heights: (trials,) how good each is for its size.
        always: (trials,) which are never left out, unless they alone are too many.
    """
    if len(heights) <= MOST:
        return np.arange(len(heights))
    order = np.lexsort((-heights, ~always))
    best = min(max(int(NEAR * MOST), int(always.sum())), MOST)
    others, left = order[best:], MOST - best
    return np.sort(np.concatenate([order[:best], others[np.arange(left) * len(others) // max(left, 1)]]))
