"""Many workers on one study in a PostgreSQL database: who chooses, who trains, and who waits for whom.

Trainings are pretended; each worker has a storage of its own, as each process has one, and a thread.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import pytest
import sqlalchemy
from optuna.exceptions import StorageInternalError

from utuning_search.common.errors import StudyError
from utuning_search.search import patience, runner
from utuning_search.search.budget import Budget
from utuning_search.search.interrupts import Interrupts
from utuning_search.search.joining import patiently
from utuning_search.search.leases import LEASE, Watch
from utuning_search.search.patience import PatientStorage, is_away, patient
from utuning_search.search.runner import Runner
from utuning_search.search.running import Next
from utuning_search.search.storage import is_shared, open_storage
from utuning_search.testing.pretend import PretendStudy
from utuning_search.training.pool import Event
from utuning_search.training.proxy import Report, Result

from .test_environment import PretendPool, well
from .test_leases import Clock

if TYPE_CHECKING:
    from ..postgres import Server

WORKERS, TRIALS = 4, 16


class Worker(PretendStudy):
    """One of several, with a connection of its own."""

    def __init__(self, url: str, owner: str) -> None:
        super().__init__(storage=open_storage(url, Path()))
        self.owner = self.scheduler.leases.owner = owner
        self.pool = LonelyPool(self, well)

    def work(self, trials: int) -> bool:
        with Interrupts() as interrupts:
            return Runner(self.scheduler, self.pool, Budget(trials=trials), interrupts, None).loop()

    @property
    def served(self) -> PatientStorage:
        found = patient(self.storage)
        assert found is not None
        return found


class LonelyPool(PretendPool):
    """It may have nothing to do while others train."""

    def wait(self, seconds: float) -> list[tuple[int, Event]]:
        if not self._busy:
            threading.Event().wait(0.01)
            return []
        return super().wait(seconds)


Crew = Callable[[str], Worker]


@pytest.fixture
def url(postgres: "Server") -> str:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return postgres.database()


@pytest.fixture
def crew(url: str) -> Iterator[Crew]:
    """Workers of one study, by their owners' names; the first one creates it."""
    hired: list[Worker] = []

    def hire(owner: str) -> Worker:
        hired.append(Worker(url, owner))
        return hired[-1]

    yield hire
    for worker in hired:
        worker.served._engine.dispose()


def indices(worker: Worker) -> list[int]:
    trials = worker.optuna.get_trials(deepcopy=False)
    return sorted(t.user_attrs["index"] for t in trials if "interrupted" not in t.user_attrs)


def test_machines_that_open_a_new_database_at_the_same_moment(postgres: "Server") -> None:
    """Optuna makes its tables there, and of two that do so at once PostgreSQL refuses one."""
    for _ in range(3):
        url, together = postgres.database(), threading.Barrier(WORKERS)

        def opened(_: int, url: str = url, together: threading.Barrier = together) -> int:
            together.wait(60)
            return len(open_storage(url, Path()).get_all_studies())

        with ThreadPoolExecutor(WORKERS) as pool:
            assert list(pool.map(opened, range(WORKERS))) == [0] * WORKERS


def test_workers_share_a_budget_the_order_of_trials_and_known_methods(crew: Crew) -> None:
    crew("first")
    workers = [crew(f"worker {i}") for i in range(WORKERS)]
    with ThreadPoolExecutor(WORKERS) as threads:
        assert all(threads.map(lambda w: w.work(TRIALS), workers))
    records = workers[0].scheduler.records()
    assert sum(r.settled for r in records) == len(records) == TRIALS, "more were trained than the study's budget"
    assert indices(workers[0]) == list(range(TRIALS))
    assert Counter(r.preset for r in records if r.preset) == {"linear-probe": 1, "adapter": 1}
    begun = Counter(design.key for worker in workers for design in worker.pool.begun)
    assert set(begun.values()) == {1}, "a design was trained by two workers"
    assert sum(worker.pool.begun != [] for worker in workers) > 1


def test_who_chooses_has_the_study_for_itself(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "TURN", 50)
    one, two = crew("one"), crew("two")
    with one.scheduler.turn() as ours, two.scheduler.turn() as theirs:
        assert (ours, theirs) == (True, False)
    with two.scheduler.turn() as theirs:
        assert theirs
    with pytest.raises(RuntimeError, match="in the middle"), one.scheduler.turn():
        raise RuntimeError("in the middle")
    with two.scheduler.turn() as theirs:
        assert theirs, "an error keeps the turn"


def test_a_turn_ends_with_its_connection(crew: Crew, postgres: "Server", url: str) -> None:
    one, two = crew("one"), crew("two")
    with one.scheduler.turn() as ours:
        assert ours
        assert postgres.cut(url)
        with two.scheduler.turn() as theirs:
            assert theirs


def test_who_loses_its_turn_while_it_chooses_takes_the_next_place(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the server is restarted: another worker has its turn, and the same history."""
    one, two = crew("one"), crew("two")
    proposals, theirs = one.scheduler._proposals, []
    real = proposals.next

    def chosen(*arguments: Any) -> Any:
        found = real(*arguments)
        if not theirs:
            theirs.append(two.scheduler.ask()[0])
        return found

    monkeypatch.setattr(proposals, "next", chosen)
    running, step = one.scheduler.ask()
    assert step is Next.TRAIN
    assert indices(one) == [0, 1], "two trials have one place"
    assert running.design.key != theirs[0].design.key
    assert one.scheduler.records()[theirs[0].number].state == "running"


def test_a_trial_that_was_written_twice_has_its_place_once(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server could not say any more that it had written it."""
    worker = crew("one")
    storage, failed = worker.served.hurried, []
    real = storage.create_new_trial

    def create(*arguments: Any) -> int:
        found = real(*arguments)
        if not failed:
            failed.append(found)
            raise sqlalchemy.exc.OperationalError("INSERT", {}, Exception("the connection is lost"))
        return found

    monkeypatch.setattr(storage, "create_new_trial", create)
    running, step = worker.scheduler.ask()
    assert step is Next.TRAIN, "it waits for its own copy"
    assert indices(worker) == [0]
    assert [r.state for r in worker.scheduler.records()] == ["interrupted", "running"]
    assert running.number == 1


def test_a_worker_waits_for_the_last_trials_of_others_and_takes_them_over(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study is finished by whoever lives."""
    monkeypatch.setattr(runner, "WATCH", 0.0)
    living, dead = crew("living"), crew("dead")
    theirs, step = dead.scheduler.ask()
    assert step is Next.TRAIN
    clock = Clock()
    living.scheduler.leases._watch = Watch(clock=clock)

    class Pool(LonelyPool):
        def wait(self, seconds: float) -> list[tuple[int, Event]]:
            if not self._busy:
                clock.now += LEASE / 4
            return super().wait(seconds)

    living.pool = Pool(living, well)
    assert living.work(3)
    records = living.scheduler.records()
    assert records[theirs.number].state == "interrupted"
    assert sum(r.settled for r in records) == 3
    assert theirs.design.key in {design.key for design in living.pool.begun}
    dead.scheduler.done(theirs, Result(0.9, b"", 1.0))
    assert living.scheduler.records() == records, "who was taken for dead changes nothing"


@pytest.mark.parametrize("moment", ["rung", "pruned", "done", "failed", "lost", "decide"])
def test_a_trial_that_is_taken_away_between_a_look_and_a_write(
    crew: Crew, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused then is no error, and no half of it is left."""
    one, two = crew("one"), crew("two")
    running, _ = one.scheduler.ask()
    real = one.storage.get_trial

    def looked(trial_id: int) -> optuna.trial.FrozenTrial:
        found = real(trial_id)
        two.scheduler._ledger.interrupt(running.number)
        return found

    scheduler = one.scheduler
    with monkeypatch.context() as patched:
        patched.setattr(one.served.hurried, "get_trial", looked)
        if moment == "rung":
            assert not scheduler.rung(running, Report(1, 0.5, 1.0))
        elif moment == "done":
            scheduler.done(running, Result(0.9, b"", 1.0))
        elif moment == "pruned":
            scheduler.pruned(running, 1.0)
        elif moment == "failed":
            scheduler.failed(running, "late", 1.0)
        elif moment == "lost":
            assert not scheduler.lost(running, "late", 1.0)
        else:
            two.scheduler._ledger.interrupt(running.number)
            assert scheduler.decide(running) is Next.GONE
    found = two.scheduler.records()[running.number]
    assert (found.state, found.rungs) == ("interrupted", {})


def test_a_design_that_is_in_training_elsewhere_is_trained_once(crew: Crew) -> None:
    one, two = crew("one"), crew("two")
    running, _ = one.scheduler.ask()
    two.optuna.enqueue_trial(dict(running.trial.params))
    again, step = two.scheduler.ask()
    assert (again.design, step) == (running.design, Next.WAIT)
    one.train(running)
    assert two.scheduler.decide(again) is Next.REUSED


def test_rungs_of_others_are_peers(crew: Crew) -> None:
    one, two = crew("one"), crew("two")
    mine, _ = one.scheduler.ask()
    theirs, _ = two.scheduler.ask()
    two.scheduler.rung(theirs, Report(1, 0.5, 1.0))
    peers = one.scheduler.recent.peers(1, but=mine.number)
    assert len(peers) == 1


# A server that is away


def test_cut_connections_are_made_again(crew: Crew, postgres: "Server", url: str) -> None:
    worker = crew("one")
    said: list[str] = []
    worker.scheduler.wait_by(lambda _: None, said.append)
    for _ in range(3):
        running, step = worker.scheduler.ask()
        assert postgres.cut(url)
        if step is Next.TRAIN:
            worker.train(running)
    assert sum(r.settled for r in worker.scheduler.records()) == 3
    assert said == [], "what mends itself at once is not told"


def test_a_server_that_stops_is_waited_for(crew: Crew, postgres: "Server") -> None:
    """At every moment: while one asks, reports or tells. Nothing is lost, and it is told once."""
    worker = crew("one")
    said: list[str] = []
    pauses = 0

    def pause(seconds: float) -> None:
        nonlocal pauses
        del seconds
        pauses += 1
        if pauses == 4:
            postgres.start()

    worker.scheduler.wait_by(pause, said.append)

    class Pool(LonelyPool):
        def wait(self, seconds: float) -> list[tuple[int, Event]]:
            nonlocal pauses
            if len(self.begun) in (1, 3) and pauses != 4:
                postgres.stop()
                pauses = 0
            elif len(self.begun) == 2:
                pauses = 0
            return super().wait(seconds)

    worker.pool = Pool(worker, well)
    assert worker.work(5)
    records = worker.scheduler.records()
    assert sum(r.settled for r in records) == 5
    assert len(worker.pool.begun) == len({d.key for d in worker.pool.begun})
    away = [line for line in said if "does not answer" in line]
    back = [line for line in said if "answers again, after" in line]
    assert len(away) == len(back) == 2, said
    assert said[0::2] == away
    assert worker.served.away > 0


def test_patience_ends(crew: Crew, postgres: "Server") -> None:
    worker = crew("one")
    worker.served.patience = 0.05
    try:
        postgres.stop()
        with pytest.raises(StorageInternalError):
            worker.scheduler.records()
        worker.served.patience = 1e9
        worker.scheduler.hurry()
        with pytest.raises(StorageInternalError):
            worker.scheduler.records()
    finally:
        postgres.start()


def test_mistakes_are_not_asked_again(crew: Crew) -> None:
    worker = crew("one")
    worker.scheduler.wait_by(lambda _: pytest.fail("it waits"), lambda _: None)
    with pytest.raises(KeyError):
        worker.storage.get_trial(10_000)
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        optuna.create_study(study_name="pretend", storage=worker.storage)


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (sqlalchemy.exc.OperationalError("SELECT", {}, Exception("cut")), True),
        (sqlalchemy.exc.PendingRollbackError("Can't reconnect until invalid transaction is rolled back."), True),
        (sqlalchemy.exc.IntegrityError("INSERT", {}, Exception("twice")), False),
        (ValueError("ours"), False),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_is_the_trouble_of_a_server(error: Exception, away: bool, wrapped: bool) -> None:
    """A soak that restarted one saw the second: Optuna goes on in a session whose connection was cut."""
    by_optuna = StorageInternalError("by Optuna")
    by_optuna.__cause__ = error
    assert is_away(by_optuna if wrapped else error) == away


def test_a_worker_waits_for_a_server_that_is_away_as_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = Clock()
    monkeypatch.setattr("utuning_search.search.joining.time.monotonic", now)
    monkeypatch.setattr(
        "utuning_search.search.joining.time.sleep", lambda seconds: setattr(now, "now", now.now + seconds)
    )
    tries: list[float] = []

    def load(up: float, trouble: Exception) -> str:
        tries.append(now.now)
        if now.now - tries[0] < up:
            try:
                raise trouble
            except Exception:
                raise StudyError("--storage URL", "the storage can be opened", "trouble") from None
        return "loaded"

    away = sqlalchemy.exc.OperationalError("connect", {}, Exception("the database system is starting up"))
    assert patiently(lambda: load(5.0, away), 10.0) == "loaded"
    assert len(tries) == 6
    with pytest.raises(StudyError):
        patiently(lambda: load(50.0, away), 10.0)
    tries.clear()
    with pytest.raises(StudyError):
        patiently(lambda: load(5.0, ValueError("not a study of ours")), 10.0)
    assert len(tries) == 1


def test_while_a_server_is_away_nobody_is_taken_for_dead(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = crew("one"), crew("two")
    theirs, _ = two.scheduler.ask()
    now = Clock()
    monkeypatch.setattr("utuning_search.search.leases.time.monotonic", now)
    one.scheduler.reap_lapsed()
    now.now += LEASE
    one.served.away += LEASE - 1
    one.scheduler.reap_lapsed()
    assert one.scheduler.records()[theirs.number].state == "running"
    now.now += LEASE
    one.scheduler.reap_lapsed()
    assert one.scheduler.records()[theirs.number].state == "interrupted"


def test_a_trial_that_was_written_twice_is_given_back_once(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server wrote it, and its answer was lost."""
    monkeypatch.setattr(runner, "WATCH", 0.0)
    worker = crew("one")
    real, lost = worker.served.hurried.create_new_trial, [True]

    def create(*args: Any) -> int:
        found = real(*args)
        if lost:
            lost.clear()
            raise sqlalchemy.exc.OperationalError("commit", {}, Exception("the connection is lost"))
        return found

    monkeypatch.setattr(worker.served.hurried, "create_new_trial", create)
    assert worker.work(3)
    records = worker.scheduler.records()
    assert [r.state for r in records].count("interrupted") == 1
    assert sum(r.settled for r in records) == len(records) - 1 == 3


@pytest.mark.parametrize(
    ("url", "shared"),
    [
        ("postgresql+psycopg://me@h/d", True),
        ("postgresql://me@h/d", True),
        ("sqlite:///x.db", False),
        ("mysql://me@h/d", False),
        ("no url", False),
        ("", False),
        (None, False),
    ],
)
def test_which_storages_many_processes_share(url: str | None, shared: bool) -> None:
    assert is_shared(url) is shared
