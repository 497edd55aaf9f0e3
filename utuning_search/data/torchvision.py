"""Datasets that torchvision has a class for, from files that are there already; a door to torchvision."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torchvision import datasets

from utuning_search.common.errors import DataError, InputError
from utuning_search.data.decoding import Opener
from utuning_search.data.pixels import openers, read_file, to_tensor
from utuning_search.data.places import look_up, searched
from utuning_search.data.source import Part, Source
from utuning_search.data.splits import hold_out

TEST_SHARE = 0.2  # of a dataset without a test split


@dataclass(frozen=True)
class Entry:
    """How one of torchvision's classes is used.

    Attributes:
        make: The class.
        place: A file or folder that its constructor expects below its root.
        train: Its arguments, one mapping for each of its parts that are not for the test.
        test: Its arguments for the test images; None where it has no such split, and a fixed share is held out.
        labels: Labels of a dataset, without decoding an image.
        files: Image files of a dataset; None where images lie in arrays.
        hint: More about the expected files.
    """

    make: Callable[..., Any]
    place: str
    train: tuple[Mapping[str, object], ...]
    test: Mapping[str, object] | None
    labels: Callable[[Any], Sequence[int]]
    files: Callable[[Any], Sequence[Path | str]] | None = None
    hint: str = ""


_TRAIN, _TEST = {"train": True}, {"train": False}
_PARTS: tuple[dict[str, object], ...] = ({"split": "train"}, {"split": "val"})
DATASETS: dict[str, Entry] = {
    "CIFAR10": Entry(datasets.CIFAR10, "cifar-10-batches-py", (_TRAIN,), _TEST, lambda d: d.targets),
    "CIFAR100": Entry(datasets.CIFAR100, "cifar-100-python", (_TRAIN,), _TEST, lambda d: d.targets),
    "DTD": Entry(datasets.DTD, "dtd/dtd", _PARTS, {"split": "test"}, lambda d: d._labels, lambda d: d._image_files),
    "EuroSAT": Entry(
        datasets.EuroSAT, "eurosat/2750", ({},), None, lambda d: d.targets, lambda d: [path for path, _ in d.samples]
    ),
    "FashionMNIST": Entry(
        datasets.FashionMNIST,
        "FashionMNIST/raw",
        (_TRAIN,),
        _TEST,
        lambda d: d.targets.tolist(),
        hint="with the four *-ubyte files unpacked",
    ),
    "Flowers102": Entry(
        datasets.Flowers102, "flowers-102", _PARTS, {"split": "test"}, lambda d: d._labels, lambda d: d._image_files
    ),
    "OxfordIIITPet": Entry(
        datasets.OxfordIIITPet,
        "oxford-iiit-pet",
        ({"split": "trainval"},),
        {"split": "test"},
        lambda d: d._labels,
        lambda d: d._images,
    ),
    "StanfordCars": Entry(
        datasets.StanfordCars,
        "stanford_cars",
        ({"split": "train"},),
        {"split": "test"},
        lambda d: [label for _, label in d._samples],
        lambda d: [path for path, _ in d._samples],
        "whose original place on the web is gone, so that they have to come from elsewhere",
    ),
    "SVHN": Entry(
        datasets.SVHN, "train_32x32.mat", ({"split": "train"},), {"split": "test"}, lambda d: d.labels.tolist()
    ),
}


class Torchvision(Source):
    """One of torchvision's datasets, by name; nothing is ever downloaded."""

    @property
    def where(self) -> str:
        return f"task data, dataset {self.spec.dataset}"

    @property
    def _entry(self) -> Entry:
        return DATASETS[self.spec.dataset]

    @cached_property
    def _root(self) -> Path:
        """What torchvision calls its root: the folder that holds the entry's place."""
        place = Path(self.spec.root) / self._entry.place
        found = look_up(str(place), self.data_dir)
        if found is None:
            raise self._absent(f"no {place} in {', '.join(map(str, searched(self.data_dir)))}")
        return Path(str(found).removesuffix(str(Path(self._entry.place))) or ".")

    @cached_property
    def classes(self) -> tuple[str, ...]:
        first = self._parts[0]
        names = getattr(first, "classes", None) or range(1 + max(self._entry.labels(first)))
        return tuple(map(str, names))

    @cached_property
    def _parts(self) -> list[Any]:
        """The datasets whose images are not for the test, or hold all images where none are set apart."""
        return [self._open(arguments) for arguments in self._entry.train]

    def examples(self) -> Iterable[Opener]:
        listed = self._entry.files
        return openers(Path(path) for part in self._parts for path in listed(part)) if listed else ()

    def train(self) -> Part:
        whole = self._part(self._parts)
        return whole if self._entry.test is not None else self._held(whole, 0)

    def _test(self) -> Part:
        if self._entry.test is not None:
            return self._part([self._open(self._entry.test)])
        return self._held(self._part(self._parts), 1)

    def _held(self, whole: Part, which: int) -> Part:
        """The images that are kept for training (0) or for the test (1): the same for every seed of a task."""
        rows = sorted(map(int, hold_out(whole.labels, round(TEST_SHARE * len(whole.labels)))[which]))
        names = tuple(whole.names[i] for i in rows) if whole.names else ()
        return Part(whole.labels[rows], lambda i: whole.read(rows[i]), names, tuple(rows))

    def _part(self, parts: list[Any]) -> Part:
        labels = [np.asarray(self._entry.labels(part), dtype=np.int64) for part in parts]
        places = [(part, i) for part in parts for i in range(len(part))]
        files = self._entry.files
        paths = [Path(path) for part in parts for path in files(part)] if files else []

        names = tuple(p.relative_to(self._root).as_posix() if p.is_relative_to(self._root) else str(p) for p in paths)

        def read(row: int) -> Tensor:
            if paths:  # rather than through the dataset, which would make a picture of one colour mode first
                return read_file(paths[row], self.preprocessing, self.decoder, names[row])
            part, i = places[row]
            return to_tensor(lambda: part[i][0], self.preprocessing, self.decoder, f"number {row}")

        return Part(np.concatenate(labels), read, names)

    def _open(self, arguments: Mapping[str, object]) -> Any:
        try:
            return self._entry.make(str(self._root), download=False, **arguments)
        except (RuntimeError, OSError) as error:
            raise self._absent(f"{self._root / self._entry.place}: {' '.join(str(error).split())}") from None
        except (ValueError, KeyError, EOFError, TypeError) as error:  # files of another content
            got = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise DataError(self.where, f"its files in {self._root} are what torchvision expects", got) from None

    def _absent(self, got: str) -> InputError:
        name, entry = self.spec.dataset, self._entry
        rule = f"its files lie at {entry.place} in the data directory" + (f", {entry.hint}" if entry.hint else "")
        todo = f'Fetch them with torchvision.datasets.{name}("DIR", download=True), then give --data-dir DIR.'
        return InputError(self.where, rule, got, todo)
