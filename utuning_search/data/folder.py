"""Image folders: root/train/<class>/**/<image>, and root/test/<class>/**/<image> for finalists; or root/<class>/**."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from utuning_search.common.errors import DataError
from utuning_search.data.copies import equal_files
from utuning_search.data.decoding import Opener
from utuning_search.data.layout import Tree, check_classes, check_same
from utuning_search.data.listing import RULE, SUFFIXES, class_folders, images_below
from utuning_search.data.own import Own
from utuning_search.data.pixels import openers, read_file
from utuning_search.data.places import find_data
from utuning_search.data.source import Part


class Folder(Own):
    """Images in folders. Hidden files and folders and files of other suffixes do not count."""

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
        filled = [name for name in found if images_below(self._folder / name)]
        check_classes(Tree(self._folder), filled)
        return tuple(filled if self.spec.scarce else found)

    def examples(self) -> Iterable[Opener]:
        return openers(path for name in self.classes for path in images_below(self._folder / name))

    def equal(self, *parts: Part) -> list[str]:
        return equal_files([self._root / name for part in parts for name in part.names])

    def _bytes(self, part: Part) -> int:
        paths = (self._root / name for name in part.names)
        return sum(path.stat().st_size for path in paths if path.exists())

    def _untested(self) -> Part:
        return self._part(self._folder)

    def _tested(self) -> Part:
        folder = self.spec.test_folder
        test = set(class_folders(self._root / folder, f"{folder}/"))
        if self.spec.scarce:  # taken as they are: one too small to be tested is no reason to refuse the others
            test = {name for name in test if images_below(self._root / folder / name)}
        check_same(self.where, self.classes, test, self.spec.train_folder, folder, scarce=self.spec.scarce)
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
        names = tuple(path.relative_to(self._root).as_posix() for path in paths)

        def read(i: int) -> Tensor:
            return read_file(paths[i], self.preprocessing, self.decoder, names[i])

        return Part(np.array(labels, dtype=np.int64), read, names)
