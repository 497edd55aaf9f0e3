"""Rows of ood.csv as people read them: one line a design and method, the scores side by side; and in a sentence."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from utuning_search.results.ood.figures import Detection

METHODS_SAID = {"tuned": "tuned", "use": "USE", "dsgf": "DSGF"}
SCORES_SAID = {"msp": "softmax", "energy": "energy", "max_logit": "max logit", "knn": "nearest"}


@dataclass(frozen=True)
class Line:
    """A design and method on a set of unknown images, and the row of each score by its name."""

    outliers: str
    name: str
    method: str
    accuracy: float
    scores: dict[str, Detection]


def summary(rows: Iterable[Detection]) -> list[Line]:
    """In the order of the rows."""
    found: dict[tuple[str, str, str], Line] = {}
    for row in rows:
        line = Line(row.outliers, row.name, METHODS_SAID.get(row.method, row.method), row.accuracy, {})
        found.setdefault((row.outliers, row.key, row.method), line).scores[row.score] = row
    return list(found.values())


def columns(lines: Iterable[Line]) -> dict[str, str]:
    """Scores that some line has, with what they are called."""
    return {score: SCORES_SAID.get(score, score) for line in lines for score in line.scores}


def figure(row: Detection | None, *, intervals: bool = False) -> str:
    """AUROC and FPR at 95% TPR, in per cent."""
    if row is None:
        return "-"
    pairs = ((row.auroc, row.auroc_low, row.auroc_high), (row.fpr95, row.fpr95_low, row.fpr95_high))
    return " / ".join(
        f"{100 * mean:.1f}" + (f" ({100 * low:.1f}-{100 * high:.1f})" if intervals else "") for mean, low, high in pairs
    )


def about(rows: Iterable[Detection], key: str) -> Iterator[str]:
    """A sentence on a design, a set of unknown images and method each, for the card of an export."""
    for line in summary(row for row in rows if row.key == key):
        first = next(iter(line.scores.values()))
        said = ", ".join(f"{SCORES_SAID.get(s, s)} {row.auroc:.3f}" for s, row in line.scores.items())
        passed = ", ".join(f"{100 * row.fpr95:.0f}%" for row in line.scores.values())
        by = "" if first.method == "tuned" else f", with {line.method}"
        yield (
            f"{first.outlier_images:,} unknown images `{line.outliers}`{by}: AUROC by {said}; where 95% of the test "
            f"images pass, so do {passed} of these"
        )
