"""What a folder of images holds that nobody has described: its layout and classes, and what is odd about them.

Names of files are read and no image; the names of test images are counted.
"""

import os
import shlex
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from utuning_search.common.errors import DataError, InputError
from utuning_search.common.wording import counted, listed
from utuning_search.data.class_names import doubts
from utuning_search.data.layout import Tree, check_classes, differing, splits_of
from utuning_search.data.listing import (
    RULE,
    SUFFIXES,
    class_folders,
    files_below,
    images_below,
    is_folder,
    is_hidden,
    writable,
)
from utuning_search.data.places import fixed
from utuning_search.data.spec import DataSpec
from utuning_search.data.split_names import role_of
from utuning_search.data.splits import held_out

HELD_OUT = 0.2  # of each class, where a folder brings no test images of its own
FOLDER = "imagefolder"
UNBALANCED = 5  # the largest class, in times of the smallest; from there on a recommendation counts classes alike


@dataclass(frozen=True)
class Survey:
    """Images as they were found, in a folder or a table.

    Attributes:
        root: Where the layout starts; or the table.
        classes: Image files for training and validation by class; without split folders those for the test too.
        test: Image files for the test by class; None without split folders.
        train_folder, test_folder: Names of the split folders; empty without.
        unused: Folders beside the split folders that are not used.
        unlabelled: Folders called like a split, but without folders of the classes.
        empty: Folders beside the classes without an image.
        loose: Image files beside the class folders.
        others: Other files below class folders, by suffix.
        inside: Folders with images in each class, where it begins to branch.
        dotted: Images in folders that count as hidden.
    """

    root: Path
    classes: dict[str, int]
    test: dict[str, int] | None = None
    train_folder: str = ""
    test_folder: str = ""
    unused: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()
    loose: int = 0
    others: dict[str, int] = field(default_factory=dict)
    inside: dict[str, list[str]] = field(default_factory=dict)
    dotted: dict[str, int] = field(default_factory=dict)
    source: str = FOLDER

    @property
    def where(self) -> str:
        """The images to train on in the user's words."""
        return f"image folder {self.root / self.train_folder}" if self.source == FOLDER else f"data {self.root}"

    @property
    def name(self) -> str:
        """A word for them: of the folder or the file, or of the folder that a pattern begins with."""
        plain = fixed(self.root)
        word = plain.stem if plain.suffix.lower() in (".csv", ".parquet") else plain.name
        return "".join(c if c.isalnum() else "-" for c in word).strip("-") or "images"

    def spec(self) -> DataSpec:
        """A task's data of all these images, as many for each split as usual; its root is relative to this one's."""
        root = self.root.name or str(self.root)
        found = DataSpec(self.source, root, held_out=self.held_out, scarce=True)
        if self.source != FOLDER:
            return found
        return replace(found, train_folder=self.train_folder or "train", test_folder=self.test_folder or "test")

    @property
    def held_out(self) -> float:
        """Share of each class to keep for the test; 0 where test images are there."""
        return HELD_OUT if self.test is None else 0.0

    @property
    def trained(self) -> int:
        """Image files for training and validation together."""
        counts = np.array(list(self.classes.values()), dtype=np.int64)
        return int((counts - held_out(counts, self.held_out)).sum() if self.held_out else counts.sum())

    @property
    def unbalanced(self) -> bool:
        """Whether the largest class has at least five times the images of the smallest."""
        return max(self.classes.values()) >= UNBALANCED * min(self.classes.values())

    def notes(self) -> Iterator[str]:
        """One line for each thing a user should know before reading an accuracy."""
        one, two = ([f"'{n}'" for n, c in self.classes.items() if c == k] for k in (1, 2))
        if one:
            yield (
                f"{counted(len(one), 'class')} of one image, {listed(one)}: trained on, but with no second image to "
                "compare or test on, so no accuracy here says anything about it. Add images, or remove the class."
            )
        if two and self.test is None:
            yield (
                f"{counted(len(two), 'class')} of two images, {listed(two)}: one to train, one to compare on, "
                "none to test."
            )
        if self.test is not None:
            untested = [f"'{n}'" for n in self.classes if not self.test.get(n)]
            if untested:
                yield f"{counted(len(untested), 'class')} without a test image: {listed(untested)}."
        sizes = self.classes.values()
        if self.unbalanced:
            most, least = (max(self.classes, key=lambda n: s * self.classes[n]) for s in (1, -1))
            yield (
                f"classes are unbalanced, from '{least}' with {self.classes[least]:,} to '{most}' with "
                f"{self.classes[most]:,}: accuracy counts images, so large classes weigh more. Always answering "
                f"'{most}' would reach {100 * self.classes[most] / sum(sizes):.0f}%."
            )
        if self.empty:
            yield f"{counted(len(self.empty), 'folder')} without an image, no class: {listed(self.empty)}."
        if self.loose:
            yield f"{counted(self.loose, 'image')} beside the class folders, left out."
        if self.others:
            kinds = listed([f"{n} {suffix or 'without suffix'}" for suffix, n in sorted(self.others.items())])
            yield f"files of other kinds, left out: {kinds}. Images are {' '.join(SUFFIXES)}."
        called = [f"'{n}'" for n in self.classes if role_of(n)[0]]
        if called:
            yield f"{counted(len(called), 'class')} called like a split, {listed(called)}: is that meant?"
        yield from doubts(self.classes)
        parts = [n for n in self.inside if len(self.inside[n]) > 1]
        if 2 * len(parts) > len(self.classes):
            first = parts[0]
            yield (
                f"{counted(len(parts), 'class')} with several folders of images in them, such as "
                f"{listed(self.inside[first])} in '{first}': all count as '{first}'. "
                "If those are the classes, lay them side by side."
            )
        for dot in (True, False):
            left = {name: count for name, count in self.dotted.items() if name.startswith(".") == dot}
            names = listed([f"'{name}' ({counted(count, 'image')})" for name, count in left.items()])
            why = (
                "as hidden, since the name starts with a dot" if dot else "since systems keep files of their own there"
            )
            if left:
                yield f"left out {why}: {names}. Rename what is a class."
        for name in self.unused:
            what = f"designs are compared on a part of '{self.train_folder}'" if role_of(name)[0] else "it is no split"
            yield f"'{name}' is not used: {what}."
        for name in self.unlabelled:
            lacks = "folder of any of the classes" if self.source == FOLDER else "label"
            yield f"'{name}' is not used: it has no {lacks}, so nobody knows what its images show."

    @property
    def named(self) -> str:
        """How many classes there are, and the first of them by name."""
        return f"{counted(len(self.classes), 'class')}: {listed(self.classes)}"


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
    if not writable(str(folder)):
        shown = os.fsencode(folder).decode("ascii", "backslashreplace")
        raise InputError(f"--data {shown}", "its path is UTF-8", "other bytes", "Rename the folder.")
    class_folders(folder)
    tree = Tree(folder)
    splits = splits_of(tree)
    if splits is None:
        return _checked(_look(tree))
    found = _look(tree, splits.train)
    train = Path(splits.train).parts
    found = replace(found, unused=splits.unused, unlabelled=splits.unlabelled)
    if not splits.test:
        return _checked(replace(found, root=folder.joinpath(*train)))
    tested = folder / splits.test
    counts = {n: len(images_below(tested / n)) for n in class_folders(tested, f"{splits.test}/")}
    test = {n: c for n, c in counts.items() if c}
    odd = differing(found.classes, test)
    if odd:
        rule = f"the classes of {splits.test} are among those of {splits.train}"
        todo = "Rename the folders, or remove those that are in one only."
        raise DataError(f"image folder {folder}", rule, f"{listed(odd)} in {splits.test} only", todo)
    return _checked(replace(found, test=test, train_folder=splits.train, test_folder=splits.test))


def _look(tree: Tree, below: str = "") -> Survey:
    """A folder of class folders, `below` the root of the tree."""
    folder, place = tree.root / below, Path(below).parts
    counts = {name: len(images_below(folder / name)) for name in class_folders(folder)}
    check_classes(tree, (name for name, count in counts.items() if count), place)
    files = (path for name in counts for path in files_below(folder / name))
    suffixes = Counter(path.suffix.lower() for path in files)
    return Survey(
        tree.root,
        {name: count for name, count in counts.items() if count},
        empty=tuple(name for name, count in counts.items() if not count),
        loose=tree.direct(place),
        others={suffix: n for suffix, n in suffixes.items() if suffix not in SUFFIXES},
        inside={name: tree.below(tree.branching((*place, name))) for name, count in counts.items() if count},
        dotted={**_dotted(tree.root), **_dotted(folder)},
    )


def _dotted(folder: Path) -> dict[str, int]:
    """Images in folders that count as hidden."""
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if is_folder(e) and is_hidden(e.name))
    counts = {}
    for name in names:
        with suppress(DataError):  # what its owner alone may list, as lost+found, is no class anyway
            counts[name] = len(images_below(folder / name))
    return {name: count for name, count in counts.items() if count}


def _checked(found: Survey) -> Survey:
    """As `checked`, with what may be meant where a folder holds one class."""
    if not found.classes:
        got = f"no image in {counted(len(found.empty), 'folder')}, {listed(found.empty)}"
        raise DataError(found.where, RULE, got, f"Images are {' '.join(SUFFIXES)}.")
    todo = "Lay images out as <class>/<image>, a folder a class."
    if len(found.classes) == 1:
        below = found.root / found.train_folder / next(iter(found.classes))
        while len(inside := _folders(below)) == 1:  # archives often wrap theirs
            below /= inside[0]
        if inside:
            what = "splits" if splits_of(Tree(below)) else "the classes"
            todo = f"Are the folders in it ({listed(inside)}) {what}? Then give --data {shlex.quote(str(below))}"
    return checked(found, todo)


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if is_folder(e) and not e.is_symlink() and not is_hidden(e.name))


def checked(found: Survey, todo: str = "") -> Survey:
    """A survey of images that can be trained, compared and tested on.

    Raises:
        DataError: There is one class, which `todo` is said of, or too few images.
    """
    if not found.classes:
        raise DataError(found.where, "some images are to train on", "none")
    if len(found.classes) == 1:
        (name,) = found.classes
        raise DataError(found.where, "there are at least two classes", f"one, '{name}'", todo)
    most = max(found.classes.values())
    if most < (2 if found.test is not None else 3):
        purpose = "train and to compare on" if found.test is not None else "train, to compare and to test on"
        raise DataError(found.where, f"some class has images to {purpose}", f"{most} at most", "Add images.")
    if found.test is not None and not sum(found.test.values()):
        raise DataError(f"image folder {found.root / found.test_folder}", "it holds test images", "none")
    return found
