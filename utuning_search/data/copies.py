"""The same picture twice: who learns the one and is asked the other has nothing to find out.

Copies are found by their pixels as a backbone sees them. Pictures of one colour are all alike and no copies of each
other; see `oddities.py`.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

Groups = npt.NDArray[np.int64]  # (images,), the number of a group; images with the same are copies of each other
NAMED = 3


def fingerprint(image: Tensor) -> str:
    """The same for equal images, uint8 (channels, size, size); empty for one of a single colour."""
    pixels = np.ascontiguousarray(image.numpy()).reshape(len(image), -1)
    if (pixels == pixels[:, :1]).all():
        return ""
    return hashlib.blake2b(pixels.data, digest_size=16).hexdigest()


def fingerprints(images: Tensor) -> list[str]:
    """Of each image, uint8 (images, channels, size, size)."""
    return [fingerprint(image) for image in images]


def grouped(prints: Sequence[str]) -> Groups:
    """Groups of equal fingerprints, numbered as they come; an empty one is a group by itself."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(p or f"alone {i}", len(numbers)) for i, p in enumerate(prints)], dtype=np.int64)


def equal_files(paths: Sequence[Path]) -> list[str]:
    """A fingerprint of each file's bytes, for those that share their size with another; empty for the others."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for i, path in enumerate(paths):
        try:
            by_size[path.stat().st_size].append(i)
        except OSError:  # unreadable, which whoever decodes it will say
            continue
    found = [""] * len(paths)
    for rows in by_size.values():
        for i in rows if len(rows) > 1 else ():
            try:
                with paths[i].open("rb") as file:
                    found[i] = hashlib.file_digest(file, "blake2b").hexdigest()
            except OSError:
                continue
    return found


def apart(labels: npt.NDArray[np.int64], groups: Groups, second: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which images belong into the second of two parts, so that no group is in both.

    Args:
        labels: Of the images, (images,).
        groups: Of the images, see `grouped`.
        second: Which of them are in the second part now; as many of each class are wanted there, or nearly.

    Returns:
        `second` itself where no group is torn, or where there are too few different pictures to mend it.
    """
    count = int(groups.max(initial=-1)) + 1
    in_second = np.bincount(groups[second], minlength=count)
    sizes = np.bincount(groups, minlength=count)
    if not torn(groups, second):
        return second
    classes = int(labels.max()) + 1
    wanted = np.bincount(labels[second], minlength=classes).astype(np.float64)
    left = np.bincount(labels, minlength=classes)
    members: dict[int, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        members[int(group)].append(row)
    # First what need not move, then what is torn, and the rest only where images are lacking; large groups fit least.
    share = in_second / sizes
    order = sorted(members, key=lambda g: (share[g] < 1, share[g] == 0, -sizes[g], g))
    chosen = np.zeros_like(second)
    for group in order:
        present, counts = np.unique(labels[members[group]], return_counts=True)
        nearer = ((wanted[present] - counts) ** 2).sum() < (wanted[present] ** 2).sum()
        if nearer and (left[present] > counts).all():  # something of each class stays in the first part
            wanted[present] -= counts
            left[present] -= counts
            chosen[members[group]] = True
    return chosen if chosen.any() else second


def torn(groups: Groups, second: npt.NDArray[np.bool_]) -> bool:
    """Whether a group has images in both of two parts."""
    return len(np.intersect1d(groups[second], groups[~second])) > 0


def within(
    names: Sequence[str], prints: Sequence[str], labels: Sequence[int], classes: Sequence[str], *, together: bool
) -> Iterator[str]:
    """Notes on copies among images, `together` in one split or not, and on pictures in two classes."""
    members = _members(prints)
    repeated = [rows for rows in members.values() if len(rows) > 1]
    disputed = [rows for rows in repeated if len({labels[i] for i in rows}) > 1]
    if repeated:
        images = sum(map(len, repeated))
        pairs = _shown([" = ".join(names[i] for i in rows[:2]) for rows in repeated])
        yield f"{images:,} images are copies of {len(repeated):,} different pictures, {pairs}: " + (
            "the copies of a picture are kept together, all to train on or all to compare on."
            if together
            else "some are trained on and compared on, so that validation counts what was learnt by heart."
        )
    if disputed:
        both = [" and ".join(f"'{n}'" for n in sorted({classes[labels[i]] for i in rows})[:3]) for rows in disputed]
        shown = _shown([f"{names[rows[0]]} in {b}" for rows, b in zip(disputed, both, strict=True)])
        yield f"{_pictures(len(disputed))} in several classes, {shown}: no answer to them can be right."


def across(train: Mapping[str, str], test: Iterable[tuple[str, str]], *, whole: bool = True) -> Iterator[str]:
    """A note on test images that are trained on too.

    Args:
        train: Names of the training images by fingerprint.
        test: Name and fingerprint of each test image.
        whole: Whether all of them were decoded, so that no other copy is left to be found.
    """
    listed = list(test)
    found = [(name, train[p]) for name, p in listed if p and p in train]
    if found:
        shown = _shown([f"{name} = {other}" for name, other in found])
        count, verb = f"{'' if whole else 'at least '}{len(found):,}", "is" if len(found) == 1 else "are"
        yield (
            f"{count} of {len(listed):,} test images {verb} among the training images too, {shown}: "
            "the test accuracy counts what was learnt by heart. Remove them from one of the two."
        )


def by_print(names: Sequence[str], prints: Sequence[str]) -> dict[str, str]:
    """The first name of each fingerprint."""
    return {p: name for name, p in zip(reversed(names), reversed(prints), strict=True) if p}


def _members(prints: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for i, p in enumerate(prints):
        if p:
            found[p].append(i)
    return found


def _pictures(count: int) -> str:
    return "1 picture is" if count == 1 else f"{count:,} pictures are"


def _shown(what: Sequence[str]) -> str:
    return f"such as {what[0]}" if len(what) > NAMED else "; ".join(what)
