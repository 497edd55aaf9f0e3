"""A net below all decoding: pictures that came out as one colour, and classes whose pictures are all the same."""

from collections.abc import Iterator, Sequence

import numpy as np

from utuning_search.common.wording import listed

NAMED = 3


def oddities(
    names: Sequence[str], prints: Sequence[str], labels: Sequence[int], classes: Sequence[str]
) -> Iterator[str]:
    """Notes on decoded images of which something must have gone wrong, in the files or in reading them.

    Args:
        names: Of the images.
        prints: Their fingerprints, see `copies.fingerprint`; empty for images of one colour.
        labels: Their classes.
        classes: Names by label.
    """
    flat = [name for name, p in zip(names, prints, strict=True) if not p]
    if flat:
        shown = listed(flat, NAMED)
        yield f"{_of(len(flat), len(names))} of a single colour once decoded ({shown}): nothing can be seen on them."
    numbers = np.asarray(labels)
    for label in np.unique(numbers):
        rows = np.flatnonzero(numbers == label)
        if len(rows) > 1 and len({prints[i] for i in rows.tolist()}) == 1:
            yield f"class '{classes[label]}': all its {len(rows):,} images are equal once decoded."


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,} images {'is' if count == 1 else 'are'}"
