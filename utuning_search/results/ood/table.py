"""ood.csv in a study's folder, beside finals.csv: one row a final, set of unknown images, method and score."""

from collections.abc import Iterable
from pathlib import Path

from utuning_search.results.ood.figures import Detection
from utuning_search.results.rows import read_rows, write_rows

OOD_CSV = "ood.csv"


def write_ood(folder: Path, rows: Iterable[Detection]) -> Path:
    """Write ood.csv into a study's folder, and say where it is."""
    return write_rows(folder / OOD_CSV, Detection, rows)


def read_ood(folder: Path) -> tuple[Detection, ...]:
    """The rows of a study's ood.csv; none where there is none.

    Raises:
        StudyError: It is damaged.
    """
    return read_rows(folder / OOD_CSV, Detection, "--ood")
