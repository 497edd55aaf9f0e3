"""Which trials a model learns from: all of few; of many the best, those that are never left out, and some of all."""

import numpy as np
import pytest

from utuning_search.search.surrogate import subset
from utuning_search.search.surrogate.subset import telling

COUNT = 100


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subset, "MOST", 20)


def chosen(count: int = COUNT, always: tuple[int, ...] = ()) -> set[int]:
    """Of trials in no order, numbered by how good they are, the best first."""
    order = np.random.default_rng(0).permutation(count)
    rows = telling(-order.astype(float), np.isin(order, always))
    assert (np.diff(rows) > 0).all(), "each once, in the order of the trials"
    return set(order[rows].tolist())


@pytest.mark.parametrize("count", [0, 1, 20])
def test_few_are_all_learned_from(count: int) -> None:
    assert chosen(count) == set(range(count))


@pytest.mark.parametrize("count", [21, 30, 31, 39, COUNT, 997])
def test_of_many_half_are_the_best_and_the_others_are_spread_evenly(count: int) -> None:
    found = sorted(chosen(count))
    assert len(found) == 20
    assert found[:10] == list(range(10))
    steps = np.diff(found[10:])
    assert steps.max() - steps.min() <= 1
    assert found[-1] >= count - 1 - steps.max()


def test_what_is_never_left_out_is_not_however_bad() -> None:
    worst = tuple(range(85, 98))
    found = chosen(always=worst)
    assert set(worst) < found
    assert len(found) == 20
    assert max(found - set(worst)) > 60, "and some of all others"
    assert len(chosen(always=tuple(range(40, 75)))) == 20, "unless they alone are too many"
