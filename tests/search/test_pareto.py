"""Fronts against brute force: dominance and its ties, hypervolume by counting cells, the knee by distance."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from utuning_search.common.errors import InputError
from utuning_search.search import pareto
from utuning_search.search.objectives.base import Setting
from utuning_search.search.objectives.registry import USUAL, Objectives
from utuning_search.search.pareto import Archive
from utuning_search.testing.pretend import SETTING

Points = list[tuple[float, float]]
# Few distinct values, so that ties of one axis and of both are common.
tied = st.tuples(st.integers(0, 8).map(lambda a: a / 8), st.integers(0, 8).map(lambda p: float(10**p)))
free = st.tuples(st.floats(0, 1), st.floats(1, 1e9))
points = st.lists(st.one_of(tied, free), max_size=12)
some_points = st.lists(st.one_of(tied, free), min_size=1, max_size=12)


def rows(accuracy: object, parameters: object) -> list[dict[str, float]]:
    pairs = zip(np.asarray(accuracy).tolist(), np.asarray(parameters).tolist(), strict=True)
    return [{"accuracy": a, "parameters": p} for a, p in pairs]


def front(accuracy: object, parameters: object) -> list[int]:
    """Of the two usual objectives."""
    return pareto.front(USUAL.gains(rows(accuracy, parameters)))


def goodness(accuracy: object, parameters: object, reference: float) -> np.ndarray:
    """With full fine-tuning at `reference` parameters."""
    setting = Setting(replace(SETTING.shape, parameters=int(reference)), num_classes=0)
    return USUAL.goodness(rows(accuracy, parameters), setting)


def hypervolume(accuracy: object, parameters: object, *, reference: float) -> float:
    return pareto.hypervolume(goodness(accuracy, parameters, reference))


def knee(accuracy: object, parameters: object) -> int:
    return pareto.knee(goodness(accuracy, parameters, 1e6))


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


@pytest.mark.parametrize("points", [[0.5], [[[0.5]]], 0.5, [[math.nan, 1.0]], [[0.5, math.inf]]])
def test_malformed_points_are_refused(points: object) -> None:
    for refuse in (pareto.front, pareto.knee, pareto.hypervolume):
        with pytest.raises(InputError, match=r"finite, of shape \(n, objectives\)"):
            refuse(points)


# Any number of objectives

quarters = st.integers(0, 4).map(lambda v: v / 4)
many = st.integers(1, 4).flatmap(lambda m: st.lists(st.lists(quarters, min_size=m, max_size=m), min_size=1, max_size=9))


def brute(points: list[list[float]]) -> set[int]:
    def beats(a: list[float], b: list[float]) -> bool:
        return all(x >= y for x, y in zip(a, b, strict=True)) and a != b

    return {i for i, p in enumerate(points) if not any(beats(q, p) for q in points) and p not in points[:i]}


@given(many)
def test_a_front_of_any_number_of_objectives_is_what_nothing_dominates(points: list[list[float]]) -> None:
    for cost in range(len(points[0])):
        found = pareto.front(points, cost)
        assert set(found) == brute(points)
        assert [points[i][cost] for i in found] == sorted((points[i][cost] for i in found), reverse=True)


@given(many, st.randoms(use_true_random=False))
def test_an_archive_ends_with_the_front_whatever_the_order(points: list[list[float]], random: object) -> None:
    archive, order = Archive(), list(range(len(points)))
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis' own random.Random
    for i in order:
        archive.add(i, np.array(points[i]))
    assert set(archive.numbers) == brute(points)


@given(many)
def test_hypervolume_of_any_number_of_objectives_counts_the_dominated_cells(points: list[list[float]]) -> None:
    """All coordinates are quarters, so the box falls into cells that are dominated whole or not at all."""
    m = len(points[0])
    corners = np.stack(np.meshgrid(*[np.arange(1, 5) / 4] * m, indexing="ij"), axis=-1).reshape(-1, m)
    inside = [any((np.array(p) >= corner).all() for p in points) for corner in corners]
    assert pareto.hypervolume(points) == pytest.approx(np.mean(inside), abs=1e-9)


@given(many)
def test_the_knee_is_on_the_front(points: list[list[float]]) -> None:
    assert pareto.knee(points) in pareto.front(points)


def test_the_knee_of_three_objectives_is_good_in_all() -> None:
    assert pareto.knee([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.8, 0.8, 0.7]]) == 3


def test_objectives_turn_what_is_minimized() -> None:
    three = Objectives(("accuracy", "macro_f1", "parameters"))
    assert three.gains([{"accuracy": 0.9, "macro_f1": 0.8, "parameters": 100.0}]).tolist() == [[0.9, 0.8, -100.0]]
    assert three.directions == ["maximize", "maximize", "minimize"]
    assert (three.quality.name, three.cost.name) == ("accuracy", "parameters")
