"""resilience.csv in a study's folder, beside finals.csv: accuracy of each final under each trouble."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from utuning_search.results.rows import check_shares, read_rows, write_rows

RESILIENCE_CSV = "resilience.csv"
BIT_FLIPS = "bit_flips"


@dataclass(frozen=True)
class Hardship:
    """A final under a trouble.

    Attributes:
        key: Of the design.
        name: Of the finalist.
        trouble: A corruption of `data.corruptions`, or "bit_flips".
        level: Severity of a corruption, from 1 to 3; of bit flips the chance of each bit.
        accuracy: On the test images, the mean over draws.
        worst: Of the draws.
        clean: Accuracy without any trouble.
        draws: Times that it was drawn anew.
        test_images: How many were measured on.
    """

    key: str
    name: str
    trouble: str
    level: float
    accuracy: float
    worst: float
    clean: float
    draws: int
    test_images: int

    def __post_init__(self) -> None:
        check_shares(accuracy=self.accuracy, worst=self.worst, clean=self.clean)


def write_resilience(folder: Path, rows: Iterable[Hardship]) -> Path:
    """Write resilience.csv into a study's folder, and say where it is."""
    return write_rows(folder / RESILIENCE_CSV, Hardship, rows)


def read_resilience(folder: Path) -> tuple[Hardship, ...]:
    """The rows of a study's resilience.csv; none where there is none.

    Raises:
        StudyError: It is damaged.
    """
    return read_rows(folder / RESILIENCE_CSV, Hardship, "--corruptions")
