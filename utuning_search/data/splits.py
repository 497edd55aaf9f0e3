"""Seeded splits: of a training set into proxy and validation, of a whole set into training and test.

Two kinds. Stratified sampling needs two images a class and room for every class in each part. A folder that nobody
has looked at may have neither; there each class is divided by itself (`*_each`), whatever the others look like.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from utuning_search.common.errors import DataError
from utuning_search.data.spec import DataSpec

Labels = npt.NDArray[np.int64]


def hold_out(labels: Labels, test: int) -> tuple[Labels, Labels]:
    """Rows to train on and `test` rows to test on: the same for every seed, so that studies can be compared."""
    return _stratified(np.arange(len(labels)), labels, 0, test_size=test)


def split_indices(
    labels: Labels, spec: DataSpec, where: str, classes: tuple[str, ...] = ()
) -> tuple[list[int], list[int]]:
    """Stratified, disjoint indices of the proxy and the validation split; `classes` are names for messages."""
    if spec.scarce:
        return _split_scarce(labels, spec, where)
    counts = np.bincount(labels)
    available = min(len(labels), spec.limit or len(labels))
    if available < spec.proxy + spec.validation:
        got = f"{available} training images for proxy {spec.proxy} + validation {spec.validation}"
        raise DataError(where, "proxy and validation fit into the training images", got, "Lower proxy or validation.")
    check_trainable(labels, spec, where, classes)
    everything = np.array(limited(labels, spec, where), dtype=np.int64)
    wanted = spec.proxy + spec.validation
    if wanted < len(everything) < wanted + len(counts):
        # A remainder cannot be stratified either unless it has an image a class.
        todo = f"Make proxy + validation {len(everything)}, or at most {len(everything) - len(counts)}."
        rule = "what is left out has none or at least an image a class"
        raise DataError(where, rule, f"{len(everything) - wanted} of {len(everything)}", todo)
    try:
        if len(everything) > wanted:
            everything, _ = _stratified(everything, labels, spec.seed, train_size=wanted)
        proxy, validation = _stratified(everything, labels, spec.seed, train_size=spec.proxy)
    except ValueError as error:
        raise DataError(where, "splits can be stratified by class", error, "Raise proxy and validation.") from None
    return sorted(map(int, proxy)), sorted(map(int, validation))


def _split_scarce(labels: Labels, spec: DataSpec, where: str) -> tuple[list[int], list[int]]:
    """As many images as there are, but at most proxy + validation, class by class."""
    check_trainable(labels, spec, where)
    rows = np.array(limited(labels, spec, where), dtype=np.int64)
    wanted = min(spec.proxy + spec.validation, len(rows))
    rows = rows[sample_each(labels[rows], wanted, spec.seed)]
    share = spec.validation / (spec.proxy + spec.validation)
    proxy, validation = split_each(labels[rows], round(share * len(rows)), spec.seed)
    if not len(validation):
        got = f"{len(labels)} images of {np.count_nonzero(np.bincount(labels))} classes"
        raise DataError(where, "some class has two training images, one of them to compare designs on", got)
    return sorted(map(int, rows[proxy])), sorted(map(int, rows[validation]))


def check_trainable(labels: Labels, spec: DataSpec, where: str, classes: tuple[str, ...] = ()) -> None:
    """Refuse fewer than two classes and, unless they are taken as they are, one of fewer than two training images."""
    counts = np.bincount(labels)
    if np.count_nonzero(counts) < 2:
        raise DataError(where, "there are at least two classes", f"{np.count_nonzero(counts)}")
    if counts.min() < 2 and not spec.scarce:
        poorest = int(counts.argmin())
        name = f"'{classes[poorest]}'" if classes else str(poorest)
        todo = "One is trained on and one compared on: add images, or remove the class."
        got = f"class {name} has {counts[poorest]}"
        raise DataError(where, "every class has at least 2 training images", got, todo)


def limited(labels: Labels, spec: DataSpec, where: str) -> Sequence[int]:
    """Rows of the training images that a task takes at all: everything, or a stratified sample of `spec.limit`."""
    everything = np.arange(len(labels))
    if not spec.limit or spec.limit == len(labels):
        return range(len(labels))
    if spec.scarce:
        rows = everything if spec.limit > len(labels) else sample_each(labels, spec.limit, spec.seed)
        return sorted(map(int, rows))
    try:
        rows, _ = _stratified(everything, labels, spec.seed, train_size=spec.limit)
    except ValueError as error:
        todo = f"Give a limit of at most {len(labels)} and at least the number of classes, or none."
        raise DataError(where, "a sample of limit images can be stratified by class", error, todo) from None
    return sorted(map(int, rows))


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
    return divide(labels, held_out(np.bincount(labels), share), 0)


def sample_each(labels: Labels, total: int, seed: int) -> Labels:
    """About `total` rows, ascending: two of each class at least where it has them, the rest in proportion."""
    counts = np.bincount(labels)
    _, rows = divide(labels, apportion(counts, total, np.minimum(counts, 2), counts), seed)
    return rows


def split_each(labels: Labels, validation: int, seed: int) -> tuple[Labels, Labels]:
    """Rows to train on and about `validation` rows to compare on, both ascending.

    Of each class one image at least stays to train on; of two or more one at least is compared on.
    """
    counts = np.bincount(labels)
    most = np.maximum(counts - 1, 0)
    return divide(labels, apportion(counts, validation, np.minimum(most, 1), most), seed)


def _stratified(rows: Labels, labels: Labels, seed: int, **size: int) -> tuple[Labels, Labels]:
    """Rows in two parts with the same share of each class.

    Args:
        rows: To divide.
        labels: Of all rows.
        seed: Of the draw.
        size: Of the first part as `train_size`, or of the second as `test_size`.

    Raises:
        ValueError: Some class has too few rows for that.
    """
    from sklearn.model_selection import train_test_split  # takes seconds; who loads a tuner need not wait for it

    first, second = train_test_split(rows, stratify=labels[rows], random_state=seed, **size)
    return first, second


def divide(labels: Labels, shares: Labels, seed: int) -> tuple[Labels, Labels]:
    """Rows in two parts; the second has `shares` of each class, drawn by seed."""
    order = np.random.default_rng(seed).permutation(len(labels))
    second = np.zeros(len(labels), dtype=bool)
    for label, count in enumerate(shares):
        second[order[labels[order] == label][:count]] = True
    rows = np.arange(len(labels), dtype=np.int64)
    return rows[~second], rows[second]
