"""Image folders: root/train/<class>/**/<image>, and root/test/<class>/**/<image> for finalists; or root/<class>/**."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from utuning_search.common.errors import DataError
from utuning_search.data.copies import apart, equal_files, fingerprint, grouped
from utuning_search.data.layout import Tree, check_classes, differing
from utuning_search.data.listing import RULE, SUFFIXES, class_folders, images_below
from utuning_search.data.pixels import UnreadableError, read_file
from utuning_search.data.places import find_data
from utuning_search.data.source import Part, Source
from utuning_search.data.splits import Labels, hold_out_each

# Up to here all images of a folder that keeps its own for the test are decoded to look for copies; in larger ones files
# are compared byte by byte.
MOST_FILES, MOST_BYTES = 5_000, 128 << 20


class Folder(Source):
    """A user's own images. Hidden files and folders and files of other suffixes do not count."""

    divided = True

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

    def files(self) -> Sequence[Path]:
        return [path for name in self.classes for path in images_below(self._folder / name)]

    def paths(self, part: Part) -> list[Path]:
        return [self._root / name for name in part.names]

    def train(self) -> Part:
        return _rows(self._whole, self._division[0]) if self._held_out else self._whole

    def _test(self) -> Part:
        if self._held_out:
            return _rows(self._whole, self._division[1])
        folder = self.spec.test_folder
        test = set(class_folders(self._root / folder, f"{folder}/"))
        if self.spec.scarce:  # taken as they are: one too small to be tested is no reason to refuse the others
            test = {name for name in test if images_below(self._root / folder / name)}
        odd = test - set(self.classes) if self.spec.scarce else test ^ set(self.classes)
        if odd:
            rule, got = f"{self.spec.train_folder} and {folder} have the same classes", ", ".join(sorted(odd)[:5])
            alike = [name for name in differing(self.classes, test) if "(" in name]
            todo = f"Rename {alike[0]}." if alike else "Rename the folders, or remove those that are in one only."
            raise DataError(self.where, rule, f"only one has {got}", todo)
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
            kept = self._decoded.pop(paths[i], None)
            return read_file(paths[i], self.preprocessing, self.decoder, names[i]) if kept is None else kept

        return Part(np.array(labels, dtype=np.int64), read, names)

    @cached_property
    def _whole(self) -> Part:
        return self._part(self._folder)

    @cached_property
    def _decoded(self) -> dict[Path, Tensor]:
        """Images that were decoded already; each is given once."""
        return {}

    @cached_property
    def _division(self) -> tuple[Labels, Labels]:
        """Rows to train on and to test on, where a folder keeps its own for the test; copies on one side together."""
        labels = self._whole.labels
        second = np.zeros(len(labels), dtype=bool)
        second[hold_out_each(labels, self.spec.held_out)[1]] = True
        second = apart(labels, grouped(self._prints()), second)
        return np.flatnonzero(~second), np.flatnonzero(second)

    def _prints(self) -> list[str]:
        """Fingerprints of all images: of their pixels if that is soon done, which are then kept, or of the files."""
        paths = [self._root / name for name in self._whole.names]
        if len(paths) > MOST_FILES or sum(p.stat().st_size for p in paths if p.exists()) > MOST_BYTES:
            return equal_files(paths)
        found = []
        for i, path in enumerate(paths):
            try:
                image = self._whole.read(i)
            except UnreadableError:  # which is said when it is asked for
                found.append("")
            else:
                self._decoded[path] = image
                found.append(fingerprint(image))
        return found


def _rows(part: Part, rows: np.typing.NDArray[np.int64]) -> Part:
    """Some images of a part; each keeps its place among all of them in `splits.json`."""
    kept = [int(i) for i in rows]
    return Part(part.labels[rows], lambda i: part.read(kept[i]), tuple(part.names[i] for i in kept), tuple(kept))
