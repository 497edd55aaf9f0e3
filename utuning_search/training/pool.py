"""Workers that train trials: in this process, or one process each, behind one interface.

The caller starts a job on an idle worker, waits for events and answers each rung with go on or stop. Only the
caller decides and stores; workers hold a backbone, data and caches, and may be killed at any time.

What comes from a trial's surroundings is told apart from what its design did: see `trouble`.
"""

import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from utuning_search.common.errors import UTuningError
from utuning_search.designs.design import Design
from utuning_search.training.allocator import keep_freed_memory
from utuning_search.training.context import load_search
from utuning_search.training.measurement import Measure
from utuning_search.training.proxy import ProxyTrainer, Report, Result
from utuning_search.training.runtime import Runtime
from utuning_search.training.task import Task
from utuning_search.training.trouble import from_outside, said_of
from utuning_search.training.workers import Channel, Ended, Lost, Workers


@dataclass(frozen=True)
class Job:
    """A design to train; `seed` of its initial weights and order of images."""

    design: Design
    seed: int


@dataclass(frozen=True)
class Rung:
    """A running trial was measured and waits for an answer."""

    report: Report


@dataclass(frozen=True)
class Done:
    """A trial reached its last epoch."""

    result: Result


@dataclass(frozen=True)
class Failed:
    """A trial cannot go on because of its design, and why; its worker can."""

    reason: str


@dataclass(frozen=True)
class _LastWords:
    """A worker's surroundings let it down, and how; it ends."""

    reason: str


Event = Rung | Done | Failed | Lost


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
    def close(self) -> None:
        """Stop all workers now, whatever they do."""


class InlinePool(Pool):
    """One worker in this process; events come as its caller waits."""

    def __init__(self, trainer: ProxyTrainer) -> None:
        self._trainer = trainer
        self._run: Iterator[Report | Result] | None = None

    @property
    def size(self) -> int:
        return 1

    def start(self, worker: int, job: Job) -> None:
        del worker
        self._run = self._trainer.evaluate(job.design, job.seed)

    def wait(self, seconds: float) -> list[tuple[int, Event]]:
        if self._run is None:
            time.sleep(seconds)
            return []
        try:
            item = next(self._run)
        except Exception as error:
            self._run = None
            return [(0, Lost(said_of(error)) if from_outside(error) else _failed(error))]
        if isinstance(item, Result):
            self._run = None
            return [(0, Done(item))]
        return [(0, Rung(item))]

    def answer(self, worker: int, go_on: bool) -> None:
        del worker
        if not go_on:
            self._run = None

    def close(self) -> None:
        self._run = None


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
        self._workers: Workers[Rung | Done | Failed | _LastWords] = Workers(imports=[__name__])
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
        while True:
            _one_job(channel, trainer, channel.receive())
    except Exception as error:
        # A fresh process begins with a device and memory of which nothing is left broken.
        if not from_outside(error) and not isinstance(error, UTuningError):
            traceback.print_exc()
        channel.send(_LastWords(said_of(error)))


def _one_job(channel: Channel, trainer: ProxyTrainer, job: Job) -> None:
    try:
        for item in trainer.evaluate(job.design, job.seed):
            if isinstance(item, Result):
                channel.send(Done(item))
                return
            channel.send(Rung(item))
            if not channel.receive():
                return
    except Exception as error:
        if from_outside(error):
            raise
        channel.send(_failed(error))


def _failed(error: Exception) -> Failed:
    if not isinstance(error, UTuningError):
        traceback.print_exc()
    return Failed(said_of(error))
