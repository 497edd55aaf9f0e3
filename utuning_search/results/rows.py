"""Tables of what was measured of finals, CSV files in a study's folder: rows are dataclasses of words and numbers."""

import csv
import io
import typing
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from utuning_search.common.errors import StudyError
from utuning_search.common.files import write_atomically

T = TypeVar("T")


def write_rows(path: Path, cls: type[T], rows: Iterable[T]) -> Path:
    """Write a table, one column a field, and say where it is."""
    text = io.StringIO()
    table = csv.DictWriter(text, _columns(cls), lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for row in rows)  # type: ignore[call-overload]  # T is a dataclass
    write_atomically(path, text.getvalue())
    return path


def read_rows(path: Path, cls: type[T], option: str) -> tuple[T, ...]:
    """The rows of a table as they were written; none where there is none.

    Args:
        path: Of the table.
        cls: Of its rows; it refuses values that cannot be with a ValueError.
        option: Of `confirm`, which writes it.

    Raises:
        StudyError: It is damaged.
    """
    if not path.exists():
        return ()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(_parsed(csv.DictReader(file, strict=True), cls))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        rule, todo = f"it is a table of confirm {option}", f"Remove it; confirm {option} writes it again."
        raise StudyError(f"file {path}", rule, type(error).__name__, todo) from None


def check_shares(**values: float) -> None:
    """Raise ValueError unless all are shares."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is from 0 to 1, got {value}")


def _columns(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))


def _parsed(rows: "csv.DictReader[str]", cls: type[T]) -> Iterator[T]:
    if tuple(rows.fieldnames or ()) != _columns(cls):
        raise ValueError("other columns")
    kinds = typing.get_type_hints(cls)
    for row in rows:
        values: dict[str, Any] = {name: kinds[name](row[name]) for name in _columns(cls)}
        yield cls(**values)
