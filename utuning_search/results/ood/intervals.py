"""95% intervals of AUROC and FPR at 95% TPR by bootstrap: known and unknown images are drawn anew, each by itself.

All scores, designs and seeds are seen on the same draws, so that their intervals may be compared.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from utuning_search.training.ood_scores import TPR, Floats

DRAWS, SHARE, AT_ONCE = 1000, 0.95, 100


@dataclass(frozen=True, eq=False)
class Draws:
    """How often each image was drawn.

    Attributes:
        known, unknown: (draws, images) of either kind.
    """

    known: npt.NDArray[np.int32]
    unknown: npt.NDArray[np.int32]


def draws(known: int, unknown: int, seed: int = 0, count: int = DRAWS) -> Draws:
    """Draws with replacement of so many images of either kind."""
    rng = np.random.default_rng(seed)
    both = (rng.multinomial(n, np.full(n, 1 / n), size=count).astype(np.int32) for n in (known, unknown))
    return Draws(*both)


def curves(known: Floats, unknown: Floats, drawn: Draws) -> tuple[Floats, Floats]:
    """AUROC and FPR at 95% TPR of each draw, (draws,) both; ties count half, as in scikit-learn's.

    Args:
        known, unknown: Scores of the images, (images,) each.
        drawn: Of them.
    """
    values, place = np.unique(-np.concatenate([known, unknown]), return_inverse=True)  # the most known first
    order, ends = np.argsort(place, kind="stable"), np.cumsum(np.bincount(place, minlength=len(values)))
    areas, rates = [], []
    for first in range(0, len(drawn.known), AT_ONCE):
        passed = []
        for i, own in enumerate((drawn.known, drawn.unknown)):
            part = own[first : first + AT_ONCE]
            whole = np.zeros((len(part), len(place)))
            start = i * len(known)
            whole[:, start : start + part.shape[1]] = part
            found = np.cumsum(whole[:, order], axis=1)[:, ends - 1]
            passed.append(found / found[:, -1:])
        tpr, fpr = passed
        before = np.pad(tpr, ((0, 0), (1, 0)))[:, :-1]
        areas.append((np.diff(fpr, axis=1, prepend=0) * (tpr + before) / 2).sum(axis=1))
        rates.append(fpr[np.arange(len(fpr)), np.argmax(tpr >= TPR, axis=1)])
    return np.concatenate(areas), np.concatenate(rates)


def interval(samples: Floats) -> tuple[float, float]:
    """The middle 95% of samples."""
    low, high = np.quantile(samples, ((1 - SHARE) / 2, (1 + SHARE) / 2))
    return float(low), float(high)
