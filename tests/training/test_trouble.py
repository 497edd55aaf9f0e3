"""What a trial met: its design's fault, or that of its surroundings, in this process and in others."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from utuning_search.common.errors import BackboneError, DataError, InputError, TrainingError
from utuning_search.designs.design import Design
from utuning_search.training import pool as module
from utuning_search.training.pool import Failed, InlinePool, Job, ProcessPool
from utuning_search.training.runtime import Runtime
from utuning_search.training.trouble import from_outside, said_of
from utuning_search.training.workers import Ended, Lost

from .helpers import TASK

OUTSIDE: list[Exception] = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nA second line."),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: the launch timed out and was terminated"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("No CUDA GPUs are available"),
    FileNotFoundError(errno.ENOENT, "No such file or directory", "photos.safetensors"),
    OSError(errno.EIO, "Input/output error"),
    DataError("image folder", "it is there", "nothing"),
]
OWN: list[Exception] = [
    TrainingError("training", "the loss is finite", "nan in epoch 1"),
    BackboneError("design", "its tuners fit the blocks", "none"),
    InputError("design", "a rank is at least 1", 0),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x3 and 2x1)"),
    ValueError("a plugin's mistake"),
    ZeroDivisionError(),
]


def named(error: Exception) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", OUTSIDE, ids=named)
def test_what_surroundings_do(error: Exception) -> None:
    assert from_outside(error)
    assert len(said_of(error).splitlines()) == 1


@pytest.mark.parametrize("error", OWN, ids=named)
def test_what_designs_do(error: Exception) -> None:
    assert not from_outside(error)
    assert len(said_of(error).splitlines()) == 1


class Raising:
    """A trainer that meets an error at once."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def evaluate(self, design: Design, seed: int, **pausing: Any) -> Any:
        raise self.error
        yield design, seed, pausing


class Heard:
    """A channel of a worker that was asked for one job."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def receive(self) -> Job:
        if any(isinstance(said, Failed) for said in self.said):
            raise SystemExit  # the next job
        return Job(Design(), 0)

    def pending(self) -> bool:
        return False

    def send(self, message: object) -> None:
        self.said.append(message)


def serve(monkeypatch: pytest.MonkeyPatch, load: Callable[[], Any], error: Exception) -> list[Any]:
    """What a worker says, with trainings that meet an error."""
    monkeypatch.setattr(module, "load_search", lambda *_: load())
    monkeypatch.setattr(module, "ProxyTrainer", lambda *_: Raising(error))
    heard = Heard()
    try:
        module._serve(heard, TASK, Runtime(), None, ())  # type: ignore[arg-type]  # it is all that is asked of a channel
    except SystemExit:
        return [*heard.said, "goes on"]
    return heard.said


@pytest.mark.parametrize("error", [*OUTSIDE, *OWN], ids=named)
def test_both_kinds_of_pools_agree(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    inline = InlinePool(Raising(error))  # type: ignore[arg-type]  # it evaluates designs
    inline.start(0, Job(Design(), 0))
    ((_, event),) = inline.wait(0)
    said = serve(monkeypatch, lambda: None, error)
    if error in OUTSIDE:
        assert event == Lost(said_of(error))
        assert said == [module._LastWords(said_of(error))], "a worker that may be broken goes on"
    else:
        assert event == Failed(said_of(error))
        assert said == [Failed(said_of(error)), "goes on"]
    assert inline.wait(0) == []


def test_a_worker_that_cannot_load_its_data_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        raise DataError("image folder photos", "it is there", "nothing")

    said = serve(monkeypatch, load, ValueError())
    assert said == [module._LastWords("DataError: image folder photos: it is there; got nothing.")]


class Scripted:
    """Workers of which each look finds what a test wrote down."""

    begun = False

    def __init__(self, looks: list[list[tuple[int, Any]]]) -> None:
        self.looks, self.launched = looks, [0] * 2

    def launch(self, worker: int, *rest: object) -> None:
        del rest
        self.launched[worker] += 1

    def wait(self, seconds: float) -> list[tuple[int, Any]]:
        del seconds
        return self.looks.pop(0)


@pytest.mark.parametrize("together", [False, True])
def test_a_worker_s_last_words_say_how_it_was_lost(together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[tuple[int, Any]] = [(1, module._LastWords("MemoryError: ")), (1, Ended(0))]
    looks = [words] if together else [[words[0]], [words[1]]]
    scripted = Scripted([*looks, [(1, Ended(-9))]])
    monkeypatch.setattr(module, "Workers", lambda **_: scripted)
    pool = ProcessPool(TASK, [Runtime()] * 2, Path("images"))
    assert [event for _ in looks for event in pool.wait(0)] == [(1, Lost("MemoryError: "))]
    assert scripted.launched == [1, 2]
    ((_, lost),) = pool.wait(0)
    assert "SIGKILL" in lost.reason, "the last words were another worker's"  # type: ignore[union-attr]  # it is Lost


@pytest.mark.parametrize(
    ("ended", "begun", "hopeless"),
    [
        (Ended(1, began=False), False, True),
        (Ended(1, began=False), True, False),  # others began: it is no mistake of the program
        (Ended(-9, began=False), False, False),
        (Ended(1), True, False),
    ],
)
def test_what_the_next_worker_would_meet_too(
    ended: Ended, begun: bool, hopeless: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted = Scripted([[(0, ended)]])
    scripted.begun = begun
    monkeypatch.setattr(module, "Workers", lambda **_: scripted)
    ((_, lost),) = ProcessPool(TASK, [Runtime()]).wait(0)
    assert lost.hopeless == hopeless  # type: ignore[union-attr]  # it is Lost
    assert scripted.launched[0] == (1 if hopeless else 2)


def test_nothing_to_wait_for_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a sleep a run that waits for another owner's trial would spin."""
    slept: list[float] = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    assert InlinePool(Raising(ValueError())).wait(0.5) == []  # type: ignore[arg-type]  # it evaluates designs
    assert slept == [0.5]
