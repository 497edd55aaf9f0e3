"""Decoded images: in memory, or in files that are mapped into it, which processes share and which may be larger."""

import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from utuning_search.common.errors import DataError
from utuning_search.common.files import write_atomically
from utuning_search.common.locks import Mark
from utuning_search.data.decoding import Decoding
from utuning_search.data.permit import TestPermit, check_permit

ABOUT = "about.safetensors"  # labels, and what images these are; the last of a store's files
MIB = 1 << 20


class Store:
    """A folder of decoded images, for the processes of one run.

    Attributes:
        folder: Made by the first image; whoever made the store removes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark: Mark | None = None

    @classmethod
    def beside(cls, name: Path) -> "Store":
        """One of a name that nobody has, which begins with that of `name`."""
        store = cls(name.with_name(f"{name.name}.{uuid.uuid4().hex[:8]}"))
        store._mark = Mark(store.folder)
        return store

    def allocate(self, name: str, shape: Sequence[int]) -> Tensor:
        """Zeros, uint8 of a shape, that lie in a file.

        Raises:
            DataError: The disk has no room for them, or the folder cannot be written.
        """
        size = int(np.prod(shape, dtype=np.int64))
        if not size:  # which cannot be mapped
            return torch.empty(*shape, dtype=torch.uint8)
        todo = "Make room there, give fewer images (proxy, validation, limit), or a smaller --image-size."
        path = self.folder / f"{name}.npy"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._mark is not None:
                self._mark.set()
            free = shutil.disk_usage(self.folder).free
            if free < size:
                rule = f"the disk has room for {shape[0]:,} decoded images, {size / MIB:,.0f} MiB"
                raise DataError(f"folder {self.folder.parent}", rule, f"{free / MIB:,.0f} MiB", todo)
            found = np.lib.format.open_memmap(path, "w+", np.uint8, tuple(shape))
            if hasattr(os, "posix_fallocate"):  # or a disk that fills up meanwhile would end the process
                with path.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            raise DataError(f"file {path}", "it can be written", error.strerror or error, todo) from None
        return torch.from_numpy(found)

    def read(self, name: str) -> Tensor:
        """What was written there; pages of it are read when they are looked at, and shared with other processes."""
        path = self.folder / f"{name}.npy"
        return torch.from_numpy(np.load(path, mmap_mode="c")) if path.exists() else torch.empty(0, dtype=torch.uint8)

    def remove(self) -> None:
        """Remove its files; who has mapped them keeps what is mapped."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._mark is not None:
            self._mark.remove()


@dataclass(frozen=True)
class Split:
    """Images of one split: uint8 (images, channels, height, width), and int64 labels (images,).

    Attributes:
        rows: Where each image lies among those of its source; see `splits.json` of a study.
        names: Of the images; empty where they have none.
        skipped: Unreadable images that were left out, and why, by name.
        file: In which file of a store the images lie; empty for those in memory.
    """

    images: torch.Tensor
    labels: torch.Tensor
    rows: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    file: str = ""

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
        """Write images and labels, decoded, into a folder for `restore`; those that lie there are not copied."""
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
        """Write images and labels, decoded, into a folder for `restore`; those that lie there are not copied."""
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


def _save(folder: Path, data: SearchData | FinalData, splits: Mapping[str, Split]) -> None:
    store, files = Store(folder), {}
    for name, split in splits.items():
        files[name] = split.file
        if not split.file or not (folder / f"{split.file}.npy").exists():
            store.allocate(name, split.images.shape).copy_(split.images)
            files[name] = name
    labels = {f"{name}.labels": split.labels for name, split in splits.items()}
    about = {"index": json.dumps(_index(data, splits)), "files": json.dumps(files)}
    write_atomically(folder / ABOUT, safetensors.torch.save(labels, about))


def restore_split(folder: Path, name: str) -> tuple[Split, dict[str, Any]]:
    """One split of what was saved, and what is known of all of them, by the names of `FinalData`'s attributes."""
    (split,), about = _restore(folder, (name,))
    return split, about


def _restore(folder: Path, names: Sequence[str]) -> tuple[list[Split], dict[str, Any]]:
    labels = safetensors.torch.load_file(folder / ABOUT)
    with safetensors.safe_open(folder / ABOUT, "pt") as file:
        metadata = file.metadata()
    table, files, store = json.loads(metadata["index"]), json.loads(metadata["files"]), Store(folder)
    splits = [
        Split(
            store.read(files[name])[: len(labels[f"{name}.labels"])],
            labels[f"{name}.labels"],
            tuple(table[name]["indices"]),
            tuple(table[name]["names"]),
            table[name]["skipped"],
            files[name],
        )
        for name in names
    ]
    about = {"classes": tuple(table["classes"]), "digest": table["digest"], "notes": tuple(table.get("notes", ()))}
    return splits, about | {"decoding": Decoding.from_dict(table.get("decoding", {}))}
