"""Keep workers busy: one stretch of running a study, from the first ask to the spent budget or Ctrl-C."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from utuning_search.coordinator import Coordinator, Running
from utuning_search.engine import Done, Event, Failed, Lost, Pool, Rung
from utuning_search.errors import StudyError
from utuning_search.trials import TrialRecord, front_of, volume_of

TRIALS = 48
WAIT = 0.5  # seconds between looks at the clock while trials run


@dataclass(frozen=True)
class Budget:
    """When to stop starting trials; the first limit reached counts, and running trials still end.

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


class Runner:
    """Runs trials until a budget is spent.

    Args:
        coordinator: Decides and stores.
        pool: Trains.
        budget: When to stop.
        reference: Parameters of full fine-tuning, for the hypervolume.
        on_change: Called with each change.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        pool: Pool,
        budget: Budget,
        reference: int,
        on_change: Callable[[Snapshot], None] | None,
    ) -> None:
        self.coordinator, self.pool, self.budget = coordinator, pool, budget
        self.reference, self.on_change = reference, on_change
        self.busy: dict[int, Running] = {}
        self.started: dict[int, float] = {}
        self.held: list[Running] = []  # designs that another trial is training right now
        self.began = time.monotonic()
        self.settled = 0

    def loop(self) -> bool:
        """Run; whether the budget was spent, rather than Ctrl-C pressed."""
        try:
            while True:
                self._settle_held()
                changed = self._fill()
                if not self.busy and not self.held:
                    self._changed()
                    return True
                for worker, event in self.pool.wait(WAIT):
                    self._handle(worker, event)
                    changed = True
                if changed:
                    self._changed()
        except KeyboardInterrupt:
            return False
        finally:
            for running in [*self.busy.values(), *self.held]:
                self.coordinator.interrupted(running)

    def _fill(self) -> bool:
        """Start trials on idle workers; whether any was."""
        changed = False
        for worker in range(self.pool.size):
            while worker not in self.busy and not self._spent():
                running = self.coordinator.ask()
                outcome = self.coordinator.settle_duplicate(running)
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
        return spent(self.coordinator, self.budget, time.monotonic() - self.began, waiting)

    def _start(self, worker: int, running: Running) -> None:
        self.busy[worker] = running
        self.started[worker] = time.monotonic()
        self.pool.start(worker, running.job)

    def _settle_held(self) -> None:
        for running in list(self.held):
            outcome = self.coordinator.settle_duplicate(running)
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
            go_on = self.coordinator.rung(running, event.report)
            if not go_on:
                self.coordinator.pruned(running, seconds)
            self.pool.answer(worker, go_on)
            if go_on:
                return
        elif isinstance(event, Done):
            self.coordinator.done(running, event.result)
        elif isinstance(event, Failed):
            self.coordinator.failed(running, event.reason, seconds)
        else:
            self.coordinator.lost(running, event.reason, seconds)
        del self.busy[worker]
        self.settled += 1

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change(self._snapshot(time.monotonic() - self.began))

    def _snapshot(self, elapsed: float) -> Snapshot:
        records = [r for r in self.coordinator.records() if r.state != "waiting"]
        best = front_of(records)
        target = self.budget.trials
        left = None if target is None else max(target - sum(r.settled for r in records), 0)
        remaining = None if left is None or not self.settled else elapsed / self.settled * left
        running = [*self.busy.values(), *self.held]
        volume = volume_of(best, self.reference)
        return Snapshot(records, running, [r.number for r in best], volume, target, elapsed, remaining)


def spent(coordinator: Coordinator, budget: Budget, elapsed: float, running: int) -> bool:
    """Whether no trial may start any more, with `running` ones on their way after `elapsed` seconds."""
    records = coordinator.records()
    settled = sum(r.settled for r in records) + running
    epochs = sum(r.epochs for r in records) + running * coordinator.spec.task.recipe.epochs
    return (
        (budget.trials is not None and settled >= budget.trials)
        or (budget.epochs is not None and epochs >= budget.epochs)
        or (budget.seconds is not None and elapsed >= budget.seconds)
    )
