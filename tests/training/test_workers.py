"""The supervisor: what processes say arrives, how each ended is known, and none is left behind."""

import importlib
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
from collections.abc import Iterator
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from utuning_search.training import workers as module
from utuning_search.training.workers import Channel, Ended, Workers

PATIENCE = 240.0


@pytest.fixture
def deeds(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("deeds")


@pytest.fixture
def no_tracker() -> None:
    """As in a fresh interpreter, whose first process starts Python's resource tracker."""
    multiprocessing.resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]  # private


@pytest.fixture
def workers() -> Iterator[Workers[Any]]:
    made: Workers[Any] = Workers()
    yield made
    made.close()
    assert not multiprocessing.active_children()


@pytest.mark.usefixtures("no_tracker")
def test_processes_talk_are_spared_ctrl_c_and_are_replaced(workers: Workers[Any], deeds: ModuleType) -> None:
    for number, greeting in enumerate(("first", "second")):
        workers.launch(number, deeds.echo, greeting)
    for process in multiprocessing.active_children():
        os.kill(process.pid or 0, signal.SIGINT)  # from its first moment on
    pids = {}
    while len(pids) < 2:
        for number, (greeting, pid) in workers.wait(PATIENCE):
            assert greeting == ("first", "second")[number]
            pids[number] = pid
    assert workers.wait(0) == []
    os.kill(pids[1], signal.SIGINT)
    workers.send(1, "still there")
    assert workers.wait(PATIENCE) == [(1, "still there")]
    os.kill(pids[0], signal.SIGKILL)
    assert workers.wait(PATIENCE) == [(0, Ended(-signal.SIGKILL))]
    assert workers.wait(0) == [], "its end is told twice"
    workers.launch(0, deeds.echo, "third")
    ((number, (greeting, pid)),) = workers.wait(PATIENCE)
    assert (number, greeting) == (0, "third")
    assert pid not in pids.values()
    workers.send(0, None)
    assert workers.wait(PATIENCE) == [(0, Ended(0))]
    assert [p.pid for p in multiprocessing.active_children()] == [pids[1]]  # which the fixture closes


def test_a_message_to_a_process_that_is_gone_is_no_error(workers: Workers[Any], deeds: ModuleType) -> None:
    workers.launch(0, deeds.echo, "here")
    (process,) = multiprocessing.active_children()
    process.kill()
    process.join()
    for _ in range(3):
        workers.send(0, "anyone?")
    assert workers.wait(PATIENCE) == [(0, Ended(-signal.SIGKILL))]


def test_a_process_that_says_nothing_any_more_is_ended(
    workers: Workers[Any], deeds: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAVING", 0.1)
    workers.launch(0, deeds.leave_the_room)
    assert workers.wait(PATIENCE) == [(0, Ended(-signal.SIGKILL))]
    assert not multiprocessing.active_children()


def test_a_process_that_could_not_be_started_is_closed_too(
    workers: Workers[Any], deeds: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: SpawnProcess) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(SpawnProcess, "start", start)
    with pytest.raises(OSError, match="no more"):
        workers.launch(0, deeds.echo, "never")
    workers.close()
    assert workers.wait(0) == []


@pytest.mark.parametrize(
    ("exitcode", "reason"),
    [
        (3, "its worker process ended with exit code 3"),
        (0, "its worker process ended with exit code 0"),
        (-signal.SIGTERM, "its worker process was killed by SIGTERM"),
        (-signal.SIGKILL, "its worker process was killed by SIGKILL (out of memory?)"),
    ],
)
def test_how_a_process_ended_is_told(exitcode: int, reason: str) -> None:
    assert Ended(exitcode).reason == reason


@pytest.mark.parametrize("deed", ["send", "receive"])
def test_a_process_whose_parent_is_gone_ends_quietly(deed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    ours, theirs = multiprocessing.Pipe()
    channel = Channel(theirs)
    ours.close()
    with pytest.raises(SystemExit) as left:
        channel.send("anyone?") if deed == "send" else channel.receive()
    assert left.value.code == 0
    theirs.close()
