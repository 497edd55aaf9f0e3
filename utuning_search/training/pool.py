"""Workers that train trials: in this process, or one process each, behind one interface.

The caller starts a job on an idle worker, waits for events and answers each rung with go on or stop. Only the
caller decides and stores; workers hold a backbone, data and caches, and may be killed at any time.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from utuning_search.common.errors import TrainingError, UTuningError
from utuning_search.designs.design import Design
from utuning_search.training.context import load_search
from utuning_search.training.loop import Report
from utuning_search.training.measurement import Measure
from utuning_search.training.processes import Lost, death, end_with_parent, signals_blocked
from utuning_search.training.proxy import Evaluator, Result
from utuning_search.training.runtime import Runtime
from utuning_search.training.task import Task


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
    """A trial cannot go on, and why; its worker can."""

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

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._run: Iterator[Report | Result] | None = None

    @property
    def size(self) -> int:
        return 1

    def start(self, worker: int, job: Job) -> None:
        del worker
        self._run = self._evaluator.evaluate(job.design, job.seed)

    def wait(self, seconds: float) -> list[tuple[int, Event]]:
        del seconds
        if self._run is None:
            return []
        try:
            item = next(self._run)
        except (UTuningError, torch.OutOfMemoryError) as error:
            self._run = None
            return [(0, Failed(_line(error)))]
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
    """One process a worker, each with its own copy of backbone, data and caches.

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
        self._task, self._runtimes, self._images, self._measures = task, runtimes, images, measures
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[tuple[Any, Any]] = []
        try:
            for runtime in runtimes:
                self._workers.append(self._launch(runtime))
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        return len(self._workers)

    def start(self, worker: int, job: Job) -> None:
        self._send(worker, job)

    def answer(self, worker: int, go_on: bool) -> None:
        self._send(worker, go_on)

    def wait(self, seconds: float) -> list[tuple[int, Event]]:
        pipes = {pipe: i for i, (_, pipe) in enumerate(self._workers)}
        events: list[tuple[int, Event]] = []
        for ready in multiprocessing.connection.wait(list(pipes), timeout=seconds):
            worker = pipes[ready]
            try:
                events.append((worker, self._workers[worker][1].recv()))
            except (EOFError, OSError):
                process, _ = self._workers[worker]
                process.join(timeout=5)
                self._workers[worker] = self._launch(self._runtimes[worker])
                events.append((worker, Lost(death(process.exitcode))))
        return events

    def close(self) -> None:
        for process, pipe in self._workers:
            pipe.close()
            process.kill()
        for process, _ in self._workers:
            process.join()

    def _launch(self, runtime: Runtime) -> tuple[Any, Any]:
        ours, theirs = self._context.Pipe()
        about = (theirs, self._task, runtime, self._images, self._measures)
        process = self._context.Process(target=_serve, args=about, daemon=True)
        with signals_blocked():
            process.start()
        theirs.close()  # so that the worker's death closes the pipe for us
        return process, ours

    def _send(self, worker: int, message: Job | bool) -> None:
        # If the worker is gone, the next wait finds its pipe closed and reports the loss.
        with contextlib.suppress(OSError):
            self._workers[worker][1].send(message)


def _serve(pipe: Any, task: Task, runtime: Runtime, images: Path | None, measures: Sequence[Measure]) -> None:
    """A worker's life: jobs in, events out, until the pipe closes or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be blocked
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(runtime.threads)
    try:
        evaluator = Evaluator(task, runtime, load_search(task, runtime.data_dir, images), measures)
        while True:
            _one_job(pipe, evaluator, pipe.recv())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # the parent is gone: nothing of ours is worth finishing


def _one_job(pipe: Any, evaluator: Evaluator, job: Job) -> None:
    try:
        for item in evaluator.evaluate(job.design, job.seed):
            if isinstance(item, Result):
                pipe.send(Done(item))
                return
            pipe.send(Rung(item))
            if not pipe.recv():
                return
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:
        if not isinstance(error, (UTuningError, torch.OutOfMemoryError)):
            traceback.print_exc()
        pipe.send(Failed(_line(error)))


def _line(error: Exception) -> str:
    if isinstance(error, TrainingError):
        return str(error)
    kind = "out of memory" if isinstance(error, torch.OutOfMemoryError) else type(error).__name__
    return f"{kind}: {str(error).splitlines()[0] if str(error) else ''}"
