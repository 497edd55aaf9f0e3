"""Parquet files with the images' bytes in them, as Hugging Face lays them out; the door of pyarrow."""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from utuning_search.common.errors import DataError, InputError
from utuning_search.common.wording import listed, printable
from utuning_search.data.decoding import Opener
from utuning_search.data.listing import files_below
from utuning_search.data.places import fixed, matching
from utuning_search.data.table import RULE, SPLITS, TRAIN, Table, Tabular, check_label, split_of

IMAGE, LABEL, SUFFIX = "image", "label", ".parquet"
COLUMNS = f"it has a column '{IMAGE}' of bytes, or of bytes and path, and a column '{LABEL}' of numbers or names"
_SPLIT = re.compile(r"(train|validation|val|test)(?=[-_.]|$)", re.IGNORECASE)


class ParquetTable(Table):
    """The rows of all Parquet files at a place: a file, a folder or a pattern such as photos/train-*.parquet."""

    def __init__(self, place: Path) -> None:
        self._arrow = _pyarrow(f"data {place}")
        where = f"Parquet data {place}"
        base, self._files = parquet_files(place)
        if not self._files:
            raise InputError(where, f"there are {SUFFIX} files", "none")
        shards = _splits(base, self._files, where)
        names: list[str] = []
        labels: list[str] = []
        splits: list[str] = []
        unlabelled: list[str] = []
        self._place: list[tuple[int, int]] = []  # file and row in it, by row
        order: list[str] = []
        for split in SPLITS:
            numbers = [i for i, found in enumerate(shards) if found == split]
            read = [self._labels(self._files[i]) for i in numbers]
            if read and all(value is None for values, _ in read for value in values):
                unlabelled += [split] if any(values for values, _ in read) else []
                continue
            for i, (values, known) in zip(numbers, read, strict=True):
                name = self._files[i].relative_to(base).as_posix()
                if known and order and known != order:
                    raise DataError(f"{where}, {name}", "all files have the same names of classes", "others")
                order = order or known
                self._check(values, f"{where}, {name}")
                labels += map(str, values)
                names += (f"{name}:{row}" for row in range(len(values)))
                self._place += ((i, row) for row in range(len(values)))
                splits += [split] * len(values)
        if not order and all(re.fullmatch(r"-?\d+", label) for label in set(labels)):
            order = sorted(set(labels), key=int)
        super().__init__(where, names, labels, splits, order, unlabelled)
        self._kept: tuple[tuple[int, int], Any] = (-1, -1), None  # the row group that was read last
        self._groups: dict[int, Any] = {}
        if not names:
            self.refuse(RULE, "no row with a class")

    def open(self, row: int) -> Image.Image:
        return Image.open(io.BytesIO(self._content(row)))

    def examples(self, rows: Iterable[int]) -> list[Opener]:
        return [partial(self.open, row) for row in rows]

    def size(self, rows: Sequence[int]) -> int:
        """Of the files, compressed as they are: pictures are compressed already."""
        return sum(self._files[i].stat().st_size for i in {self._place[row][0] for row in rows})

    def equal(self, rows: Sequence[int]) -> list[str]:
        found = [""] * len(rows)
        for i, row in enumerate(rows):
            with suppress(OSError, ValueError):  # which whoever decodes it will say
                found[i] = hashlib.blake2b(self._content(row), digest_size=16).hexdigest()
        return found

    def _content(self, row: int) -> bytes:
        """The bytes of a picture; an OSError where there are none."""
        i, inside = self._place[row]
        if i not in self._groups:
            metadata = self._arrow.ParquetFile(self._files[i]).metadata
            counts = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
            self._groups[i] = np.cumsum([0, *counts])
        starts = self._groups[i]
        group = int(np.searchsorted(starts, inside, side="right")) - 1
        if self._kept[0] != (i, group):
            self._kept = (-1, -1), None  # before the next one is read
            column = self._arrow.ParquetFile(self._files[i]).read_row_group(group, columns=[IMAGE]).column(0)
            self._kept = (i, group), column
        value = self._kept[1][inside - int(starts[group])].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is None:
            path = value.get("path") if isinstance(value, dict) else None
            raise OSError(f"no bytes, but the path '{printable(path)}'" if path else "no bytes")
        return bytes(content)

    def _labels(self, file: Path) -> tuple[list[Any], list[str]]:
        """Labels of a file, None where there is none, and the names of its classes if it has a list of them."""
        where = f"Parquet file {file}"
        try:
            opened = self._arrow.ParquetFile(file)
            schema = opened.schema_arrow
            _check_schema(schema, where)
            values = opened.read(columns=[LABEL]).column(LABEL).to_pylist()
        except (OSError, ValueError) as error:  # pyarrow's errors are of these, and of words that are no UTF-8
            raise InputError(where, "it can be read", " ".join(str(error).split())) from None
        names = _class_names(schema, where)
        if names:
            for row, value in enumerate(values):
                if value is not None and not -1 <= value < len(names):
                    rule = f"labels are from 0 to {len(names) - 1}, the numbers of its classes"
                    raise DataError(f"{where}, row {row}", rule, value)
            values = [None if value is None or value < 0 else names[value] for value in values]
        elif values and all(value in (None, -1) for value in values):
            values = [None] * len(values)
        return values, names

    @staticmethod
    def _check(values: Sequence[Any], where: str) -> None:
        for row, value in enumerate(values):
            check_label("" if value is None else str(value), f"{where}, row {row}", "; rows count from 0")


class Parquet(Tabular):
    """Images in Parquet files."""

    @staticmethod
    def read(place: Path) -> ParquetTable:
        return ParquetTable(place)


def parquet_files(place: Path) -> tuple[Path, list[Path]]:
    """The Parquet files at a place, sorted, and the folder that their names start from."""
    if place.is_file():
        return place.parent, [place]
    if place.is_dir():
        return place, sorted(path for path in files_below(place) if path.suffix.lower() == SUFFIX)
    return fixed(place), sorted(matching(place))


def _splits(base: Path, files: Sequence[Path], where: str) -> list[str]:
    """The split of each file, by its name or that of a folder; all are for training where none has one."""
    names = [file.relative_to(base) for file in files]
    found = [next((m[1] for part in reversed(name.parts) if (m := _SPLIT.match(part))), "") for name in names]
    if not any(found):
        return [TRAIN] * len(files)
    if not all(found):
        odd = [str(name) for name, split in zip(names, found, strict=True) if not split]
        rule = "files are called train-*, validation-* and test-*, or none of them is"
        raise DataError(where, rule, f"{listed(odd)} beside others", "Give the others as a pattern in quotes.")
    splits = [split_of(name) for name in found]
    for split in dict.fromkeys(splits):
        folders = {str(n.parent) for n, s in zip(names, splits, strict=True) if s == split}
        if len(folders) > 1:
            todo = "Give one of them: several configurations of a data set hold the same images."
            raise DataError(where, f"its files for '{split}' lie in one folder", listed(sorted(folders)), todo)
    return splits


def _check_schema(schema: Any, where: str) -> None:
    twice = [name for name in dict.fromkeys(schema.names) if schema.names.count(name) > 1]
    if twice:
        raise InputError(where, "each column is there once", f"{listed(twice)} several times")
    got = listed([f"{field.name} ({field.type})" for field in schema], 8)
    if IMAGE not in schema.names or LABEL not in schema.names:
        raise InputError(where, COLUMNS, got, "Rename the columns.")
    image, label = str(schema.field(IMAGE).type), str(schema.field(LABEL).type)
    stored = re.fullmatch(r"(large_)?binary(_view)?|struct<.*\bbytes: (large_)?binary\b.*>|fixed_size_binary.*", image)
    if not stored or not re.fullmatch(r"u?int\d+|(large_)?string(_view)?|dictionary<values=(large_)?string.*>", label):
        raise InputError(where, COLUMNS, got)


def _class_names(schema: Any, where: str) -> list[str]:
    """Names of the classes by number, as `datasets` keeps them with a file; none if it has not."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])
        names = about["info"]["features"][LABEL]["names"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return []
    if not str(schema.field(LABEL).type).lstrip("u").startswith("int"):
        return []
    if not (isinstance(names, list) and all(isinstance(n, str) and n for n in names) and len({*names}) == len(names)):
        raise InputError(where, "the names of its classes are different words", printable(repr(names))[:80])
    return names


def _pyarrow(where: str) -> Any:
    """pyarrow's readers, which only those who have such files need."""
    try:
        import pyarrow.parquet
    except ImportError:
        todo = "pip install 'utuning-search[parquet]'"
        raise InputError(where, "pyarrow is installed", "no module of that name", todo) from None
    return pyarrow.parquet
