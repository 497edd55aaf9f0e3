"""What finals say of designs, in words: the command line, exports and recommendations say it alike."""

from collections.abc import Iterator, Sequence

from utuning_search.results import metrics
from utuning_search.results.finals import Confirmation, Final
from utuning_search.results.statistics.paired import Comparison

UNKNOWN = "no predictions kept: remove its .json files in finals and confirm again to compare"


def compared(comparison: Comparison, other: str) -> str:
    """A verdict in words, seen from a: "better than ssf by 1.2 points (95%: 0.4 to 2.0)"; `other` names b."""
    difference, low, high = (100 * v for v in (comparison.difference, comparison.low, comparison.high))
    of = "" if comparison.metric == metrics.ACCURACY else f" of {metrics.words(comparison.metric)}"
    if comparison.verdict in ("better", "worse"):
        sign = 1 if comparison.verdict == "better" else -1
        low, high = sorted((sign * low, sign * high))
        return f"{comparison.verdict} than {other} by {sign * difference:.1f} points{of} (95%: {low:.1f} to {high:.1f})"
    said = f"difference {_signed(difference)} points{of}, 95%: {_signed(low)} to {_signed(high)}"
    if comparison.verdict == "cannot be told apart":
        return f"cannot be told apart from {other} ({said})"
    return f"not compared with {other}: with one seed each, training noise is not counted ({said} for images alone)"


def against(found: Confirmation, a: Final, b: Final) -> str:
    """What is known of a final against another one."""
    comparison = found.between(a, b)
    if comparison is not None:
        return compared(comparison, b.finalist.name)
    without = next((f for f in (a, b) if f.mean is None), None)
    if without is not None:
        return f"not compared with {b.finalist.name}: a training of {without.finalist.name} failed"
    without = a if a.correct is None else b
    return f"not compared with {b.finalist.name}: of {without.finalist.name} {UNKNOWN}"


def rival(found: Confirmation, final: Final) -> Final | None:
    """What a final is read against: the most accurate one of the other kind that is no larger; None without any.

    The two kinds are known methods and the search's own designs; where the other kind has none so small, a final is
    read against its own. Of equally accurate ones the smaller is taken.
    """
    smaller = [
        f
        for f in found.finals
        if f is not final and f.finalist.parameters <= final.finalist.parameters and f.mean is not None
    ]
    others = [f for f in smaller if bool(f.finalist.preset) != bool(final.finalist.preset)]
    return max(others or smaller, key=lambda f: (f.mean or 0.0, -f.finalist.parameters), default=None)


def readings(found: Confirmation) -> Iterator[str]:
    """One line a final against its rival."""
    for final in found.finals:
        other = rival(found, final)
        if other is not None:
            yield f"{final.finalist.name} is {against(found, final, other)}".replace(" is cannot", " cannot")


def advice(found: Confirmation, final: Final) -> str:
    """What to take instead of a final that is beaten; empty for one that is not."""
    beating = [found.named(key) for key in final.beaten_by]
    if not beating:
        return ""
    best = max(beating, key=lambda f: (f.mean or 0.0, -f.finalist.parameters))
    size = "smaller" if best.finalist.parameters < final.finalist.parameters else "no larger"
    return f"it is {against(found, final, best)}, which is {size}: rather take that"


def smallest_equal(found: Confirmation, final: Final) -> Final:
    """The smallest design that cannot be told apart from a final; itself if there is none smaller."""
    for other in found.survivors:
        comparison = found.between(other, final)
        if comparison is not None and comparison.verdict == "cannot be told apart":
            return other if other.finalist.parameters < final.finalist.parameters else final
    return final


def resolution(comparisons: Sequence[Comparison]) -> float | None:
    """Half the median width of the intervals: about the smallest difference that is told; None where none is."""
    widths = sorted(c.high - c.low for c in comparisons if c.p is not None)
    return widths[len(widths) // 2] / 2 if widths else None


def _signed(points: float) -> str:
    """Points with one digit; what rounds to zero has no sign."""
    return f"{round(points, 1) + 0.0:.1f}"
