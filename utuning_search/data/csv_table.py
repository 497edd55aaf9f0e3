"""A CSV of images: path and label, and a split if the user has one; paths are relative to the file."""

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from utuning_search.common.errors import DataError, InputError
from utuning_search.common.wording import listed, printable
from utuning_search.data.copies import equal_files
from utuning_search.data.decoding import Opener
from utuning_search.data.pixels import open_file, openers
from utuning_search.data.table import RULE, TRAIN, Table, Tabular, check_label, split_of, splits_named

PATH, LABEL, SPLIT = "path", "label", "split"
HEADER = f"its first row is {PATH},{LABEL} or {PATH},{LABEL},{SPLIT}"


class CsvTable(Table):
    """The rows of a CSV file; columns of other names are left alone."""

    def __init__(self, file: Path) -> None:
        where = f"table {file}"
        names: list[str] = []
        labels: list[str] = []
        splits: list[str] = []
        known: dict[str, str] = {}  # one string a class, however many rows it has
        for number, row in _rows(file, where):
            at = f"{where}, row {number}"
            names.append(_path(row[PATH], file.parent, at))
            label = row[LABEL].strip()
            check_label(label, at)
            labels.append(known.setdefault(label, label))
            split = split_of(row.get(SPLIT, TRAIN))
            if not split:
                raise DataError(at, f"its split is one of {splits_named()}", f"'{printable(row[SPLIT])}'")
            splits.append(split)
        super().__init__(where, names, labels, splits)
        self._folder = file.parent
        if not names:
            self.refuse(RULE, "no row but the first")

    def open(self, row: int) -> Image.Image:
        return open_file(self._folder / self.names[row])

    def examples(self, rows: Iterable[int]) -> list[Opener]:
        return openers(self._folder / self.names[row] for row in rows)

    def size(self, rows: Sequence[int]) -> int:
        paths = (self._folder / self.names[row] for row in rows)
        return sum(path.stat().st_size for path in paths if path.exists())  # what is gone is said when it is read

    def equal(self, rows: Sequence[int]) -> list[str]:
        return equal_files([self._folder / self.names[row] for row in rows])


class Csv(Tabular):
    """Images that a CSV lists."""

    @staticmethod
    def read(place: Path) -> CsvTable:
        return CsvTable(place)


def _rows(file: Path, where: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row by column, and its number as a spreadsheet has it: the one that names the columns is row 1."""
    number = 0
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            rows = csv.reader(text, strict=True)
            columns = [name.strip() for name in next(rows, [])]
            _check_columns(columns, where)
            for number, row in enumerate(rows, 2):
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(columns):
                    todo = "Put what has a comma in it into double quotes."
                    raise DataError(f"{where}, row {number}", f"it has {len(columns)} columns", len(row), todo)
                yield number, dict(zip(columns, row, strict=True))
    except UnicodeDecodeError as error:
        got = f"byte 0x{error.object[error.start]:02x}"
        raise InputError(where, "it is a text file in UTF-8", got, "Save it as CSV UTF-8.") from None
    except csv.Error as error:
        raise InputError(f"{where}, row {max(number, 1) + 1}", "it is CSV", error) from None
    except OSError as error:
        raise InputError(where, "it can be read", error.strerror or error) from None


def _check_columns(columns: Sequence[str], where: str) -> None:
    got = listed(columns, 8) or "an empty one"
    twice = [name for name in dict.fromkeys(columns) if columns.count(name) > 1]
    if twice:
        raise InputError(f"{where}, row 1", "each column is there once", f"{listed(twice)} several times")
    if not {PATH, LABEL} <= set(columns):
        todo = "Separate columns with commas." if any(c in got for c in ";\t") else "Name the columns so."
        raise InputError(f"{where}, row 1", HEADER, got, todo)


def _path(given: str, folder: Path, at: str) -> str:
    """A path below the folder as a name, of a file that is there."""
    shown = f"'{printable(given)}'"
    name = os.path.normpath(given) if given else "."
    if name == ".":
        raise DataError(at, "it names an image file", "an empty path", "Give it a path, or remove the row.")
    if Path(name).is_absolute() or Path(name).parts[0] == os.pardir:
        todo = "Move the table above the images, or the images below it."
        raise DataError(at, "its path is relative to the table and stays in its folder", shown, todo)
    try:
        found = (folder / name).is_file()
    except (OSError, ValueError):  # of a name that no file can have
        found = False
    if not found:
        todo = "" if os.sep == "\\" or "\\" not in given else "Write / between folders."
        raise DataError(at, f"its file is there, in {folder}", shown, todo)
    return Path(name).as_posix()
