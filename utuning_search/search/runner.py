"""Keep workers busy: one stretch of running a study, from the first ask to the spent budget or Ctrl-C."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from utuning_search.common.errors import StudyError
from utuning_search.search.scheduler import Running, Scheduler
from utuning_search.search.trials import TrialRecord, front_of, volume_of
from utuning_search.training.pool import Done, Event, Failed, Pool, Rung
from utuning_search.training.workers import Lost

TRIALS = 48
WAIT = 0.5  # seconds between looks at the clock while trials run
HOPELESS = 300  # proposals in a row that are larger than the study allows: the space has no others worth a wait
STALE = 50  # a space of five designs has been tried as a whole by then but once in thousands of studies


@dataclass(frozen=True)
class Budget:
    """When to stop starting trials; the first limit reached counts, and running trials still end.

    Reused trials train no epochs and take no time, so in a small space limits of those alone might never be
    reached. Designs larger than the study allows do not count, but 300 of them in a row end the run. Without a
    limit of trials, a study therefore ends too once the last 50 trials in a row are all of
    designs that were tried before: a rule about its history, so that a resumed study ends at the same trial. It
    then goes on with a limit of trials only.

    Attributes:
        trials: Settled trials in the whole study; None for no limit.
        epochs: Trained in the whole study.
        seconds: Of this run.
    """

    trials: int | None = TRIALS
    epochs: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """Where a running study stands, for a display.

    Attributes:
        records: All trials.
        running: Trials on their way.
        front: Numbers of the front's trials, by parameters ascending.
        hypervolume: Of the front, in [0, 1]; see `front.hypervolume`.
        target: Trials to reach, or None.
        elapsed: Seconds of this run.
        remaining: Seconds to the target at this run's pace, or None.
    """

    records: list[TrialRecord]
    running: list[Running]
    front: list[int]
    hypervolume: float
    target: int | None
    elapsed: float
    remaining: float | None


class Interrupts:
    """Lets signals that raise, such as Ctrl-C, strike only where they are let in: never in the middle of a write.

    What comes at another time strikes at the next such place. Outside the main thread, and for signals without
    a handler in Python, nothing is changed.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, Any], Any]] = {}
        self._open, self._pending = False, 0

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, self._arrived)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @contextmanager
    def let_in(self) -> Iterator[None]:
        self._open = True
        try:
            if self._pending:
                self._arrived(self._pending, None)
            yield
        finally:
            self._open = False

    def _arrived(self, number: int, frame: object) -> None:
        if self._open:
            self._open, self._pending = False, 0
            self._handlers[number](number, frame)
        else:
            self._pending = number


class Runner:
    """Runs trials until a budget is spent.

    Args:
        scheduler: Decides and stores.
        pool: Trains.
        budget: When to stop.
        reference: Parameters of full fine-tuning, for the hypervolume.
        interrupts: Entered by the caller; Ctrl-C is let in while trials are waited for.
        on_change: Called with each change.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        pool: Pool,
        budget: Budget,
        reference: int,
        interrupts: Interrupts,
        on_change: Callable[[Snapshot], None] | None,
    ) -> None:
        self.scheduler, self.pool, self.budget = scheduler, pool, budget
        self.reference, self.interrupts, self.on_change = reference, interrupts, on_change
        self.busy: dict[int, Running] = {}
        self.started: dict[int, float] = {}
        self.held: list[Running] = []  # designs that another trial is training right now
        self.began = time.monotonic()
        self.settled = 0

    def loop(self) -> bool:
        """Run; whether the budget was spent, rather than Ctrl-C pressed. No trial is left running in any case."""
        ended = False
        try:
            while True:
                self._settle_held()
                changed = self._fill()
                if not self.busy and not self.held:
                    self._changed()
                    ended = True
                    return True
                with self.interrupts.let_in():
                    events = self.pool.wait(WAIT)
                for worker, event in events:
                    self._handle(worker, event)
                    changed = True
                if changed:
                    self._changed()
        except KeyboardInterrupt:
            return False
        finally:
            if not ended:
                self.scheduler.reap()

    def _fill(self) -> bool:
        """Start trials on idle workers; whether any was."""
        changed = False
        for worker in range(self.pool.size):
            while worker not in self.busy and not self._spent():
                running = self.scheduler.ask()
                if self.scheduler.refuse_oversized(running):
                    changed = True
                    continue
                outcome = self.scheduler.settle_duplicate(running)
                changed = True
                if outcome is False:
                    self._start(worker, running)
                elif outcome is None:
                    self.held.append(running)
                else:
                    self.settled += 1
        return changed

    def _spent(self) -> bool:
        waiting = len(self.busy) + len(self.held)
        return spent(self.scheduler, self.budget, time.monotonic() - self.began, waiting)

    def _start(self, worker: int, running: Running) -> None:
        self.busy[worker] = running
        self.started[worker] = time.monotonic()
        self.pool.start(worker, running.job)

    def _settle_held(self) -> None:
        for running in list(self.held):
            outcome = self.scheduler.settle_duplicate(running)
            idle = next((w for w in range(self.pool.size) if w not in self.busy), None)
            if outcome is True:
                self.settled += 1
                self.held.remove(running)
            elif outcome is False and idle is not None:
                self.held.remove(running)
                self._start(idle, running)

    def _handle(self, worker: int, event: Event) -> None:
        running = self.busy.get(worker)
        if running is None:  # an idle worker died and was replaced
            if isinstance(event, Lost):
                raise StudyError("worker", "a worker process starts and stays", event.reason, "See the messages above.")
            return
        seconds = time.monotonic() - self.started[worker]
        if isinstance(event, Rung):
            go_on = self.scheduler.rung(running, event.report)
            if not go_on:
                self.scheduler.pruned(running, seconds)
            self.pool.answer(worker, go_on)
            if go_on:
                return
        elif isinstance(event, Done):
            self.scheduler.done(running, event.result)
        elif isinstance(event, Failed):
            self.scheduler.failed(running, event.reason, seconds)
        else:
            self.scheduler.lost(running, event.reason, seconds)
        del self.busy[worker]
        self.settled += 1

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change(self._snapshot(time.monotonic() - self.began))

    def _snapshot(self, elapsed: float) -> Snapshot:
        records = [r for r in self.scheduler.records() if r.state != "waiting"]
        best = front_of(records)
        target = self.budget.trials
        left = None if target is None else max(target - sum(r.settled for r in records), 0)
        remaining = None if left is None or not self.settled else elapsed / self.settled * left
        running = [*self.busy.values(), *self.held]
        volume = volume_of(best, self.reference)
        return Snapshot(records, running, [r.number for r in best], volume, target, elapsed, remaining)


def spent(scheduler: Scheduler, budget: Budget, elapsed: float, running: int) -> bool:
    """Whether no trial may start any more, with `running` ones on their way after `elapsed` seconds."""
    records = scheduler.records()
    settled = sum(r.settled for r in records) + running
    epochs = sum(r.epochs for r in records) + running * scheduler.spec.task.recipe.epochs
    return (
        (budget.trials is not None and settled >= budget.trials)
        or (budget.epochs is not None and epochs >= budget.epochs)
        or (budget.seconds is not None and elapsed >= budget.seconds)
        or (budget.trials is None and _stale(records) >= STALE)
        or _oversized(records) >= HOPELESS
    )


def _oversized(records: list[TrialRecord]) -> int:
    """How many of the last trials in a row were larger than the study allows."""
    count = 0
    for record in records:
        count = count + 1 if record.state == "oversized" else 0
    return count


def _stale(records: list[TrialRecord]) -> int:
    """How many of the last trials in a row are of designs that were tried before them."""
    seen: set[str] = set()
    count = 0
    for record in records:
        if record.key and record.state not in ("interrupted", "oversized"):
            count = count + 1 if record.key in seen else 0
            seen.add(record.key)
    return count
