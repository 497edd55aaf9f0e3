"""From a task's data table to tensors: what a search sees, and what finalists are trained and measured on."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch
import torch

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.common.errors import DataError
from utuning_search.data.copies import across, apart, by_print, fingerprints, grouped, torn, within
from utuning_search.data.csv_table import Csv
from utuning_search.data.decoding import Decoding
from utuning_search.data.digits import Digits
from utuning_search.data.folder import Folder
from utuning_search.data.oddities import oddities
from utuning_search.data.own import Own
from utuning_search.data.parquet import Parquet
from utuning_search.data.permit import TestPermit, check_permit
from utuning_search.data.pixels import UnreadableError
from utuning_search.data.source import Part, Source
from utuning_search.data.spec import DataSpec
from utuning_search.data.splits import check_trainable, limited, split_indices
from utuning_search.data.torchvision import Torchvision

SOURCES: dict[str, type[Source]] = {
    "digits": Digits,
    "imagefolder": Folder,
    "torchvision": Torchvision,
    "csv": Csv,
    "parquet": Parquet,
}
UNREADABLE = 0.05  # of the images asked for: with more of them, something else is wrong
NAMED = 3
MOST_CHECKED = 2_000  # test images, before a search


@dataclass(frozen=True)
class Split:
    """Images of one split: uint8 (images, channels, height, width), and int64 labels (images,).

    Attributes:
        rows: Where each image lies among those of its source; see `splits.json` of a study.
        names: Of the images; empty where they have none.
        skipped: Unreadable images that were left out, and why, by name.
    """

    images: torch.Tensor
    labels: torch.Tensor
    rows: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)

    def index(self) -> dict[str, Any]:
        """Which images these are, as a table."""
        return {"indices": list(self.rows), "names": list(self.names), "skipped": dict(self.skipped)}


@dataclass(frozen=True)
class SearchData:
    """What trials are trained and compared on.

    Attributes:
        proxy: Trained on.
        validation: Compared on.
        classes: Names by label.
        digest: Twelve hexadecimal digits that change with any image, label or split.
        decoding: How pictures are read where files leave it open.
        notes: What was done to pictures, and what is odd about them, a line each.
    """

    proxy: Split
    validation: Split
    classes: tuple[str, ...]
    digest: str
    decoding: Decoding = field(default_factory=Decoding)
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def index(self) -> dict[str, Any]:
        """Which images were drawn, for a study's `splits.json`."""
        return _index(self, dict(self._splits()))

    @property
    def skipped(self) -> dict[str, str]:
        """Unreadable images that were left out, and why, by name."""
        return {**self.proxy.skipped, **self.validation.skipped}

    def save(self, path: Path) -> None:
        """Write images and labels, decoded, for `restore`."""
        _save(path, self, dict(self._splits()))

    @classmethod
    def restore(cls, path: Path) -> "SearchData":
        """What `save` wrote: the same images, labels and digest, without decoding an image again."""
        (proxy, validation), about = _restore(path, ("proxy", "validation"))
        return cls(proxy, validation, **about)

    def _splits(self) -> tuple[tuple[str, Split], ...]:
        return ("proxy", self.proxy), ("validation", self.validation)


@dataclass(frozen=True)
class FinalData:
    """What finalists are trained and measured on.

    Attributes:
        train: All images of the task that are not for the test.
        test: Measured on, once.
        classes: Names by label, those of the search.
        digest: Twelve hexadecimal digits that change with any image or label.
        decoding, notes: As of `SearchData`.
    """

    train: Split
    test: Split
    classes: tuple[str, ...]
    digest: str
    decoding: Decoding = field(default_factory=Decoding)
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    def save(self, path: Path) -> None:
        """Write images and labels, decoded, for `restore`."""
        _save(path, self, {"train": self.train, "test": self.test})

    @classmethod
    def restore(cls, path: Path, *, permit: TestPermit | None = None) -> "FinalData":
        """What `save` wrote, without decoding an image again; test images take the permit here too."""
        check_permit(permit, f"images {path}")
        (train, test), about = _restore(path, ("train", "test"))
        return cls(train, test, **about)


def _index(data: SearchData | FinalData, splits: Mapping[str, Split]) -> dict[str, Any]:
    """What images these are and how they were read, as a table; without what says nothing, as in older studies."""
    table = {"digest": data.digest, "classes": list(data.classes)}
    said = {"decoding": data.decoding.to_dict(), "notes": list(data.notes)}
    return {**table, **{k: v for k, v in said.items() if v}, **{name: split.index() for name, split in splits.items()}}


def _save(path: Path, data: SearchData | FinalData, splits: Mapping[str, Split]) -> None:
    tensors = {f"{name}.images": split.images for name, split in splits.items()}
    tensors |= {f"{name}.labels": split.labels for name, split in splits.items()}
    safetensors.torch.save_file(tensors, path, {"index": json.dumps(_index(data, splits))})


def _restore(path: Path, names: Sequence[str]) -> tuple[list[Split], dict[str, Any]]:
    tensors = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, "pt") as file:
        table = json.loads(file.metadata()["index"])
    splits = [
        Split(
            tensors[f"{name}.images"],
            tensors[f"{name}.labels"],
            tuple(table[name]["indices"]),
            tuple(table[name]["names"]),
            table[name]["skipped"],
        )
        for name in names
    ]
    about = {"classes": tuple(table["classes"]), "digest": table["digest"], "notes": tuple(table.get("notes", ()))}
    return splits, about | {"decoding": Decoding.from_dict(table.get("decoding", {}))}


def load_search_data(spec: DataSpec, preprocessing: Preprocessing, data_dir: Path | None = None) -> SearchData:
    """The proxy and validation splits of a task. No test image is read.

    Raises:
        DataError: Too few images, a class with too few of them, or too many that cannot be read (named).
        InputError: The image folder or the dataset's files are not there.
    """
    source = SOURCES[spec.source](spec, preprocessing, data_dir)
    part = source.train()
    proxy, validation = _read(part, split_indices(part.labels, spec, source.where, source.classes), source)
    notes: tuple[str, ...] = ()
    if source.looked_at:
        labels = torch.cat([proxy.labels, validation.labels])
        prints = fingerprints(proxy.images) + fingerprints(validation.images)
        groups, second = grouped(prints), np.arange(len(labels)) >= len(proxy.labels)
        divided = apart(labels.numpy(), groups, second) if source.divided else second
        about = _names(proxy) + _names(validation), prints, labels.tolist(), source.classes
        copied = within(*about, together=not torn(groups, divided))
        notes = *source.decoder.notes(), *oddities(*about), *copied
        if divided is not second:
            proxy, validation = _divided(proxy, validation, divided)
    digest = _digest(proxy, validation)
    return SearchData(proxy, validation, source.classes, digest, source.decoder.settings, notes)


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
    check_trainable(part.labels, spec, source.where, source.classes)
    (train,) = _read(part, [limited(part.labels, spec, source.where)], source)
    (measured,) = _read(test, [range(len(test.labels))], source)
    notes: tuple[str, ...] = ()
    if source.looked_at:
        prints = by_print(_names(train), fingerprints(train.images))
        tested = zip(_names(measured), fingerprints(measured.images), strict=True)
        notes = (*source.decoder.notes(), *across(prints, tested))
    digest = _digest(train, measured)
    return FinalData(train, measured, source.classes, digest, source.decoder.settings, notes)


def check_test_data(
    spec: DataSpec,
    preprocessing: Preprocessing,
    data: SearchData,
    data_dir: Path | None = None,
    *,
    permit: TestPermit | None = None,
) -> tuple[str, ...]:
    """Whether finals will be able to use the test images of an image folder, asked before a search.

    Up to 2,000 images are decoded, for nothing but this. Of published datasets nothing is looked at.

    Args:
        data: What the search sees.
        Others: As of `load_final_data`.

    Returns:
        What is odd about them, a line each; among these how many are trained on too.

    Raises:
        DataError, InputError: As `load_final_data`.
    """
    source = SOURCES[spec.source](spec, preprocessing, data_dir)
    if not isinstance(source, Own):
        return ()
    test, train = source.test(permit), source.train()
    rows = range(len(test.labels))[:: max(math.ceil(len(test.labels) / MOST_CHECKED), 1)]
    (measured,) = _read(test, [rows], source)
    prints, names = fingerprints(measured.images), _names(measured)
    skipped = [f"test image {name} cannot be read ({why}), and is left out." for name, why in measured.skipped.items()]
    # Training images that the search has not drawn are compared as files.
    files = source.equal(train, test)
    known = by_print([*train.names], files[: len(train.names)])
    for split in (data.proxy, data.validation):
        known |= by_print(_names(split), fingerprints(split.images))
    by_file = dict(zip(test.names, files[len(train.names) :], strict=True))
    tested = [(name, p if p in known else by_file[name]) for name, p in zip(names, prints, strict=True)]
    odd = oddities(names, prints, measured.labels.tolist(), source.classes)
    return *skipped, *(f"of the test, {note}" for note in odd), *across(known, tested)


def _names(split: Split) -> list[str]:
    return list(split.names) or [f"number {row}" for row in split.rows]


def _divided(first: Split, second: Split, in_second: npt.NDArray[np.bool_]) -> tuple[Split, Split]:
    """The images of both divided anew, in the order of their rows."""
    images, labels = torch.cat([first.images, second.images]), torch.cat([first.labels, second.labels])
    rows, names = (*first.rows, *second.rows), (*first.names, *second.names)

    def part(which: npt.NDArray[np.bool_], skipped: dict[str, str]) -> Split:
        order = sorted(np.flatnonzero(which).tolist(), key=rows.__getitem__)
        taken = tuple(names[i] for i in order) if names else ()
        return Split(images[order], labels[order], tuple(rows[i] for i in order), taken, skipped)

    return part(~in_second, first.skipped), part(in_second, second.skipped)


def _read(part: Part, wanted: Sequence[Sequence[int]], source: Source) -> list[Split]:
    """The images of each list of rows, each decoded once; those that cannot be read are left out, up to a limit."""
    splits = [_split(part, rows, source.preprocessing) for rows in wanted]
    skipped = [f"{name} ({why})" for split in splits for name, why in split.skipped.items()]
    count = sum(map(len, wanted))
    if len(skipped) > UNREADABLE * count:
        more = len(skipped) - NAMED
        shown = "; ".join(skipped[:NAMED]) + (f"; and {more} more" if more > 0 else "")
        rule = f"at most {UNREADABLE:.0%} of the images cannot be read"
        raise DataError(source.where, rule, f"{len(skipped)} of {count}: {shown}", "Replace or remove the files.")
    return splits


def _split(part: Part, rows: Sequence[int], preprocessing: Preprocessing) -> Split:
    size = preprocessing.image_size
    images = torch.empty(len(rows), preprocessing.channels, size, size, dtype=torch.uint8)
    kept: list[int] = []
    skipped: dict[str, str] = {}
    for i in rows:
        try:
            image = part.read(i)
        except UnreadableError as error:
            skipped[part.name(i)] = str(error)
        else:
            images[len(kept)] = image
            kept.append(i)
    return Split(
        images[: len(kept)],
        torch.from_numpy(part.labels[kept]),
        tuple(map(part.row, kept)),
        tuple(part.names[i] for i in kept) if part.names else (),
        skipped,
    )


def _digest(*splits: Split) -> str:
    content = hashlib.sha256()
    for split in splits:
        content.update("\n".join(split.skipped).encode())  # without the reasons, which are words of a library
        for tensor in (split.images, split.labels):
            content.update(tensor.numpy().data)
    return content.hexdigest()[:12]
