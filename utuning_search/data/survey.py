"""What a folder of images holds that nobody has described: its layout and classes, and what is odd about them.

Names of files are read and no image; the names of test images are counted.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from utuning_search.common.errors import DataError, InputError
from utuning_search.data.listing import RULE, SUFFIXES, class_folders, images_below
from utuning_search.data.splits import held_out

HELD_OUT = 0.2  # of each class, where a folder brings no test images of its own
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "val", "valid", "validation")  # the first that is there is taken
UNBALANCED = 5  # the largest class, in times of the smallest
NAMED = 5


@dataclass(frozen=True)
class Survey:
    """An image folder as it was found.

    Attributes:
        root: Where the layout starts.
        classes: Image files for training and validation by class; without split folders those for the test too.
        test: Image files for the test by class; None without split folders.
        train_folder, test_folder: Names of the split folders; empty without.
        unused: Split folders that are not used.
        empty: Folders beside the classes without an image.
        loose: Image files beside the class folders.
        others: Other files below class folders, by suffix.
    """

    root: Path
    classes: dict[str, int]
    test: dict[str, int] | None = None
    train_folder: str = ""
    test_folder: str = ""
    unused: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    loose: int = 0
    others: dict[str, int] = field(default_factory=dict)

    @property
    def held_out(self) -> float:
        """Share of each class to keep for the test; 0 where test images are there."""
        return HELD_OUT if self.test is None else 0.0

    @property
    def trained(self) -> int:
        """Image files for training and validation together."""
        counts = np.array(list(self.classes.values()), dtype=np.int64)
        return int((counts - held_out(counts, self.held_out)).sum() if self.held_out else counts.sum())

    def notes(self) -> Iterator[str]:
        """One line for each thing a user should know before reading an accuracy."""
        one, two = ([f"'{n}'" for n, c in self.classes.items() if c == k] for k in (1, 2))
        if one:
            yield (
                f"{_count(one, 'class')} of one image, {_named(one)}: trained on, but with no second image to compare "
                "or test on, so no accuracy here says anything about it. Add images, or remove the folder."
            )
        if two and self.test is None:
            yield f"{_count(two, 'class')} of two images, {_named(two)}: one to train, one to compare on, none to test."
        if self.test is not None:
            untested = [f"'{n}'" for n in self.classes if not self.test.get(n)]
            if untested:
                yield f"{_count(untested, 'class')} without a test image: {_named(untested)}."
        sizes = sorted(self.classes.values())
        if sizes[-1] >= UNBALANCED * sizes[0]:
            most, least = (max(self.classes, key=lambda n: s * self.classes[n]) for s in (1, -1))
            yield (
                f"classes are unbalanced, from '{least}' with {self.classes[least]:,} to '{most}' with "
                f"{self.classes[most]:,}: accuracy counts images, so large classes weigh more. Always answering "
                f"'{most}' would reach {100 * self.classes[most] / sum(sizes):.0f}%."
            )
        if self.empty:
            yield f"{_count(self.empty, 'folder')} without an image, no class: {_named(self.empty)}."
        if self.loose:
            yield f"{_count(self.loose, 'image')} beside the class folders, left out."
        if self.others:
            kinds = _named([f"{n} {suffix or 'without suffix'}" for suffix, n in sorted(self.others.items())])
            yield f"files of other kinds, left out: {kinds}. Images are {' '.join(SUFFIXES)}."
        for name in self.unused:
            yield f"'{name}' is not used: designs are compared on a part of '{self.train_folder}'."


def survey(folder: Path) -> Survey:
    """Look at a folder of images: class folders, or split folders with class folders.

    Raises:
        InputError: There is no such folder.
        DataError: It has no class folders with images, only one class, or too few images to train, compare and test.
    """
    if not folder.is_dir():
        raise InputError(
            f"--data {folder}", "it is a folder of images", "a file" if folder.exists() else "no such folder"
        )
    folder = folder.resolve()
    names = class_folders(folder)
    by_name = {n.casefold(): n for n in names}
    train = next((by_name[n] for n in TRAIN_NAMES if n in by_name), "")
    # A folder of vehicles has a class 'train' too; one of splits has nothing but splits.
    if train and set(by_name) <= {*TRAIN_NAMES, *TEST_NAMES}:
        tests = [by_name[n] for n in TEST_NAMES if n in by_name]
        found = _look(folder / train)
        if not tests:
            return _checked(found)
        test = {n: len(images_below(folder / tests[0] / n)) for n in class_folders(folder / tests[0], f"{tests[0]}/")}
        return _checked(
            replace(
                found,
                root=folder,
                test={n: c for n, c in test.items() if c},
                train_folder=train,
                test_folder=tests[0],
                unused=tuple(n for n in names if n not in (train, tests[0])),
            )
        )
    return _checked(_look(folder))


def _look(folder: Path) -> Survey:
    """A folder of class folders."""
    counts = {name: len(images_below(folder / name)) for name in class_folders(folder)}
    others: Counter[str] = Counter()
    for name in counts:
        for _, _, files in os.walk(folder / name, followlinks=True):
            others.update(Path(f).suffix.lower() for f in files if not f.startswith("."))
    return Survey(
        folder,
        {name: count for name, count in counts.items() if count},
        empty=tuple(name for name, count in counts.items() if not count),
        loose=sum(e.is_file() and _is_image(e.name) for e in os.scandir(folder)),
        others={suffix: n for suffix, n in others.items() if suffix not in SUFFIXES},
    )


def _checked(found: Survey) -> Survey:
    where = f"image folder {found.root / found.train_folder}"
    if not found.classes:
        got = f"no image in {_count(found.empty, 'folder')}, {_named(found.empty)}"
        raise DataError(where, RULE, got, f"Images are {' '.join(SUFFIXES)}.")
    if len(found.classes) == 1:
        (name,) = found.classes
        inside = sorted(e.name for e in os.scandir(found.root / found.train_folder / name) if e.is_dir())
        todo = "Lay images out as <class>/<image>, a folder a class."
        if inside:
            below = found.root / found.train_folder / name
            todo = f"Are the folders in it ({_named(inside)}) the classes? Then give --data {below}"
        raise DataError(where, "there are at least two classes", f"one, '{name}'", todo)
    most = max(found.classes.values())
    if most < (2 if found.test is not None else 3):
        purpose = "train and to compare on" if found.test is not None else "train, to compare and to test on"
        raise DataError(where, f"some class has images to {purpose}", f"{most} at most", "Add images.")
    if found.test is not None and not sum(found.test.values()):
        raise DataError(f"image folder {found.root / found.test_folder}", "it holds test images", "none")
    return found


def _is_image(name: str) -> bool:
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _count(what: int | list[str] | tuple[str, ...], noun: str) -> str:
    number = what if isinstance(what, int) else len(what)
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def _named(names: list[str] | tuple[str, ...]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
