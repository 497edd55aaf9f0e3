"""Stratified, seeded splits: of a training set into proxy and validation, of a whole set into training and test."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import train_test_split

from utuning_search.data.shares import sample_each, split_each
from utuning_search.common.errors import DataError
from utuning_search.task import DataSpec

Labels = npt.NDArray[np.int64]


def hold_out(labels: Labels, test: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows to train on and `test` rows to test on: the same for every seed, so that studies can be compared."""
    train, held = train_test_split(np.arange(len(labels)), test_size=test, stratify=labels, random_state=0)
    return train, held


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
            everything, _ = train_test_split(
                everything, train_size=wanted, stratify=labels[everything], random_state=spec.seed
            )
        proxy, validation = train_test_split(
            everything, train_size=spec.proxy, stratify=labels[everything], random_state=spec.seed
        )
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
        rows, _ = train_test_split(everything, train_size=spec.limit, stratify=labels, random_state=spec.seed)
    except ValueError as error:
        todo = f"Give a limit of at most {len(labels)} and at least the number of classes, or none."
        raise DataError(where, "a sample of limit images can be stratified by class", error, todo) from None
    return sorted(map(int, rows))
