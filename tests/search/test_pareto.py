"""Fronts against brute force: dominance and its ties, hypervolume by counting cells, the knee by distance."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utuning_search.common.errors import InputError
from utuning_search.search.pareto import front, hypervolume, knee

Points = list[tuple[float, float]]
# Few distinct values, so that ties of one axis and of both are common.
tied = st.tuples(st.integers(0, 8).map(lambda a: a / 8), st.integers(0, 8).map(lambda p: float(10**p)))
free = st.tuples(st.floats(0, 1), st.floats(1, 1e9))
points = st.lists(st.one_of(tied, free), max_size=12)
some_points = st.lists(st.one_of(tied, free), min_size=1, max_size=12)


def split(chosen: Points) -> tuple[list[float], list[float]]:
    return [a for a, _ in chosen], [p for _, p in chosen]


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    at_least = one[0] >= other[0] and one[1] <= other[1]
    return at_least and one != other


def brute_front(chosen: Points) -> list[int]:
    standing = [
        i
        for i, point in enumerate(chosen)
        if not any(dominates(other, point) for other in chosen) and point not in chosen[:i]
    ]
    return sorted(standing, key=lambda i: chosen[i][1])


def brute_hypervolume(chosen: Points, reference: float) -> float:
    """Sum over the cells of the grid through all points: a cell counts if a point lies below and above it."""
    top = math.log10(reference)
    kept = [(a, math.log10(p)) for a, p in chosen if p <= reference]
    xs = sorted({0.0, top, *(x for _, x in kept)})
    ys = sorted({0.0, 1.0, *(a for a, _ in kept)})
    area = sum(
        (x1 - x0) * (y1 - y0)
        for x0, x1 in pairwise(xs)
        for y0, y1 in pairwise(ys)
        if any(x <= x0 and a >= y1 for a, x in kept)
    )
    return area / top


@given(points)
def test_front_is_what_nothing_dominates(chosen: Points) -> None:
    assert front(*split(chosen)) == brute_front(chosen)


@given(some_points)
def test_front_rises_in_both(chosen: Points) -> None:
    on = [chosen[i] for i in front(*split(chosen))]
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(on))


@given(some_points)
def test_front_of_the_front_is_itself(chosen: Points) -> None:
    on = [chosen[i] for i in front(*split(chosen))]
    assert front(*split(on)) == list(range(len(on)))


@pytest.mark.parametrize(
    ("accuracy", "parameters", "expected"),
    [
        ([], [], []),
        ([0.5], [10], [0]),
        ([0.5, 0.5, 0.5], [10, 10, 10], [0]),  # equal in both: the earliest
        ([0.5, 0.5], [20, 10], [1]),  # equal accuracy: the smaller
        ([0.4, 0.5], [10, 10], [1]),  # equal size: the more accurate
        ([0.9, 0.5, 0.7], [300, 10, 20], [1, 2, 0]),  # by size, not as given
        ([0.5, 0.9, 0.9, 0.95], [10, 20, 20, 20], [0, 3]),
        ([0.0, -1.0], [1, 2], [0]),
    ],
)
def test_tie_policy(accuracy: list[float], parameters: list[float], expected: list[int]) -> None:
    assert front(accuracy, parameters) == expected


def test_front_gives_plain_integers() -> None:
    assert {type(i) for i in front(np.array([0.1, 0.2], np.float32), np.array([1, 2], np.int64))} == {int}


@given(points, st.sampled_from((10.0, 12345.0, 1e6, 1e8)))
def test_hypervolume_counts_the_dominated_cells(chosen: Points, reference: float) -> None:
    assert hypervolume(*split(chosen), reference=reference) == pytest.approx(
        brute_hypervolume(chosen, reference), abs=1e-9
    )


@given(points, st.one_of(tied, free))
def test_hypervolume_never_falls_by_a_point(chosen: Points, more: tuple[float, float]) -> None:
    before, after = (hypervolume(*split(c), reference=1e6) for c in (chosen, [*chosen, more]))
    assert 0 <= before <= after + 1e-12
    assert after <= 1 + 1e-12
    if any(dominates(p, more) for p in chosen):
        assert before == after


@pytest.mark.parametrize(
    ("accuracy", "parameters", "expected"),
    [
        ([], [], 0.0),
        ([1.0], [1], 1.0),
        ([1.0], [1000], 0.5),
        ([0.5], [1], 0.5),
        ([1.0], [10**6], 0.0),
        ([1.0, 0.5], [10**7, 1000], 0.25),
        ([0.5, 1.0], [100, 10000], 0.5 * 4 / 6 + 0.5 * 2 / 6),
    ],
)
def test_hypervolume_cases(accuracy: list[float], parameters: list[float], expected: float) -> None:
    assert hypervolume(accuracy, parameters, reference=10**6) == pytest.approx(expected)


@pytest.mark.parametrize("reference", [1, 0.5, 0, -3])
def test_hypervolume_needs_a_reference_above_one(reference: float) -> None:
    with pytest.raises(InputError, match=f"reference is above 1; got {reference}"):
        hypervolume([0.5], [10], reference=reference)


def test_hypervolume_needs_sizes_of_at_least_one() -> None:
    with pytest.raises(InputError, match=r"parameters are at least 1.* got .*0\.5"):
        hypervolume([0.5, 0.6], [10, 0.5], reference=100)


@given(some_points)
def test_knee_is_on_the_front_and_farthest_above_the_chord(chosen: Points) -> None:
    accuracy, parameters = split(chosen)
    on, found = front(accuracy, parameters), knee(accuracy, parameters)
    assert found in on
    if len(on) < 3:
        assert found == on[-1]
        return
    (a0, p0), (a1, p1) = chosen[on[0]], chosen[on[-1]]

    def above(i: int) -> float:
        x = (math.log10(chosen[i][1]) - math.log10(p0)) / (math.log10(p1) - math.log10(p0))
        return (chosen[i][0] - a0) / (a1 - a0) - x

    if math.log10(p1) - math.log10(p0) > 1e-9:
        assert above(found) >= max(map(above, on)) - 1e-9


@pytest.mark.parametrize(
    ("accuracy", "parameters", "expected"),
    [
        ([0.3], [5], 0),
        ([0.3, 0.9], [5, 50], 1),  # two points: the more accurate
        ([0.9, 0.3], [50, 5], 0),
        ([0.0, 0.9, 1.0], [1, 10, 1000], 1),  # rises early
        ([0.0, 0.1, 1.0], [1, 100, 1000], 0),  # nothing above the chord: an end, the smaller
        ([0.0, 0.5, 0.9, 1.0], [1, 10, 100, 10000], 2),
        ([0.0, 1.0, 0.9, 0.2], [1, 1000, 10, 500], 2),  # the dominated point does not count
    ],
)
def test_knee_cases(accuracy: list[float], parameters: list[float], expected: int) -> None:
    assert knee(accuracy, parameters) == expected


def test_knee_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="knee: at least one point"):
        knee([], [])


@pytest.mark.parametrize(
    ("accuracy", "parameters"),
    [
        ([0.5], [1, 2]),
        ([[0.5]], [[1]]),
        (0.5, 1),
        ([math.nan], [1]),
        ([0.5], [math.inf]),
    ],
)
def test_malformed_points_are_refused(accuracy: list[float], parameters: list[float]) -> None:
    for refuse in (front, knee, lambda a, p: hypervolume(a, p, reference=100)):
        with pytest.raises(InputError, match="finite and of one length"):
            refuse(accuracy, parameters)
