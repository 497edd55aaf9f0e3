"""Images of other kinds than a task's, which a tuner should not know: a folder of them, or the bundled letters."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from utuning_search.backbones.embedded.glyphs import LETTERS as ALPHABET
from utuning_search.backbones.embedded.glyphs import letters
from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.common.errors import DataError, InputError
from utuning_search.common.wording import listed
from utuning_search.data.copies import fingerprints
from utuning_search.data.decoding import Decoder, Decoding
from utuning_search.data.listing import SUFFIXES, images_below
from utuning_search.data.pictures import read_picture, read_pictures, stacked
from utuning_search.data.pixels import UnreadableError
from utuning_search.data.places import find_data
from utuning_search.data.spec import DataSpec

LETTERS = "letters"
COUNT, SEED = 450, 20231  # as many as test digits; another seed than that of the letters of the pretraining
LIKE_DIGITS = frozenset("BDGIOQSZabgijloqsz")  # which a human may take for a digit, at 8 pixels
UNREADABLE, NAMED = 0.05, 3  # as of a task's images


@dataclass(frozen=True)
class Outliers:
    """Images of other kinds.

    Attributes:
        name: Of the set.
        images: uint8 (images, channels, size, size).
        notes: What is odd about them, a line each.
    """

    name: str
    images: Tensor
    notes: tuple[str, ...] = ()


def load_outliers(given: str, preprocessing: Preprocessing, decoding: Decoding, option: str = "--ood") -> Outliers:
    """Images of a folder and of those below it, whatever they are called, read as a task's images; or "letters".

    The letters are printed ones of 8 x 8 pixels, without those that look like digits. The embedded backbone was
    pretrained on letters of the same fonts, drawn by another seed: to it they are no strangers, but to its digits.

    Args:
        given: The folder, or "letters"; a folder of that name is given as ./letters.
        preprocessing, decoding: Of the task's images.
        option: That it was given by, for messages.

    Raises:
        InputError: There is no such folder, or no image in it.
        DataError: More than 5% of them cannot be read.
    """
    if given == LETTERS:
        return Outliers(LETTERS, read_pictures(list(_letters()), preprocessing, decoding))
    folder, found, skipped = Path(given), [], []
    paths = _listed(given, option)
    decoder = Decoder(decoding)
    for path in paths:
        try:
            found.append(read_picture(path, preprocessing, decoder))
        except UnreadableError as error:
            skipped.append(f"{path.relative_to(folder)} ({error})")
    if len(skipped) > UNREADABLE * len(paths):
        rule, got = f"at most {UNREADABLE:.0%} of the images cannot be read", f"{len(skipped)} of {len(paths)}"
        raise DataError(f"image folder {folder}", rule, f"{got}: {'; '.join(skipped[:NAMED])}", "Replace them.")
    notes = tuple(f"{folder.name}/{said} cannot be read, and is left out." for said in skipped)
    return Outliers(folder.resolve().name, stacked(found, preprocessing), notes)


def task_outliers(
    spec: DataSpec, preprocessing: Preprocessing, decoding: Decoding, data_dir: Path | None, *, finals: bool
) -> Tensor | None:
    """The unknown images that a task names, uint8 (images, channels, size, size); None where it names none.

    Args:
        spec: Of the task's data.
        preprocessing, decoding: Of its images.
        data_dir: Where relative paths start.
        finals: Whether those of finals are wanted: what a search chose by says little of what it chose.

    Raises:
        InputError: There is no such folder, or fewer than two images in it.
        DataError: More than 5% of them cannot be read.
    """
    if not spec.ood:
        return None
    where = "task data, ood"
    place = LETTERS if spec.ood == LETTERS else str(find_data(spec.ood, data_dir, where))
    images = load_outliers(place, preprocessing, decoding, where).images
    if len(images) < 2:
        raise InputError(where, "it has two images or more, for the search and for finals", len(images))
    return images[int(finals) :: 2]


def without_copies(outliers: Outliers, *known: Tensor) -> Outliers:
    """Those that are no copies of known images, uint8 (images, channels, size, size), and a note of the others.

    Raises:
        DataError: All of them are.
    """
    prints = {p for images in known for p in fingerprints(images) if p}
    copied = [bool(p) and p in prints for p in fingerprints(outliers.images)]
    if not any(copied):
        return outliers
    where = f"unknown images '{outliers.name}'"
    if all(copied):
        raise DataError(where, "they are other images than the task's", "the task's", "Give images of other kinds.")
    note = f"{sum(copied):,} of the {len(copied):,} unknown images are the task's own, and are left out."
    kept = outliers.images[torch.tensor([not c for c in copied])]
    return Outliers(outliers.name, kept, (*outliers.notes, note))


def check_given(given: Sequence[str], option: str = "--ood") -> None:
    """Refuse what is no set of images, and two of one name, before anything is read or trained.

    Raises:
        InputError: There is one.
    """
    for one in given:
        if one != LETTERS:
            _listed(one, option)
    names = [LETTERS if one == LETTERS else Path(one).resolve().name for one in given]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise InputError(option, "sets of images have names of their own", listed(twice), "Rename one of the folders.")


def _listed(given: str, option: str) -> list[Path]:
    """The image files of a folder."""
    folder = Path(given)
    if not folder.is_dir():
        got = "a file" if folder.exists() else "no such folder"
        raise InputError(f"{option} {given}", f"it is a folder of images, or '{LETTERS}'", got)
    paths = images_below(folder)
    if not paths:
        raise InputError(f"{option} {given}", "there are images in it", "none", f"Images are {' '.join(SUFFIXES)}.")
    return paths


def _letters() -> Iterator[npt.NDArray[np.uint8]]:
    images, labels = letters(2 * COUNT, SEED)  # a third of the alphabet looks like digits
    plain = (image for image, label in zip(images, labels, strict=True) if ALPHABET[label] not in LIKE_DIGITS)
    return islice(plain, COUNT)
