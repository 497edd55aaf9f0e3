"""Designs compared two at a time on the same test images, corrected for how many pairs there are; the door of scipy.

All pairs of a confirmation are one family, tested and given intervals together by Tukey and Kramer's method (Hochberg
and Tamhane 1987): if all designs were equal, the chance that any two of them are told apart is 5% at most. An interval
excludes 0 exactly where its pair is told apart.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from typing import Literal

from utuning_search.results.statistics.components import Components, Correct, Rows
from utuning_search.results.statistics.wilson import LEVEL

Verdict = Literal["better", "worse", "cannot be told apart", "training noise unknown"]
DOUBT = 1 - LEVEL
# As in printed tables, degrees of freedom are rounded down, which errs towards doubt: one quantile takes scipy 0.1 s.
FREEDOMS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 30, 60, 120)


@dataclass(frozen=True)
class Comparison:
    """Two designs on the same images.

    Attributes:
        a, b: Their names in what was compared: keys.
        difference: Accuracy, or another metric, of a minus that of b, each the mean over its seeds.
        low, high: Of the difference, 95% for all pairs together; where training noise is unknown of the choice of
            images only.
        p: Of the pair alone, two-sided; None where training noise is unknown.
        corrected: For the number of designs compared.
        verdict: What is known of a against b: beyond doubt (corrected p below 0.05), or that it is not.
        metric: What differs, by name.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float | None
    corrected: float | None
    verdict: Verdict
    metric: str = "accuracy"

    def seen_from(self, key: str) -> "Comparison":
        """The same with `key` as a."""
        if key == self.a:
            return self
        turned: dict[Verdict, Verdict] = {"better": "worse", "worse": "better"}
        verdict = turned.get(self.verdict, self.verdict)
        low, high = -self.high, -self.low
        return replace(self, a=self.b, b=self.a, difference=-self.difference, low=low, high=high, verdict=verdict)


def compare(correct: Mapping[str, Correct], strata: Rows | None = None) -> tuple[Comparison, ...]:
    """All pairs, in the order given.

    Where no design has two seeds, how much a training varies is unknown, and no pair is told apart.

    Args:
        correct: Of each design (seeds, images), whether a training got an image right, or what its answer adds to a
            metric; the same images for all.
        strata: Of each image; see `Components`.

    Raises:
        InputError: Other shapes; see `Components`.
    """
    names = list(correct)
    if len(names) < 2:
        return ()
    from scipy.stats import t as student  # takes a second to import, for which a search need not wait

    components = Components(list(correct.values()), strata)
    found = []
    for i, j in combinations(range(len(names)), 2):
        difference = float(components.means[i] - components.means[j])
        variance, freedom = components.pair(i, j)
        error = math.sqrt(variance)
        half = critical(len(names), freedom) * error
        p = corrected = None
        verdict: Verdict = "training noise unknown"
        if components.seed_freedom:
            ratio = abs(difference) / error
            p = float(2 * student.sf(ratio, _tabulated(freedom)))
            corrected = max(doubt(ratio, len(names), freedom), p)
            known = corrected < DOUBT
            verdict = "cannot be told apart" if not known else "better" if difference > 0 else "worse"
        found.append(
            Comparison(names[i], names[j], difference, difference - half, difference + half, p, corrected, verdict)
        )
    return tuple(found)


def doubt(ratio: float, designs: int, freedom: float) -> float:
    """Chance that of so many equal designs some two differ by more than `ratio` standard errors."""
    from scipy.stats import studentized_range

    return min(max(float(studentized_range.sf(math.sqrt(2) * ratio, designs, _tabulated(freedom))), 0.0), 1.0)


def critical(designs: int, freedom: float) -> float:
    """Standard errors of a difference beyond which two of so many designs are told apart."""
    return _quantile(designs, _tabulated(freedom))


@cache
def _quantile(designs: int, freedom: int) -> float:
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(LEVEL, designs, freedom)) / math.sqrt(2)


def _tabulated(freedom: float) -> int:
    return FREEDOMS[max(bisect_right(FREEDOMS, freedom) - 1, 0)]


def intervals(correct: Mapping[str, Correct], strata: Rows | None = None) -> dict[str, tuple[float, float]]:
    """Of each design's mean, 95% each: over images and, where any design has two seeds, over seeds too."""
    if not correct:
        return {}
    from scipy.stats import t as student

    components = Components(list(correct.values()), strata)
    found = {}
    for i, name in enumerate(correct):
        variance, freedom = components.single(i)
        half = float(student.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance)
        mean = float(components.means[i])
        found[name] = (max(mean - half, 0.0), min(mean + half, 1.0))
    return found
