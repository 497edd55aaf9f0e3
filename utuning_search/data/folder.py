"""Image folders: root/train/<class>/**/<image>, and root/test/<class>/**/<image> for finalists; or root/<class>/**."""

import os
from functools import cached_property
from pathlib import Path

import numpy as np

from utuning_search.common.errors import DataError
from utuning_search.data.pixels import read_file
from utuning_search.data.places import find_data
from utuning_search.data.source import Part, Source
from utuning_search.data.splits import hold_out_each

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif", ".jfif")
RULE = "every class has a folder with images"


class Folder(Source):
    """A user's own images. Hidden files and folders and files of other suffixes do not count."""

    @cached_property
    def _root(self) -> Path:
        return find_data(self.spec.root, self.data_dir, "task data, root")

    @property
    def _held_out(self) -> bool:
        """Whether the test images lie among those for training."""
        return self.spec.held_out > 0

    @property
    def _folder(self) -> Path:
        return self._root if self._held_out else self._root / self.spec.train_folder

    @property
    def where(self) -> str:
        return f"image folder {self._root}"

    @cached_property
    def classes(self) -> tuple[str, ...]:
        found = class_folders(self._folder, "" if self._held_out else f"{self.spec.train_folder}/")
        return tuple(name for name in found if not self.spec.scarce or images_below(self._folder / name))

    def train(self) -> Part:
        part = self._part(self._folder)
        return _rows(part, hold_out_each(part.labels, self.spec.held_out)[0]) if self._held_out else part

    def _test(self) -> Part:
        if self._held_out:
            part = self._part(self._folder)
            return _rows(part, hold_out_each(part.labels, self.spec.held_out)[1])
        folder = self.spec.test_folder
        test = set(class_folders(self._root / folder, f"{folder}/"))
        # Where classes are taken as they are, one too small to be tested is no reason to refuse the others.
        odd = test - set(self.classes) if self.spec.scarce else test ^ set(self.classes)
        if odd:
            got = f"only one has {', '.join(sorted(odd)[:5])}"
            raise DataError(self.where, f"{self.spec.train_folder} and {folder} have the same classes", got)
        return self._part(self._root / folder)

    def _part(self, folder: Path) -> Part:
        paths: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(self.classes):
            found = images_below(folder / name)
            if not found and not self.spec.scarce:
                todo = f"Add images ({' '.join(SUFFIXES)}), or remove the folder."
                raise DataError(f"image folder {folder}", RULE, f"none in '{name}'", todo)
            paths += found
            labels += [label] * len(found)
        return Part(
            np.array(labels, dtype=np.int64),
            lambda i: read_file(paths[i], self.preprocessing),
            tuple(path.relative_to(self._root).as_posix() for path in paths),
        )


def _rows(part: Part, rows: np.typing.NDArray[np.int64]) -> Part:
    """Some images of a part; each keeps its place among all of them in `splits.json`."""
    kept = [int(i) for i in rows]
    return Part(part.labels[rows], lambda i: part.read(kept[i]), tuple(part.names[i] for i in kept), tuple(kept))


def class_folders(folder: Path, prefix: str = "") -> list[str]:
    """Names of the classes in a folder, sorted; `prefix` is the folder's name in the layout that a message shows."""
    try:
        found = sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))
        got = "no folder in it"
    except OSError as error:
        found, got = [], error.strerror or type(error).__name__
    if not found:
        raise DataError(f"image folder {folder}", RULE, got, f"Lay images out as {prefix}<class>/<image>.")
    return found


def images_below(folder: Path) -> list[Path]:
    """Image files of one class, those in folders below included, in an order that is the same everywhere."""
    found: list[Path] = []
    for parent, folders, files in sorted(os.walk(folder, followlinks=True)):
        del folders
        inside = Path(parent).relative_to(folder)
        if not any(part.startswith(".") for part in inside.parts):
            names = sorted(f for f in files if not f.startswith(".") and f.lower().endswith(SUFFIXES))
            found += [Path(parent) / name for name in names]
    return found
