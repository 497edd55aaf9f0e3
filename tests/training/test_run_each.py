"""A fresh process an item: what one yields arrives, and one that breaks breaks alone."""

import importlib
import itertools
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from utuning_search.common.bundled import find
from utuning_search.common.errors import InputError
from utuning_search.training.run_each import run_each
from utuning_search.training.workers import Lost

from .helpers import SAID


def test_each_item_has_a_process_and_a_slot_and_breaks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    deeds = importlib.import_module("deeds")
    items = ["memory", "exit", "error", "well"]
    found: dict[int, list[object]] = {i: [] for i in range(len(items))}
    pids, at_once = set(), []
    for index, message in run_each(deeds.work, items, 2):
        at_once.append(len(multiprocessing.active_children()))
        if isinstance(message, Lost):
            found[index].append(message.reason)
            continue
        slot, pid, said = message
        assert slot in (0, 1)
        pids.add(pid)
        found[index].append(said)
    assert found == {
        0: ["memory", f"out of memory: {SAID.splitlines()[0]}"],
        1: ["exit", "its worker process ended with exit code 3"],
        2: ["error", "an unforeseen error; see the messages above"],
        3: ["well", "well is done"],
    }
    assert len(pids) == len(items), "two items had the same process"
    assert max(at_once) <= 2
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 1])
def test_what_was_found_decides_whether_there_is_another_item(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    deeds = importlib.import_module("deeds")
    found: list[object] = []

    def items() -> Iterator[str]:
        for number in range(9):
            assert len(found) == number, "asked for before the one before it had ended"
            if len(found) == 2:
                return
            yield "well"

    for index, message in run_each(deeds.work, items(), workers):
        if message[2] == "well is done":
            found.append((index, message[2]))
    assert found == [(0, "well is done"), (1, "well is done")]


def test_a_process_that_is_killed_is_told() -> None:
    messages = run_each(itertools.repeat, [10**9], 1)  # yields its slot forever
    assert next(messages) == (0, 0)
    (process,) = multiprocessing.active_children()
    process.kill()
    *_, (index, last) = messages
    assert index == 0
    assert last == Lost("its worker process was killed by SIGKILL (out of memory?)")


def test_processes_end_with_whoever_listened() -> None:
    messages = run_each(itertools.repeat, [10**9, 10**9], 2)
    assert next(messages) in ((0, 0), (1, 1))
    assert len(multiprocessing.active_children()) == 2
    messages.close()  # type: ignore[attr-defined]  # it is a generator
    assert not multiprocessing.active_children()


def test_an_error_of_a_process_is_raised_here() -> None:
    with pytest.raises(InputError, match="the file exists"):
        list(run_each(find, ["none.toml"], 1))  # type: ignore[arg-type]  # it need not yield anything to raise
    assert not multiprocessing.active_children()


def test_without_processes_items_are_worked_on_here_one_after_the_other() -> None:
    seen: list[str] = []

    def work(slot: int, item: str) -> Iterator[tuple[int, str]]:
        seen.append(item)
        yield slot, item
        if item == "a":
            raise torch.OutOfMemoryError(SAID)

    messages = run_each(work, ["a", "b"], 0)
    assert next(messages) == (0, (0, "a"))
    assert seen == ["a"]
    assert list(messages) == [(0, Lost(f"out of memory: {SAID.splitlines()[0]}")), (1, (0, "b"))]
