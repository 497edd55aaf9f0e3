"""Image folders: root/train/<class>/**/<image>, and root/test/<class>/**/<image> for finalists."""

import os
from functools import cached_property
from pathlib import Path

import numpy as np

from utuning_search.data.pixels import read_file
from utuning_search.data.source import Part, Source
from utuning_search.errors import DataError
from utuning_search.task import find_data

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
RULE = "every class has a folder with images"


class Folder(Source):
    """A user's own images. Hidden files and folders and files of other suffixes do not count."""

    @cached_property
    def _root(self) -> Path:
        return find_data(self.spec.root, self.data_dir, "task data, root")

    @property
    def where(self) -> str:
        return f"image folder {self._root}"

    @cached_property
    def classes(self) -> tuple[str, ...]:
        return tuple(_class_folders(self._root / "train", "train"))

    def train(self) -> Part:
        return self._part("train")

    def _test(self) -> Part:
        odd = set(self.classes) ^ set(_class_folders(self._root / "test", "test"))
        if odd:
            got = f"only one has {', '.join(sorted(odd)[:5])}"
            raise DataError(self.where, "train and test have the same classes", got)
        return self._part("test")

    def _part(self, split: str) -> Part:
        folder = self._root / split
        paths: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(self.classes):
            found = _images(folder / name)
            if not found:
                todo = f"Add images ({' '.join(SUFFIXES)}), or remove the folder."
                raise DataError(f"image folder {folder}", RULE, f"none in '{name}'", todo)
            paths += found
            labels += [label] * len(found)
        return Part(
            np.array(labels, dtype=np.int64),
            lambda i: read_file(paths[i], self.preprocessing),
            tuple(path.relative_to(self._root).as_posix() for path in paths),
        )


def _class_folders(folder: Path, split: str) -> list[str]:
    """Names of the classes in a folder, sorted."""
    try:
        found = sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith("."))
        got = "no folder in it"
    except OSError as error:
        found, got = [], error.strerror or type(error).__name__
    if not found:
        raise DataError(f"image folder {folder}", RULE, got, f"Lay images out as {split}/<class>/<image>.")
    return found


def _images(folder: Path) -> list[Path]:
    """Image files of one class, those in folders below included, in an order that is the same everywhere."""
    found: list[Path] = []
    for parent, folders, files in sorted(os.walk(folder, followlinks=True)):
        del folders
        inside = Path(parent).relative_to(folder)
        if not any(part.startswith(".") for part in inside.parts):
            names = sorted(f for f in files if not f.startswith(".") and f.lower().endswith(SUFFIXES))
            found += [Path(parent) / name for name in names]
    return found
