"""From a task's data table to tensors: what a search sees, and what finalists are trained and measured on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from utuning_search.backbone import Preprocessing
from utuning_search.data.digits import Digits
from utuning_search.data.folder import Folder
from utuning_search.data.permit import TestPermit
from utuning_search.data.pixels import UnreadableError
from utuning_search.data.source import Part, Source
from utuning_search.data.splits import check_trainable, limited, split_indices
from utuning_search.data.torchvision import Torchvision
from utuning_search.errors import DataError
from utuning_search.task import DataSpec

SOURCES: dict[str, type[Source]] = {"digits": Digits, "imagefolder": Folder, "torchvision": Torchvision}
UNREADABLE = 0.05  # of the images asked for: with more of them, something else is wrong
NAMED = 3


@dataclass(frozen=True)
class Split:
    """Images of one split: uint8 (images, channels, height, width), and int64 labels (images,).

    Attributes:
        rows: Where each image lies among those of its source; see `splits.json` of a study.
        names: Of the images; empty where they have none.
        skipped: Names of unreadable images that were left out, and why.
    """

    images: torch.Tensor
    labels: torch.Tensor
    rows: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def index(self) -> dict[str, Any]:
        """Which images these are, as a table."""
        return {"indices": list(self.rows), "names": list(self.names)}


@dataclass(frozen=True)
class SearchData:
    """What trials are trained and compared on.

    Attributes:
        proxy: Trained on.
        validation: Compared on.
        classes: Names by label.
        digest: Twelve hexadecimal digits that change with any image, label or split.
    """

    proxy: Split
    validation: Split
    classes: tuple[str, ...]
    digest: str

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def index(self) -> dict[str, Any]:
        """Which images were drawn, for a study's `splits.json`."""
        skipped = [*self.proxy.skipped, *self.validation.skipped]
        splits = {"proxy": self.proxy.index(), "validation": self.validation.index()}
        return {"digest": self.digest, "classes": list(self.classes), "skipped": skipped, **splits}


@dataclass(frozen=True)
class FinalData:
    """What finalists are trained and measured on.

    Attributes:
        train: All images of the task that are not for the test.
        test: Measured on, once.
        classes: Names by label, those of the search.
        digest: Twelve hexadecimal digits that change with any image or label.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]
    digest: str

    @property
    def num_classes(self) -> int:
        return len(self.classes)


def load_search_data(spec: DataSpec, preprocessing: Preprocessing, data_dir: Path | None = None) -> SearchData:
    """The proxy and validation splits of a task. No test image is read.

    Raises:
        DataError: Too few images, a class with too few of them, or too many that cannot be read (named).
        InputError: The image folder or the dataset's files are not there.
    """
    source = SOURCES[spec.source](spec, preprocessing, data_dir)
    part = source.train()
    proxy, validation = _read(part, split_indices(part.labels, spec, source.where, source.classes), source)
    return SearchData(proxy, validation, source.classes, _digest(proxy, validation))


def load_final_data(
    spec: DataSpec, preprocessing: Preprocessing, data_dir: Path | None = None, *, permit: TestPermit | None = None
) -> FinalData:
    """The full training split and the test split of a task, in memory: images x channels x size x size bytes.

    Raises:
        DataError: There is no permit, or as `load_search_data`.
        InputError: As `load_search_data`.
    """
    source = SOURCES[spec.source](spec, preprocessing, data_dir)
    test = source.test(permit)  # first: without a permit nothing is read
    part = source.train()
    check_trainable(part.labels, source.where, source.classes)
    (train,) = _read(part, [limited(part.labels, spec, source.where)], source)
    (measured,) = _read(test, [range(len(test.labels))], source)
    return FinalData(train, measured, source.classes, _digest(train, measured))


def _read(part: Part, wanted: Sequence[Sequence[int]], source: Source) -> list[Split]:
    """The images of each list of rows, each decoded once; those that cannot be read are left out, up to a limit."""
    splits = [_split(part, rows, source.preprocessing) for rows in wanted]
    skipped = [text for split in splits for text in split.skipped]
    count = sum(map(len, wanted))
    if len(skipped) > UNREADABLE * count:
        shown = "; ".join(skipped[:NAMED]) + ("; ..." if len(skipped) > NAMED else "")
        rule = f"at most {UNREADABLE:.0%} of the images cannot be read"
        raise DataError(source.where, rule, f"{len(skipped)} of {count}: {shown}", "Replace or remove the files.")
    return splits


def _split(part: Part, rows: Sequence[int], preprocessing: Preprocessing) -> Split:
    size = preprocessing.image_size
    images = torch.empty(len(rows), preprocessing.channels, size, size, dtype=torch.uint8)
    kept: list[int] = []
    skipped: list[str] = []
    for i in rows:
        try:
            image = part.read(i)
        except UnreadableError as error:
            skipped.append(f"{part.name(i)} ({error})")
        else:
            images[len(kept)] = image
            kept.append(i)
    return Split(
        images[: len(kept)],
        torch.from_numpy(part.labels[kept]),
        tuple(map(part.row, kept)),
        tuple(part.names[i] for i in kept) if part.names else (),
        tuple(skipped),
    )


def _digest(*splits: Split) -> str:
    content = hashlib.sha256()
    for split in splits:
        for tensor in (split.images, split.labels):
            content.update(memoryview(tensor.numpy()))
    return content.hexdigest()[:12]
