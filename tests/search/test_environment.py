"""What the surroundings of a trial break is not its design's failure: workers that are lost, one or all of them.

Trainings are pretended, and workers are lost as a test says.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from utuning_search.common.errors import StudyError
from utuning_search.designs.design import Design
from utuning_search.search.budget import Budget
from utuning_search.search.interrupts import Interrupts
from utuning_search.search.runner import LOSSES, Runner, Snapshot
from utuning_search.search.running import Next
from utuning_search.search.samplers.base import Request
from utuning_search.search.samplers.wrapped import RandomSampler
from utuning_search.search.scheduler import MOST_LOSSES
from utuning_search.search.trials import TrialRecord
from utuning_search.testing.pretend import PretendStudy
from utuning_search.training.pool import Done, Event, Job, Pool, Rung
from utuning_search.training.proxy import Result
from utuning_search.training.workers import Lost

OOM = Lost("its worker process was killed by SIGKILL (out of memory?)")
TRIALS = 8
Fate = Callable[[Job], Lost | None]


class PretendPool(Pool):
    """Workers that report what a `PretendStudy` pretends, one event a look each.

    Args:
        study: Whose trainings are pretended.
        fate: Says of a job that begins whether its worker is lost.
        size: Workers.
        late: Whether they are lost after the first report, not before it.
    """

    def __init__(self, study: PretendStudy, fate: Fate, size: int = 1, *, late: bool = False) -> None:
        self._study, self._fate, self._size, self._late = study, fate, size, late
        self._busy: dict[int, Iterator[Event]] = {}
        self.begun: list[Design] = []
        self.idle_losses: list[tuple[int, Event]] = []

    @property
    def size(self) -> int:
        return self._size

    def start(self, worker: int, job: Job) -> None:
        assert worker not in self._busy, "a busy worker was given another job"
        self.begun.append(job.design)
        self._busy[worker] = self._events(job)

    def wait(self, seconds: float) -> list[tuple[int, Event]]:
        assert self._busy or self.idle_losses, f"nobody works, so that it waits for {seconds} s again and again"
        events, self.idle_losses = self.idle_losses, []
        for worker, trial in list(self._busy.items()):
            event = next(trial)
            if not isinstance(event, Rung):
                del self._busy[worker]
            events.append((worker, event))
        return events

    def answer(self, worker: int, go_on: bool) -> None:
        if not go_on:
            del self._busy[worker]

    def pause(self) -> None:
        pass

    def close(self) -> None:
        self._busy.clear()

    def _events(self, job: Job) -> Iterator[Event]:
        lost = self._fate(job)
        for report in self._study.reports(job.design):
            if lost is not None and not self._late:
                break
            yield Rung(report)
            if lost is not None:
                break
        if lost is not None:
            yield lost
        last = self._study.reported(job.design, self._study.spec.task.recipe.epochs)
        yield Done(Result(last.pop("accuracy"), b"", 1.0, 1, last))


def run(study: PretendStudy, pool: Pool, trials: int = TRIALS) -> bool:
    with Interrupts() as interrupts:
        return Runner(study.scheduler, pool, Budget(trials=trials), interrupts, None).loop()


def stopped(study: PretendStudy, pool: Pool, trials: int = TRIALS) -> str:
    with pytest.raises(StudyError) as caught:
        run(study, pool, trials)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert line.startswith("study 'pretend': its workers train trials; got ")
    assert "resume pretend" in line
    return line


def outcomes(records: list[TrialRecord]) -> list[tuple[object, ...]]:
    return [(r.key, r.state, r.preset, r.accuracy, r.epochs) for r in records if r.settled]


def well(job: Job) -> None:
    del job


@pytest.fixture(scope="module")
def whole() -> list[TrialRecord]:
    """The trials of a study of which no worker was ever lost."""
    study = PretendStudy()
    assert run(study, PretendPool(study, well))
    return study.scheduler.records()


@pytest.mark.parametrize("late", [False, True], ids=["while starting", "after a report"])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_where_every_worker_is_lost_the_run_ends_and_no_design_is_blamed(workers: int, late: bool) -> None:
    study = PretendStudy()
    pool = PretendPool(study, lambda _: OOM, workers, late=late)
    line = stopped(study, pool)
    assert f"got {max(LOSSES, workers + 1)} lost in a row; the last: {OOM.reason}" in line
    assert len(pool.begun) <= LOSSES + 2 * workers, "it went on for longer than a few losses"
    assert {r.state for r in study.scheduler.records()} == {"interrupted"}
    assert study.scheduler.history.settled == 0


@pytest.mark.parametrize("good", [0, 1, 5])
def test_once_it_is_mended_the_study_goes_on_as_if_nothing_had_been(good: int, whole: list[TrialRecord]) -> None:
    """The surroundings turn bad after so many trials, in two runs one after the other."""
    study = PretendStudy()
    assert run(study, PretendPool(study, well), good)
    for _ in range(2):
        stopped(study, PretendPool(study, lambda _: OOM))
        assert not [r for r in study.scheduler.records() if r.state in ("failed", "running")]
    assert run(study, PretendPool(study, well))
    assert outcomes(study.scheduler.records()) == outcomes(whole)


def once(times: int) -> Fate:
    """Of each design the first workers are lost."""
    seen: dict[str, int] = {}

    def fate(job: Job) -> Lost | None:
        seen[job.design.key] = seen.get(job.design.key, 0) + 1
        return OOM if seen[job.design.key] <= times else None

    return fate


@pytest.mark.parametrize("late", [False, True], ids=["before a report", "after a report"])
def test_a_trial_whose_worker_was_lost_now_and_then_is_what_it_had_been(late: bool, whole: list[TrialRecord]) -> None:
    study = PretendStudy()
    assert run(study, PretendPool(study, once(1), late=late))
    assert outcomes(study.scheduler.records()) == outcomes(whole)
    assert sum(r.state == "interrupted" for r in study.scheduler.records()) >= TRIALS - 1


def killer(*keys: str) -> Fate:
    return lambda job: OOM if job.design.key in keys else None


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("place", [1, 2, 4])
def test_a_design_that_takes_down_workers_that_work_fails_alone(
    place: int, workers: int, whole: list[TrialRecord]
) -> None:
    study = PretendStudy()
    bad = whole[place].key
    pool = PretendPool(study, killer(bad), workers)
    assert run(study, pool)
    records = study.scheduler.records()
    failed = [r for r in records if r.state == "failed"]
    assert {r.key for r in failed} == {bad}
    assert all(r.reason == OOM.reason for r in failed)
    assert sum(r.settled for r in records) == TRIALS
    tries = sum(design.key == bad for design in pool.begun)
    assert MOST_LOSSES <= tries <= MOST_LOSSES + 1, "one may be the first of its worker"


def test_designs_that_fail_between_others_that_are_trained_end_nothing() -> None:
    study = PretendStudy()
    tried: list[str] = []

    def fate(job: Job) -> Lost | None:
        """Every other new design takes its workers down."""
        if job.design.key not in tried:
            tried.append(job.design.key)
        return OOM if tried.index(job.design.key) % 2 else None

    assert run(study, PretendPool(study, fate), 2 * LOSSES + 2)
    states = [r.state for r in study.scheduler.records() if r.settled and r.reused is None]
    assert states.count("failed") > LOSSES


def test_workers_are_proven_by_what_was_trained_before_not_by_the_suspect(whole: list[TrialRecord]) -> None:
    study = PretendStudy()
    bad = whole[4].key
    pool = PretendPool(study, killer(bad))
    assert run(study, pool)
    tries = [i for i, design in enumerate(pool.begun) if design.key == bad]
    assert len(tries) == MOST_LOSSES
    proofs = {pool.begun[i - 1].key for i in tries[1:]}
    assert proofs == {whole[3].key}
    assert sum(r.reused is None for r in study.scheduler.records() if r.key == whole[3].key) == 1, "a proof is no trial"


def test_memory_that_only_small_designs_fit_into_ends_the_run(whole: list[TrialRecord]) -> None:
    """What proves a worker fits, and one larger design after the other does not: that is no design's fault either."""
    study = PretendStudy()
    small = [r.key for r in whole[:2]]
    line = stopped(study, PretendPool(study, lambda job: None if job.design.key in small else OOM), 40)
    assert f"{LOSSES} designs in a row took theirs down" in line
    assert "--retry-failed" in line
    assert len({r.key for r in study.scheduler.records() if r.state == "failed"}) == LOSSES


def test_a_run_of_which_every_trial_died_is_no_success(whole: list[TrialRecord]) -> None:
    study = PretendStudy()
    assert run(study, PretendPool(study, well), 4)
    bad = whole[4].key
    line = stopped(study, PretendPool(study, killer(bad)), 5)
    assert "nothing was trained" in line
    assert run(study, PretendPool(study, well), 6), "and the next run is one"


def test_a_run_whose_time_was_spent_on_losses_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    study = PretendStudy()
    pool = PretendPool(study, lambda _: OOM)
    monkeypatch.setattr(Runner, "_spent", lambda *_: bool(pool.begun))  # the time is over
    assert "nothing was trained" in stopped(study, pool)
    assert len(pool.begun) == 1


def test_a_run_that_only_takes_values_over_may_lose_a_worker() -> None:
    """Another process trains the design that the lost one was about, and the next trial is of that design too."""
    study = PretendStudy()
    pool = PretendPool(study, lambda _: OOM)

    def another_trains_it(_: Snapshot) -> None:
        if study.scheduler.history.settled == 0:
            PretendStudy(storage=study.storage).play(1)
            study.optuna.enqueue_trial(dict(study.optuna.get_trials()[0].params))

    with Interrupts() as interrupts:
        assert Runner(study.scheduler, pool, Budget(trials=2), interrupts, another_trains_it).loop()
    assert len(pool.begun) == 1
    assert [(r.state, r.reused) for r in study.scheduler.records()] == [
        ("interrupted", None),
        ("complete", None),
        ("complete", 1),
    ]


def test_what_will_be_the_same_each_time_ends_the_run_at_once() -> None:
    study = PretendStudy()
    pool = PretendPool(study, lambda _: Lost("its worker process ended with exit code 1", hopeless=True))
    assert "exit code 1" in stopped(study, pool)
    assert len(pool.begun) == 1


def test_an_idle_worker_may_be_lost() -> None:
    study = PretendStudy()
    pool = PretendPool(study, well, 3)
    pool.idle_losses = [(2, OOM)]
    assert run(study, pool, 2)
    assert [r.state for r in study.scheduler.records()] == ["complete"] * 2


@pytest.mark.parametrize(("settled", "proven"), [(0, 0), (3, 0), (3, MOST_LOSSES - 1)])
def test_losses_of_unproven_workers_are_never_held_against_a_design(settled: int, proven: int) -> None:
    study = PretendStudy()
    study.play(settled)
    for _ in range(proven):
        running, _ = study.scheduler.ask()
        assert not study.scheduler.lost(running, "killed", 0.0)
    for _ in range(3 * MOST_LOSSES):
        running, _ = study.scheduler.ask()
        assert not study.scheduler.lost(running, "killed", 0.0, proven=False)
    assert study.scheduler.history.losses(running.design.key) == proven
    assert study.scheduler.suspected(running)
    study.play(1)
    assert study.scheduler.records()[-1].key == running.design.key


# Failed designs, again


@dataclass(frozen=True)
class Learning(RandomSampler):
    """What it proposes at a place depends on what was tried, as with any sampler that learns."""

    def propose(self, request: Request) -> Design:
        return request.suggest(self.backend(request.seed + 7 * len(request.history)))


def failures(study: PretendStudy, *, preset: bool) -> list[TrialRecord]:
    """Fail a known method and two designs of the sampler's, and train others between and after them."""
    for place in range(6):
        running, step = study.scheduler.ask()
        assert step is Next.TRAIN, "each is another design"
        if place in ((0, 3, 4) if preset else (3, 4)):
            study.scheduler.failed(running, "a lost device", 1.0)
        else:
            study.train(running)
    return [r for r in study.scheduler.records() if r.state == "failed"]


@pytest.mark.parametrize("preset", [False, True])
def test_failed_designs_are_tried_again_at_their_places(preset: bool) -> None:
    study = PretendStudy(Learning())
    failed = failures(study, preset=preset)
    settled = study.scheduler.history.settled
    assert study.scheduler.retry_failed() == len(failed) == (3 if preset else 2)
    assert study.scheduler.history.settled == settled - len(failed)
    other = PretendStudy(Learning(), storage=study.storage)  # as it is loaded anew
    assert other.scheduler.retry_failed() == 0
    for before in failed:
        assert other.scheduler.records()[before.number].state == "interrupted"
        running, _ = other.scheduler.ask()
        assert (running.design, running.preset) == (before.design, before.preset)
        other.train(running)
        assert other.scheduler.records()[running.number].state in ("complete", "pruned")
    assert other.scheduler.history.settled == settled
    new, _ = other.scheduler.ask()
    assert new.trial.user_attrs["index"] == 6, "a place of its own"


def test_a_design_that_fails_again_may_be_tried_again() -> None:
    study = PretendStudy(Learning())
    failed = failures(study, preset=False)
    for _ in range(2):
        assert study.scheduler.retry_failed() == len(failed)
        for before in failed:
            running, _ = study.scheduler.ask()
            assert running.design == before.design
            study.scheduler.failed(running, "still lost", 1.0)
    assert sum(r.state == "failed" for r in study.scheduler.records()) == len(failed)


def test_a_retried_design_that_is_interrupted_is_tried_again_too() -> None:
    study = PretendStudy(Learning())
    before = failures(study, preset=False)[0]
    study.scheduler.retry_failed()
    study.scheduler.ask()
    study.scheduler.reap()
    running, _ = study.scheduler.ask()
    assert running.design == before.design


def test_losses_before_a_retry_are_forgiven() -> None:
    study = PretendStudy()
    study.play(3)
    for _ in range(MOST_LOSSES):
        running, _ = study.scheduler.ask()
        study.scheduler.lost(running, "killed", 1.0)
    assert study.scheduler.records()[running.number].state == "failed"
    study.scheduler.retry_failed()
    again, _ = study.scheduler.ask()
    assert again.design == running.design
    assert not study.scheduler.suspected(again)
    assert not study.scheduler.lost(again, "killed", 1.0), "it failed at its first new loss"
