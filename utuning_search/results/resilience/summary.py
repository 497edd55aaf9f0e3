"""Rows of resilience.csv as people read them: one line a design, the levels of each trouble side by side."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from utuning_search.results.resilience.table import BIT_FLIPS, Hardship

SAID = {"gaussian_noise": "noise", "gaussian_blur": "blur", "jpeg": "JPEG", BIT_FLIPS: "bit flips"}


@dataclass(frozen=True)
class Line:
    """A design, its accuracy without trouble, and the rows of each trouble, from the least level to the worst."""

    name: str
    clean: float
    troubles: dict[str, list[Hardship]] = field(default_factory=dict)

    def cell(self, trouble: str) -> str:
        """Accuracy at each level, in per cent."""
        rows = sorted(self.troubles.get(trouble, ()), key=lambda row: row.level)
        return " / ".join(f"{100 * row.accuracy:.1f}" for row in rows) or "-"


def summary(rows: Iterable[Hardship]) -> list[Line]:
    """In the order of the rows."""
    found: dict[str, Line] = {}
    for row in rows:
        line = found.setdefault(row.key, Line(row.name, row.clean))
        line.troubles.setdefault(row.trouble, []).append(row)
    return list(found.values())


def columns(lines: Iterable[Line]) -> dict[str, str]:
    """Troubles that some line has, with what they are called; bit flips with their rates."""
    found: dict[str, str] = {}
    for line in lines:
        for trouble, rows in line.troubles.items():
            rates = ", ".join(f"{level:.0e}" for level in sorted({row.level for row in rows}))
            said = SAID.get(trouble, trouble)
            found.setdefault(trouble, f"{said} {rates}" if trouble == BIT_FLIPS else said)
    return found
