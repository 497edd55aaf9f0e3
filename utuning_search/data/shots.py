"""Which training images a search and its finals take: seeded splits, or of a few-shot task so many of each class.

Few-shot benchmarks train on a handful of images a class and choose by others (arXiv 2311.12076); so shots are what is
trained on, in the search as in finals, and validation images come on top.
"""

from collections.abc import Sequence

import numpy as np

from utuning_search.common.errors import DataError
from utuning_search.data.spec import DataSpec
from utuning_search.data.splits import Labels, check_trainable, divide, limited, sample_each, split_indices


def search_rows(
    labels: Labels, spec: DataSpec, where: str, classes: tuple[str, ...] = ()
) -> tuple[Sequence[int], Sequence[int]]:
    """Disjoint rows of the proxy and the validation split; `classes` are names for messages.

    Raises:
        DataError: There are too few images, or a class has too few.
    """
    if not spec.shots:
        return split_indices(labels, spec, where, classes)
    check_trainable(labels, spec, where, classes)
    rest, trained = _drawn(labels, spec, where, classes)
    if len(rest) < spec.validation:
        got = f"{len(rest)} of {len(labels)} for validation {spec.validation}"
        raise DataError(where, "validation fits into the images that are no shots", got, "Lower validation or shots.")
    chosen = rest[sample_each(labels[rest], spec.validation, spec.seed)]
    return trained.tolist(), chosen.tolist()


def final_rows(labels: Labels, spec: DataSpec, where: str, classes: tuple[str, ...] = ()) -> Sequence[int]:
    """Rows that finals train on: everything the task takes, or the shots that its search had.

    Raises:
        DataError: As of `search_rows`.
    """
    check_trainable(labels, spec, where, classes)
    if not spec.shots:
        return limited(labels, spec, where)
    found: list[int] = _drawn(labels, spec, where, classes)[1].tolist()
    return found


def _drawn(labels: Labels, spec: DataSpec, where: str, classes: tuple[str, ...]) -> tuple[Labels, Labels]:
    """Rows that are left, and those of the shots, both ascending; of a scarce class one image is left if it can be."""
    counts = np.bincount(labels)
    if counts.min() <= spec.shots and not spec.scarce:
        poorest = int(counts.argmin())
        name = f"'{classes[poorest]}'" if classes else str(poorest)
        rule = f"every class has more than {spec.shots} training images, its shots and one to compare on"
        todo = "Lower shots, add images, or remove the class."
        raise DataError(where, rule, f"class {name} has {counts[poorest]}", todo)
    return divide(labels, np.minimum(spec.shots, np.maximum(counts - 1, np.minimum(counts, 1))), spec.seed)
