"""From a task's data table to tensors: what a search sees, and what finalists are trained and measured on."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.common.errors import DataError
from utuning_search.data.copies import across, apart, by_print, fingerprints, grouped, torn, within
from utuning_search.data.csv_table import Csv
from utuning_search.data.decoded import FinalData, SearchData, Split, Store
from utuning_search.data.digits import Digits
from utuning_search.data.folder import Folder
from utuning_search.data.given import Given, OwnData
from utuning_search.data.oddities import oddities
from utuning_search.data.own import Own
from utuning_search.data.parquet import Parquet
from utuning_search.data.permit import TestPermit
from utuning_search.data.pixels import UnreadableError
from utuning_search.data.shots import final_rows, search_rows
from utuning_search.data.source import Part, Source
from utuning_search.data.spec import STORED, DataSpec
from utuning_search.data.stored import Stored
from utuning_search.data.torchvision import Torchvision

SOURCES: dict[str, type[Source]] = {
    "digits": Digits,
    "imagefolder": Folder,
    "torchvision": Torchvision,
    "csv": Csv,
    "parquet": Parquet,
    STORED: Stored,
}
UNREADABLE = 0.05  # of the images asked for: with more of them, something else is wrong
NAMED = 3
MOST_CHECKED = 2_000  # test images, before a search


def load_search_data(
    spec: DataSpec, preprocessing: Preprocessing, data_dir: Path | None = None, store: Store | None = None
) -> SearchData:
    """The proxy and validation splits of a task. No test image is read.

    Args:
        spec, preprocessing: Of the task.
        data_dir: Where relative paths start.
        store: Where images are decoded to; None for memory.

    Raises:
        DataError: Too few images, a class with too few of them, or too many that cannot be read (named).
        InputError: The image folder or the dataset's files are not there.
    """
    source = SOURCES[spec.source](spec, preprocessing, data_dir)
    part = source.train()
    rows = search_rows(part.labels, spec, source.where, source.classes)
    proxy, validation = _read(part, dict(zip(("proxy", "validation"), rows, strict=True)), source, store)
    notes: tuple[str, ...] = ()
    if source.looked_at:
        labels = torch.cat([proxy.labels, validation.labels])
        prints = fingerprints(proxy.images) + fingerprints(validation.images)
        groups, second = grouped(prints), np.arange(len(labels)) >= len(proxy.labels)
        divided = apart(labels.numpy(), groups, second) if source.divided else second
        about = _names(proxy) + _names(validation), prints, labels.tolist(), source.classes
        copied = within(*about, together=not torn(groups, divided))
        notes = *source.notes(), *oddities(*about), *copied
        if divided is not second:
            proxy, validation = _divided(proxy, validation, divided, store)
    digest = _digest(proxy, validation)
    return SearchData(proxy, validation, source.classes, digest, source.decoder.settings, notes)


def load_final_data(
    spec: DataSpec,
    preprocessing: Preprocessing,
    data_dir: Path | None = None,
    *,
    permit: TestPermit | None = None,
    store: Store | None = None,
) -> FinalData:
    """The full training split and the test split of a task: images x channels x size x size bytes; see `store` above.

    Raises:
        DataError: There is no permit, or as `load_search_data`.
        InputError: As `load_search_data`.
    """
    source = SOURCES[spec.source](spec, preprocessing, data_dir)
    test = source.test(permit)  # first: without a permit nothing is read
    part = source.train()
    rows = final_rows(part.labels, spec, source.where, source.classes)
    (train,) = _read(part, {"train": rows}, source, store)
    (measured,) = _read(test, {"test": range(len(test.labels))}, source, store)
    notes: tuple[str, ...] = ()
    if source.looked_at:
        prints = by_print(_names(train), fingerprints(train.images))
        tested = zip(_names(measured), fingerprints(measured.images), strict=True)
        notes = (*source.notes(), *across(prints, tested))
    digest = _digest(train, measured)
    return FinalData(train, measured, source.classes, digest, source.decoder.settings, notes)


def write_given(given: OwnData, folder: Path, preprocessing: Preprocessing) -> None:
    """Decode images that are given from Python into a folder, for the source "stored".

    Raises:
        DataError: Too many cannot be read, or the disk has no room for them.
        InputError: Something is no image.
    """
    source, store = Given(given, preprocessing), Store(folder)
    (train,) = _read(source.train(), {"train": range(len(given.train))}, source, store)
    (test,) = _read(source.tested(), {"test": range(len(given.test or ()))}, source, store)
    skipped = {**train.skipped, **test.skipped}.items()
    notes = (*source.notes(), *(f"{name} cannot be read ({why}), and is left out." for name, why in skipped))
    FinalData(train, test, given.classes, _digest(train, test), source.decoder.settings, notes).save(folder)


def check_test_data(
    spec: DataSpec,
    preprocessing: Preprocessing,
    data: SearchData,
    data_dir: Path | None = None,
    *,
    permit: TestPermit | None = None,
) -> tuple[str, ...]:
    """Whether finals will be able to use the test images of an image folder, asked before a search.

    Up to 2,000 images are decoded, for nothing but this; of more an even choice is, and copies among the others are
    found only where the files are equal. Of published datasets nothing is looked at.

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
    (measured,) = _read(test, {"test": rows}, source)
    prints, names = fingerprints(measured.images), _names(measured)
    skipped = [f"test image {name} cannot be read ({why}), and is left out." for name, why in measured.skipped.items()]
    # Training images that the search has not drawn are compared as files.
    files = source.equal(train, test)
    known = by_print([*train.names], files[: len(train.names)])
    for split in (data.proxy, data.validation):
        known |= by_print(_names(split), fingerprints(split.images))
    by_file = dict(zip(test.names, files[len(train.names) :], strict=True))
    seen = dict(zip(names, prints, strict=True))
    # Those that were not decoded are compared as files all the same.
    left = [name for name in test.names if name not in measured.skipped]
    tested = [(name, seen[name] if seen.get(name) in known else by_file[name]) for name in left]
    odd = oddities(names, prints, measured.labels.tolist(), source.classes)
    read = () if spec.held_out else source.decoder.notes(data.decoding)  # held-out images are of the same kinds
    whole = len(rows) == len(test.labels)
    return *skipped, *(f"of the test, {note}" for note in (*read, *odd)), *across(known, tested, whole=whole)


def _names(split: Split) -> list[str]:
    return list(split.names) or [f"number {row}" for row in split.rows]


def _divided(first: Split, second: Split, in_second: npt.NDArray[np.bool_], store: Store | None) -> tuple[Split, Split]:
    """The images of both divided anew, in the order of their rows."""
    labels, count = torch.cat([first.labels, second.labels]), len(first.labels)
    rows, names = (*first.rows, *second.rows), (*first.names, *second.names)

    def part(which: npt.NDArray[np.bool_], before: Split, file: str) -> Split:
        order = sorted(np.flatnonzero(which).tolist(), key=rows.__getitem__)
        taken = tuple(names[i] for i in order) if names else ()
        images = _allocated(file, (len(order), *first.images.shape[1:]), store)
        for place, i in enumerate(order):  # one by one, as they may not fit into memory
            images[place] = first.images[i] if i < count else second.images[i - count]
        return Split(images, labels[order], tuple(rows[i] for i in order), taken, before.skipped, file if store else "")

    return part(~in_second, first, "proxy-divided"), part(in_second, second, "validation-divided")


def _read(part: Part, wanted: Mapping[str, Sequence[int]], source: Source, store: Store | None = None) -> list[Split]:
    """The images of each list of rows, each decoded once; those that cannot be read are left out, up to a limit."""
    splits = [_split(part, rows, source.preprocessing, name, store) for name, rows in wanted.items()]
    skipped = [f"{name} ({why})" for split in splits for name, why in split.skipped.items()]
    count = sum(map(len, wanted.values()))
    if len(skipped) > UNREADABLE * count:
        more = len(skipped) - NAMED
        shown = "; ".join(skipped[:NAMED]) + (f"; and {more} more" if more > 0 else "")
        rule = f"at most {UNREADABLE:.0%} of the images cannot be read"
        raise DataError(source.where, rule, f"{len(skipped)} of {count}: {shown}", "Replace or remove the files.")
    return splits


def _allocated(name: str, shape: Sequence[int], store: Store | None) -> torch.Tensor:
    return torch.empty(*shape, dtype=torch.uint8) if store is None else store.allocate(name, shape)


def _split(part: Part, rows: Sequence[int], preprocessing: Preprocessing, name: str, store: Store | None) -> Split:
    size = preprocessing.image_size
    images = _allocated(name, (len(rows), preprocessing.channels, size, size), store)
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
        name if store else "",
    )


def _digest(*splits: Split) -> str:
    content = hashlib.sha256()
    for split in splits:
        content.update("\n".join(split.skipped).encode())  # without the reasons, which are words of a library
        for tensor in (split.images, split.labels):
            content.update(tensor.numpy().data)
    return content.hexdigest()[:12]
