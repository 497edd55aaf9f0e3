"""ood.csv in a study's folder, beside finals.csv: one row a final, set of unknown images, method and score."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path

from utuning_search.common.errors import StudyError
from utuning_search.common.files import write_atomically
from utuning_search.results.ood.figures import Detection

OOD_CSV = "ood.csv"
COLUMNS = tuple(f.name for f in fields(Detection))
TEXTS, COUNTS = ("key", "name", "outliers", "method", "score"), ("seeds", "test_images", "outlier_images")


def write_ood(folder: Path, rows: Iterable[Detection]) -> Path:
    """Write ood.csv into a study's folder, and say where it is."""
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for row in rows)
    write_atomically(folder / OOD_CSV, text.getvalue())
    return folder / OOD_CSV


def read_ood(folder: Path) -> tuple[Detection, ...]:
    """The rows of a study's ood.csv; none where there is none.

    Raises:
        StudyError: It is damaged.
    """
    path = folder / OOD_CSV
    if not path.exists():
        return ()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(_parsed(csv.DictReader(file, strict=True)))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        todo = "Remove it; confirm --ood writes it again."
        raise StudyError(f"file {path}", "it is a table of confirm --ood", f"{type(error).__name__}", todo) from None


def _parsed(rows: "csv.DictReader[str]") -> Iterator[Detection]:
    if tuple(rows.fieldnames or ()) != COLUMNS:
        raise ValueError("other columns")
    for row in rows:
        numbers = {n: int(row[n]) if n in COUNTS else _share(row[n]) for n in COLUMNS if n not in TEXTS}
        yield Detection(**{n: row[n] for n in TEXTS}, **numbers)  # type: ignore[arg-type]  # each is what it is named


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError("a share is from 0 to 1")
    return value
