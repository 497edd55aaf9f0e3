"""Workers that train trials: in this process, or one process each, behind one interface.

The caller starts a job on an idle worker, waits for events and answers each rung with go on or stop. Only the
caller decides and stores; workers hold a backbone, data and caches, and may be killed at any time.

What comes from a trial's surroundings is told apart from what its design did: see `trouble`.
"""

import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from utuning_search.common.errors import UTuningError
from utuning_search.designs.design import Design
from utuning_search.training.allocator import keep_freed_memory
from utuning_search.training.checkpoint import Checkpoint
from utuning_search.training.context import load_search
from utuning_search.training.measurement import Measure
from utuning_search.training.proxy import Paused, ProxyTrainer, Report, Result, never
from utuning_search.training.runtime import Runtime
from utuning_search.training.task import Task
from utuning_search.training.trouble import from_outside, said_of
from utuning_search.training.workers import Channel, Ended, Lost, Workers

SAVED = 60.0  # seconds of training between two checkpoints of a trial; one takes some milliseconds


@dataclass(frozen=True)
class Job:
    """A design to train.

    Attributes:
        design: Resolved for the backbone.
        seed: Of its initial weights and order of images.
        begun: File of the checkpoint that it goes on from; None for a training from the start.
    """

    design: Design
    seed: int
    begun: Path | None = None


@dataclass(frozen=True)
class Rung:
    """A running trial was measured and waits for an answer."""

    report: Report


@dataclass(frozen=True)
class Saved:
    """A running trial can go on from here, if it breaks off; it does not wait."""

    checkpoint: Checkpoint


@dataclass(frozen=True)
class Done:
    """A trial reached its last epoch."""

    result: Result


@dataclass(frozen=True)
class Failed:
    """A trial cannot go on because of its design, and why; its worker can."""

    reason: str


@dataclass(frozen=True)
class _Pause:
    """What a worker is sent to stop its trial after the epoch."""


@dataclass(frozen=True)
class _LastWords:
    """A worker's surroundings let it down, and how; it ends."""

    reason: str


Event = Rung | Saved | Done | Paused | Failed | Lost


class Pool(ABC):
    """Some workers, numbered from 0."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of workers."""

    @abstractmethod
    def start(self, worker: int, job: Job) -> None:
        """Begin a job on an idle worker."""

    @abstractmethod
    def wait(self, seconds: float) -> list[tuple[int, Event]]:
        """Events of busy workers, as soon as there is one; empty after `seconds` without any."""

    @abstractmethod
    def answer(self, worker: int, go_on: bool) -> None:
        """Reply to a worker's Rung; without `go_on` its trial is dropped and it is idle."""

    @abstractmethod
    def pause(self) -> None:
        """Have each running trial stop after its epoch: its worker then says Paused, or Done after the last one."""

    @abstractmethod
    def close(self) -> None:
        """Stop all workers now, whatever they do."""


class InlinePool(Pool):
    """One worker in this process; events come as its caller waits.

    Args:
        trainer: Of the trials.
        asked: Whether to pause, for who has no moment to call `pause`: nobody has while a trial is trained here.
    """

    def __init__(self, trainer: ProxyTrainer, asked: Callable[[], bool] = never) -> None:
        self._trainer, self._asked, self._pausing = trainer, asked, False
        self._run: Iterator[Report | Result | Checkpoint | Paused] | None = None

    @property
    def size(self) -> int:
        return 1

    def start(self, worker: int, job: Job) -> None:
        del worker
        self._run = self._trainer.evaluate(job.design, job.seed, begun=_begun(job), asked=self._is_asked, every=SAVED)

    def wait(self, seconds: float) -> list[tuple[int, Event]]:
        if self._run is None:
            time.sleep(seconds)
            return []
        try:
            item = next(self._run)
        except Exception as error:
            self._run = None
            return [(0, Lost(said_of(error)) if from_outside(error) else _failed(error))]
        if isinstance(item, Result | Paused):
            self._run = None
        return [(0, _event(item))]

    def answer(self, worker: int, go_on: bool) -> None:
        del worker
        if not go_on:
            self._run = None

    def pause(self) -> None:
        self._pausing = True

    def close(self) -> None:
        self._run = None

    def _is_asked(self) -> bool:
        return self._pausing or self._asked()


class ProcessPool(Pool):
    """One process a worker, each with its own copy of backbone, data and caches; one that is lost is replaced.

    Args:
        task: What is trained on.
        runtimes: One a worker.
        images: Decoded ones (SearchData.save), so that not every worker decodes them again; kept by the caller.
        measures: What is measured besides accuracy.
    """

    def __init__(
        self,
        task: Task,
        runtimes: Sequence[Runtime],
        images: Path | None = None,
        measures: Sequence[Measure] = (),
    ) -> None:
        self._task, self._runtimes, self._images, self._measures = task, runtimes, images, tuple(measures)
        self._workers: Workers[Rung | Saved | Done | Paused | Failed | _LastWords] = Workers(imports=[__name__])
        self._last_words: dict[int, str] = {}
        try:
            for worker in range(self.size):
                self._launch(worker)
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        return len(self._runtimes)

    def start(self, worker: int, job: Job) -> None:
        self._workers.send(worker, job)

    def answer(self, worker: int, go_on: bool) -> None:
        self._workers.send(worker, go_on)

    def wait(self, seconds: float) -> list[tuple[int, Event]]:
        events: list[tuple[int, Event]] = []
        for worker, event in self._workers.wait(seconds):
            if isinstance(event, _LastWords):
                self._last_words[worker] = event.reason
            elif isinstance(event, Ended):
                hopeless = event.unimportable and not self._workers.begun
                events.append((worker, Lost(self._last_words.pop(worker, event.reason), hopeless)))
                if not hopeless:
                    self._launch(worker)
            else:
                events.append((worker, event))
        return events

    def pause(self) -> None:
        for worker in range(self.size):
            self._workers.send(worker, _Pause())

    def close(self) -> None:
        self._workers.close()

    def _launch(self, worker: int) -> None:
        self._workers.launch(worker, _serve, self._task, self._runtimes[worker], self._images, self._measures)


def _serve(channel: Channel, task: Task, runtime: Runtime, images: Path | None, measures: Sequence[Measure]) -> None:
    """What a worker does: jobs in, events out, until its surroundings let it down."""
    try:
        keep_freed_memory()
        torch.set_num_threads(runtime.threads)
        trainer = ProxyTrainer(task, runtime, load_search(task, runtime.data_dir, images), measures)
        pauses = _Pauses(channel)
        while True:
            _one_job(channel, trainer, pauses)
    except Exception as error:
        # A fresh process begins with a device and memory of which nothing is left broken.
        if not from_outside(error) and not isinstance(error, UTuningError):
            traceback.print_exc()
        channel.send(_LastWords(said_of(error)))


class _Pauses:
    """What a worker is told, but for the words that it is to pause, which may come at any time.

    Args:
        channel: Of the worker.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel, self._pausing = channel, False

    def receive(self) -> Any:
        """The next message, as soon as there is one."""
        while isinstance(message := self._channel.receive(), _Pause):
            self._pausing = True
        return message

    def asked(self) -> bool:
        """Whether to pause; to be called while nothing else is expected."""
        while self._channel.pending():
            self._channel.receive()
            self._pausing = True
        return self._pausing


def _one_job(channel: Channel, trainer: ProxyTrainer, told: _Pauses) -> None:
    job: Job = told.receive()
    if told.asked():  # while it was starting
        channel.send(Paused(None))
        return
    try:
        for item in trainer.evaluate(job.design, job.seed, begun=_begun(job), asked=told.asked, every=SAVED):
            channel.send(_event(item))
            if isinstance(item, Report) and not told.receive():
                return
    except Exception as error:
        if from_outside(error):
            raise
        channel.send(_failed(error))


def _begun(job: Job) -> Checkpoint | None:
    """Where a job goes on; a file that is gone or damaged costs no more than the training from there."""
    try:
        return None if job.begun is None else Checkpoint.read(job.begun.read_bytes())
    except OSError:
        return None


def _event(item: Report | Result | Checkpoint | Paused) -> Event:
    if isinstance(item, Report):
        return Rung(item)
    if isinstance(item, Checkpoint):
        return Saved(item)
    return Done(item) if isinstance(item, Result) else item


def _failed(error: Exception) -> Failed:
    if not isinstance(error, UTuningError):
        traceback.print_exc()
    return Failed(said_of(error))
