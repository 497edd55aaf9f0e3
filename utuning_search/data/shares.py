"""Splits that no class is too small for: each class is divided by itself, whatever the others look like.

Stratified sampling (`splits`) needs two images a class and room for every class in each part; a folder that nobody
has looked at may have neither.
"""

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]


def apportion(counts: Labels, total: int, least: Labels, most: Labels) -> Labels:
    """Whole numbers in proportion to `counts`, each from `least` to `most`, that add up to `total` if these allow it.

    Args:
        counts: One a class.
        total: To share out.
        least, most: Bounds, one a class, `least` <= `most`.
    """
    exact = counts * (total / max(counts.sum(), 1))
    shares: Labels = np.clip(np.floor(exact).astype(np.int64), least, most)
    while shares.sum() != total:
        step = 1 if shares.sum() < total else -1
        movable = shares < most if step > 0 else shares > least
        if not movable.any():
            break
        lag = np.where(movable, step * (exact - shares), -np.inf)  # whoever is farthest from its exact share moves
        shares[int(lag.argmax())] += step
    return shares


def held_out(counts: Labels, share: float) -> Labels:
    """Images that each class gives to the test: `share` of them, but two stay, and of three or more one goes."""
    most = np.maximum(counts - 2, 0)
    shares: Labels = np.clip(np.rint(counts * share).astype(np.int64), np.minimum(most, 1), most)
    return shares


def hold_out_each(labels: Labels, share: float) -> tuple[Labels, Labels]:
    """Rows to train on and rows to test on, see `held_out`, both ascending; for every seed the same."""
    return _divide(labels, held_out(np.bincount(labels), share), 0)


def sample_each(labels: Labels, total: int, seed: int) -> Labels:
    """About `total` rows, ascending: two of each class at least where it has them, the rest in proportion."""
    counts = np.bincount(labels)
    _, rows = _divide(labels, apportion(counts, total, np.minimum(counts, 2), counts), seed)
    return rows


def split_each(labels: Labels, validation: int, seed: int) -> tuple[Labels, Labels]:
    """Rows to train on and about `validation` rows to compare on, both ascending.

    Of each class one image at least stays to train on; of two or more one at least is compared on.
    """
    counts = np.bincount(labels)
    most = np.maximum(counts - 1, 0)
    return _divide(labels, apportion(counts, validation, np.minimum(most, 1), most), seed)


def _divide(labels: Labels, shares: Labels, seed: int) -> tuple[Labels, Labels]:
    """Rows in two parts; the second has `shares` of each class, drawn by seed."""
    order = np.random.default_rng(seed).permutation(len(labels))
    second = np.zeros(len(labels), dtype=bool)
    for label, count in enumerate(shares):
        second[order[labels[order] == label][:count]] = True
    rows = np.arange(len(labels), dtype=np.int64)
    return rows[~second], rows[second]
