"""A fresh process an item: what one yields arrives, and one that breaks breaks alone."""

import importlib
import itertools
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from utuning_search.common.bundled import find
from utuning_search.common.errors import InputError
from utuning_search.training import run_each as module
from utuning_search.training.run_each import LOSSES, run_each
from utuning_search.training.workers import Ended, Lost

from .helpers import SAID


@pytest.mark.usefixtures("warm_processes")
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


@pytest.mark.usefixtures("warm_processes")
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


@pytest.mark.usefixtures("warm_processes")
def test_a_process_that_is_killed_is_told() -> None:
    messages = run_each(itertools.repeat, [10**9], 1)  # yields its slot forever
    assert next(messages) == (0, 0)
    (process,) = multiprocessing.active_children()
    process.kill()
    *_, (index, last) = messages
    assert index == 0
    assert last == Lost("its worker process was killed by SIGKILL (out of memory?)")


@pytest.mark.usefixtures("warm_processes")
def test_processes_end_with_whoever_listened() -> None:
    messages = run_each(itertools.repeat, [10**9, 10**9], 2)
    assert next(messages) in ((0, 0), (1, 1))
    assert len(multiprocessing.active_children()) == 2
    messages.close()  # type: ignore[attr-defined]  # it is a generator
    assert not multiprocessing.active_children()


@pytest.mark.usefixtures("warm_processes")
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


class Dying:
    """Processes that are killed; where their item says so, after they said something."""

    def __init__(self, imports: list[str]) -> None:
        del imports
        self.said: list[tuple[int, Any]] = []

    def launch(self, slot: int, target: object, work: object, number: int, item: str) -> None:
        del target, work, number
        self.said += [(slot, "begins")] if item == "later" else []
        self.said.append((slot, Ended(-9)))

    def wait(self) -> list[tuple[int, Any]]:
        return [self.said.pop(0)]

    def close(self) -> None:
        assert not self.said


def no_memory(slot: int, item: str) -> Iterator[str]:
    if item == "later":
        yield f"{slot} begins"
    raise MemoryError


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_after_a_few_losses_in_a_row_no_further_item_is_taken(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Workers", Dying)
    items = ["later", "at once", "later", *["at once"] * 20]
    found = list(run_each(no_memory, items, workers))
    assert [index for index, message in found if not isinstance(message, Lost)] == [0, 2]
    lost = [index for index, message in found if isinstance(message, Lost)]
    # What was begun at the same time still ends.
    assert lost == list(range(len(lost)))
    assert 2 + LOSSES <= len(lost) <= 2 + LOSSES + 2 * workers


class Heard:
    def __init__(self) -> None:
        self.said: list[object] = []

    def send(self, message: object) -> None:
        self.said.append(message)


def test_what_surroundings_did_is_told_in_a_line() -> None:
    heard = Heard()
    module._work(heard, no_memory, 0, "later")  # type: ignore[arg-type]  # it is all that is asked of a channel
    assert heard.said == ["0 begins", Lost("MemoryError: ")]


def test_what_is_no_fault_of_the_surroundings_is_raised_here_without_processes() -> None:
    def work(slot: int, item: str) -> Iterator[str]:
        yield f"{slot} {item}"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(run_each(work, ["a"], 0))
