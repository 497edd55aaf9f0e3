"""Keep workers busy: one stretch of running a study, from the first ask to the spent budget or Ctrl-C."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from utuning_search.common.errors import StudyError
from utuning_search.search.budget import Budget, spent
from utuning_search.search.callbacks.telling import Telling
from utuning_search.search.interrupts import Interrupts
from utuning_search.search.running import Next, Running
from utuning_search.search.scheduler import Scheduler
from utuning_search.search.trials import TrialRecord, volume_of
from utuning_search.training.pool import Done, Event, Pool, Rung, Saved
from utuning_search.training.proxy import Paused
from utuning_search.training.workers import Lost

WAIT = 0.5  # seconds between looks at the clock while trials run
WATCH = 5.0  # seconds between looks at trials of others
LOSSES = 3  # workers lost in a row, or designs that took theirs down in a row, that end a run


@dataclass(frozen=True)
class Snapshot:
    """Where a running study stands, for a display.

    Attributes:
        records: All trials.
        running: Trials on their way.
        front: Numbers of the front's trials, the cheapest first.
        hypervolume: Of the front, in [0, 1]; see `pareto.hypervolume`.
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
        scheduler: Decides and stores.
        pool: Trains.
        budget: When to stop.
        interrupts: Entered by the caller; Ctrl-C is let in while trials are waited for.
        on_change: Called with each change.
        telling: Told of rungs and trials.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        pool: Pool,
        budget: Budget,
        interrupts: Interrupts,
        on_change: Callable[[Snapshot], None] | None,
        telling: Telling | None = None,
    ) -> None:
        self.scheduler, self.pool, self.budget = scheduler, pool, budget
        self.interrupts, self.on_change, self.telling = interrupts, on_change, telling or Telling(())
        self.busy: dict[int, Running] = {}
        self.started: dict[int, float] = {}
        self.held: list[Running] = []  # designs that another trial is training right now
        self.proven: set[int] = set()  # workers that trained something, as far as it went, since they were started
        self.proving: set[int] = set()  # workers that train a proof first, see `Scheduler.proof`
        self.began = time.monotonic()
        self.watched = -WATCH
        self.ending = False
        self.settled = self.trained = 0
        # Since anything was trained: lost workers, and designs that count as failed because of them.
        self.lost = self.taken_down = 0
        self.said = ""  # of the last lost worker

    def loop(self) -> bool:
        """Run; whether the budget was spent, rather than Ctrl-C pressed or SIGTERM sent.

        No trial is left running in any case. After SIGTERM those on their way are trained to the end of their epoch.

        Raises:
            StudyError: Workers are lost one after the other, or were and nothing was trained.
        """
        ended = False
        try:
            with self.interrupts.gently():
                ended = self._loop()
                return ended
        except KeyboardInterrupt:
            self.scheduler.hurry()
            return False
        finally:
            if not ended:
                self.scheduler.reap()

    def _loop(self) -> bool:
        """Run; whether the budget was spent, rather than SIGTERM sent."""
        while True:
            changed = False
            if self.interrupts.ending:
                self._pause()
                if not self.busy:
                    self.interrupts.strike()
                    return False
            else:
                self._watch_others()
                self._settle_held()
                changed = self._fill()
                # Else the last trials are others': if one of their processes dies, its trial is for this one.
                if not self.busy and not self.held and self._spent(0):
                    self._changed()
                    # What others trained before may have settled trials of this run.
                    if self.said and not self.trained and self.settled == self.taken_down:
                        raise self._broken("nothing was trained, and workers were lost")
                    return True
            with self.interrupts.let_in():
                events = self.pool.wait(WAIT)
            for worker, event in events:
                self._handle(worker, event)
                changed = True
            if changed:
                self._changed()

    def _pause(self) -> None:
        """Ask each worker once to stop after its epoch; trials that only wait are given back in the end."""
        if not self.ending:
            self.ending = True
            self.pool.pause()

    def _fill(self) -> bool:
        """Start trials on idle workers; whether anything was asked for."""
        changed = False
        for worker in range(self.pool.size):
            while worker not in self.busy and not self._spent() and not self.interrupts.ending:
                with self.scheduler.turn() as ours:
                    # What others began before our turn counts too.
                    if not ours or (self.scheduler.leases.shared and self._spent()):
                        return changed
                    running, step = self.scheduler.ask()
                changed = True
                if step is Next.TRAIN:
                    self._start(worker, running)
                elif step is Next.WAIT:
                    self.held.append(running)
                elif step is Next.REUSED:
                    self.settled += 1
                    self._tell_trial(running)
        return changed

    def _spent(self, waiting: int | None = None) -> bool:
        """Whether no trial may start; `waiting` are on their way, None for as many as there are."""
        history = self.scheduler.recent
        if waiting is None:
            own = len(self.busy) + len(self.held)
            others_too = sum(r.state == "running" for r in history.unfinished)
            waiting = others_too if self.scheduler.leases.shared else own
        elapsed, epochs = time.monotonic() - self.began, self.scheduler.spec.task.recipe.epochs
        return spent(history, self.budget, elapsed, waiting, epochs)

    def _start(self, worker: int, running: Running) -> None:
        self.busy[worker] = running
        self.started[worker] = time.monotonic()
        if worker not in self.proven and self.scheduler.suspected(running):
            self.proving.add(worker)
            self.pool.start(worker, self.scheduler.proof(running))
        else:
            self.pool.start(worker, self.scheduler.job(running))

    def _watch_others(self) -> None:
        """Take over trials of owners that are gone."""
        now = time.monotonic() - self.began
        if now - self.watched >= WATCH:
            self.watched = now
            self.scheduler.reap_lapsed()
            self.scheduler.reap_strays({r.number for r in (*self.busy.values(), *self.held)})

    def _settle_held(self) -> None:
        for running in list(self.held):
            step = self.scheduler.decide(running)
            idle = next((w for w in range(self.pool.size) if w not in self.busy), None)
            if step in (Next.REUSED, Next.GONE):
                self.settled += step is Next.REUSED
                self.held.remove(running)
                self._tell_trial(running)
            elif step is Next.TRAIN and idle is not None:
                self.held.remove(running)
                self._start(idle, running)

    def _handle(self, worker: int, event: Event) -> None:
        running = self.busy.get(worker)
        if isinstance(event, Lost):
            self._handle_loss(worker, running, event)
            return
        if running is None:
            return
        if worker in self.proving:
            self._prove(worker, running, event)
            return
        if isinstance(event, Saved):
            self.scheduler.saved(running, event.checkpoint)
            return
        if isinstance(event, Paused):
            del self.busy[worker]
            self.scheduler.paused(running, event.checkpoint)
            return
        seconds = time.monotonic() - self.started[worker]
        if isinstance(event, Rung):
            go_on = self.scheduler.rung(running, event.report)
            if not go_on:
                self.scheduler.pruned(running, seconds)
            self.pool.answer(worker, go_on)
            self._tell_rung(running, event.report.epoch)
            if go_on:
                return
        elif isinstance(event, Done):
            self.scheduler.done(running, event.result)
        else:
            self.scheduler.failed(running, event.reason, seconds)
        del self.busy[worker]
        self._tell_trial(running)
        self.proven.add(worker)
        self.settled += 1
        self.trained += 1
        self.lost = self.taken_down = 0

    def _prove(self, worker: int, running: Running, event: Event) -> None:
        """Where a worker has trained its proof to the end, it gets what it was started for."""
        if isinstance(event, Rung):
            self.pool.answer(worker, True)
            return
        if isinstance(event, Saved):
            return
        self.proving.discard(worker)
        self.proven.add(worker)
        self.lost = 0
        if self.interrupts.ending:
            del self.busy[worker]
            self.scheduler.paused(running, None)
            return
        self.started[worker] = time.monotonic()
        self.pool.start(worker, self.scheduler.job(running))

    def _handle_loss(self, worker: int, running: Running | None, event: Lost) -> None:
        """Give the trial back, if there is one, and end the run where that happens again and again.

        Raises:
            StudyError: It does.
        """
        proven = worker in self.proven
        self.proven.discard(worker)
        self.proving.discard(worker)
        self.lost += 1
        self.said = event.reason
        if running is not None:
            del self.busy[worker]
            seconds = time.monotonic() - self.started[worker]
            if self.scheduler.lost(running, event.reason, seconds, proven=proven):
                self.taken_down += 1
                self.settled += 1
                self._tell_trial(running)
        # All workers may be struck by one and the same.
        if event.hopeless or self.lost >= max(LOSSES, self.pool.size + 1):
            raise self._broken(f"{self.lost} lost in a row")
        if self.taken_down >= LOSSES:
            raise self._broken(f"{self.taken_down} designs in a row took theirs down")

    def _broken(self, what: str) -> StudyError:
        name = self.scheduler.study_name
        todo = f"Mend the cause; then resume {name}, with --retry-failed if designs count as failed because of it."
        return StudyError(f"study '{name}'", "its workers train trials", f"{what}; the last: {self.said}", todo)

    def _tell_rung(self, running: Running, epoch: int) -> None:
        record = self.scheduler.recent.records[running.number]
        if epoch in record.measured:  # and not given back by another process meanwhile
            self.telling.rung(record, epoch)

    def _tell_trial(self, running: Running) -> None:
        self.telling.trial(self.scheduler.recent.records[running.number])

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change(self._snapshot(time.monotonic() - self.began))

    def _snapshot(self, elapsed: float) -> Snapshot:
        history, target = self.scheduler.recent, self.budget.trials
        records = [r for r in history.records if r.state != "waiting"]
        left = None if target is None else max(target - history.settled, 0)
        remaining = None if left is None or not self.settled else elapsed / self.settled * left
        running, best = [*self.busy.values(), *self.held], history.front
        volume = volume_of(best, self.scheduler.spec.objectives, self.scheduler.setting)
        return Snapshot(records, running, [r.number for r in best], volume, target, elapsed, remaining)
