"""Timing takes turns and drops the first run; threads and memory are told and given back."""

import time
from collections.abc import Callable

import pytest
import torch

from utuning_search.training import measuring
from utuning_search.training.measuring import PeakMemory, fastest, threads


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which only what is timed lets pass."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def work(name: str, clock: list[float], seconds: list[float], seen: list[str]) -> Callable[[], None]:
    left = iter(seconds)

    def run() -> None:
        seen.append(name)
        clock[0] += next(left)

    return run


def test_the_fastest_run_after_the_first_counts_and_works_take_turns(clock: list[float]) -> None:
    seen: list[str] = []
    works = [work("a", clock, [1, 5, 3, 4], seen), work("b", clock, [1, 8, 9, 7], seen)]
    assert fastest(works, "cpu", turns=3) == [3, 7]
    assert "".join(seen) == "abbaabba"


def test_it_ends_early_but_not_before_the_fewest_runs(clock: list[float]) -> None:
    seen: list[str] = []
    assert fastest([work("a", clock, [9] * 99, seen)], "cpu", turns=60, fewest=5, seconds=2.0) == [9]
    assert len(seen) == 1 + 5
    seen.clear()
    assert fastest([work("a", clock, [0.5] * 99, seen)], "cpu", turns=60, fewest=1, seconds=4.0) == [0.5]
    assert len(seen) == 9


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_memory_is_told_only_where_the_peak_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    held, peak = [100e6], [250e6]
    monkeypatch.setattr(measuring, "_peak", lambda: peak[0])
    monkeypatch.setattr(measuring, "_resident", lambda _: held[0])
    memory = PeakMemory("cpu")
    assert memory.grown() is None
    peak[0] = 400e6
    assert memory.grown() == 300.0
