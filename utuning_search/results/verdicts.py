"""What the last confirmation said of a design, read back from its tables."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from utuning_search.common.errors import StudyError
from utuning_search.results.metrics import ACCURACY
from utuning_search.results.outcomes import FINALS
from utuning_search.results.statistics.paired import Comparison
from utuning_search.results.tables import COMPARISONS_CSV, FINALS_CSV
from utuning_search.results.words import compared

T = TypeVar("T")


def kept_advice(folder: Path, key: str) -> str:
    """What to take instead of a design that was beaten in the last confirmation of the study in `folder`.

    Empty for a design that was not beaten or not confirmed, and where older versions wrote the tables.

    Raises:
        StudyError: Somebody changed the tables.
    """
    return _read(folder, lambda: _advice(folder, key))


def kept_interval(folder: Path, key: str) -> tuple[float, float] | None:
    """The 95% interval of a design's mean test accuracy in the last confirmation of the study in `folder`.

    None for a design that was not confirmed or was judged by another metric, and where nothing was kept to tell it.

    Raises:
        StudyError: Somebody changed the tables.
    """
    return _read(folder, lambda: _interval(folder, key))


def _read(folder: Path, reading: Callable[[], T]) -> T:
    try:
        return reading()
    except (KeyError, ValueError, TypeError, AttributeError, csv.Error) as error:
        where, rule = f"study '{folder.name}', {FINALS_CSV} and {COMPARISONS_CSV}", "they are as confirm wrote them"
        todo = "Confirm again, which writes them anew and trains nothing twice, or remove them."
        raise StudyError(where, rule, f"{type(error).__name__}: {error}", todo) from None


def _interval(folder: Path, key: str) -> tuple[float, float] | None:
    for final in _rows(folder / FINALS_CSV):
        if final["key"] == key and final.get("metric", ACCURACY) == ACCURACY and final.get("test_low"):
            return float(final["test_low"]), float(final["test_high"])
    return None


def _advice(folder: Path, key: str) -> str:
    beating: set[str] = set()
    for final in _rows(folder / FINALS_CSV):
        if final["key"] == key:
            beating = set(filter(None, final.get("beaten_by", "").split("; ")))
    found = []
    for pair in _rows(folder / FINALS / COMPARISONS_CSV):
        names = {pair["a_key"]: pair["a"], pair["b_key"]: pair["b"]}
        if key in names:
            seen = _comparison(pair).seen_from(key)
            if seen.verdict == "worse" and names[seen.b] in beating:
                found.append((seen.difference, compared(seen, names[seen.b])))
    return f"it is {min(found)[1]}, which is no larger: rather take that" if found else ""


def _comparison(pair: dict[str, str]) -> Comparison:
    return Comparison(
        a=pair["a_key"],
        b=pair["b_key"],
        difference=float(pair["difference"]),
        low=float(pair["low"]),
        high=float(pair["high"]),
        p=float(pair["p"]) if pair["p"] else None,
        corrected=float(pair["p_corrected"]) if pair["p_corrected"] else None,
        verdict=pair["verdict"],  # type: ignore[arg-type]  # as `write_finals` wrote it
        metric=pair.get("metric", "accuracy"),  # older versions knew no other
    )


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
