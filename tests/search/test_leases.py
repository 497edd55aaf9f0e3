"""Trials of several owners in one storage: signs of life, and what becomes of trials without any."""

import threading
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from utuning_search.common.toml import read_toml
from utuning_search.search import runner
from utuning_search.search.budget import Budget
from utuning_search.search.layout import LOCAL
from utuning_search.search.leases import BEAT, LEASE, Heart, Watch
from utuning_search.search.running import Next, Running
from utuning_search.search.storage import open_storage
from utuning_search.search.study import Study
from utuning_search.testing.pretend import PretendStudy
from utuning_search.training.pool import Event
from utuning_search.training.proxy import Report, Result

from .test_environment import PretendPool, run, well

STORAGES: dict[str, Callable[[Path], BaseStorage]] = {
    "memory": lambda _: optuna.storages.InMemoryStorage(),
    "journal": lambda folder: open_storage(None, folder),
    "sqlite": lambda folder: open_storage(f"sqlite:///{folder}/studies.db", folder),
}


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Owners:
    """Two owners of trials in one study; the first watches by `clock`."""

    def __init__(self, storage: BaseStorage) -> None:
        self.clock = Clock()
        self.study, self.other = PretendStudy(storage=storage), PretendStudy(storage=storage)
        self.study.scheduler.leases._watch = Watch(clock=self.clock)
        self.other.scheduler.leases.owner = "another"

    def state(self, running: Running) -> str:
        return self.study.scheduler.records()[running.number].state

    def after(self, seconds: float) -> None:
        """Let time pass, and look."""
        self.clock.now += seconds
        self.study.scheduler.reap_lapsed()


@pytest.fixture(params=STORAGES)
def owners(request: pytest.FixtureRequest, tmp_path: Path) -> Owners:
    return Owners(STORAGES[request.param](tmp_path))


def test_a_reaper_takes_its_own_trials_and_no_others(owners: Owners) -> None:
    """However long they run: whether others are alive is for their leases to say."""
    (theirs, _), (mine, _) = owners.other.scheduler.ask(), owners.study.scheduler.ask()
    owners.study.scheduler.reap()
    assert (owners.state(mine), owners.state(theirs)) == ("interrupted", "running")
    owners.other.train(theirs)
    assert owners.state(theirs) == "complete"


def test_an_owner_without_a_sign_of_life_loses_its_trials(owners: Owners) -> None:
    (theirs, _), (mine, _) = owners.other.scheduler.ask(), owners.study.scheduler.ask()
    for seconds in (0.0, LEASE - 1, 0.0):
        owners.after(seconds)
        assert owners.state(theirs) == "running"
    owners.after(1.0)
    assert (owners.state(theirs), owners.state(mine)) == ("interrupted", "running")
    again, step = owners.study.scheduler.ask()
    assert (again.design, step) == (theirs.design, Next.TRAIN)


def test_an_owner_that_gives_signs_keeps_them(owners: Owners) -> None:
    theirs, _ = owners.other.scheduler.ask()
    owners.after(0.0)
    for number in range(5):
        owners.other.scheduler.leases.beat(f"sign {number}")
        owners.after(LEASE - 1)
        assert owners.state(theirs) == "running"
    owners.other.scheduler.leases.beat("sign 4")  # which is none: it was given before
    owners.after(LEASE)
    assert owners.state(theirs) == "interrupted"


def test_a_report_is_a_sign_and_so_is_any_owner_s_own_only(owners: Owners) -> None:
    theirs, _ = owners.other.scheduler.ask()
    third = PretendStudy(storage=owners.study.storage)
    third.scheduler.leases.owner = "a third"
    gone, _ = third.scheduler.ask()
    owners.after(0.0)
    owners.after(LEASE - 1)
    owners.other.scheduler.rung(theirs, Report(1, 0.5, 1.0))
    owners.other.scheduler.leases.beat("alive")
    owners.after(LEASE - 1)
    assert (owners.state(theirs), owners.state(gone)) == ("running", "interrupted")


def test_a_watcher_knows_nothing_until_it_has_watched(owners: Owners) -> None:
    """Clocks of other machines and times of earlier runs decide nothing."""
    theirs, _ = owners.other.scheduler.ask()
    owners.clock.now = 1e9
    owners.after(0.0)
    assert owners.state(theirs) == "running"


@pytest.mark.parametrize("event", ["rung", "pruned", "done", "failed", "lost", "decide"])
def test_who_was_taken_for_dead_and_is_not_changes_nothing(event: str, owners: Owners) -> None:
    theirs, _ = owners.other.scheduler.ask()
    owners.after(0.0)
    owners.after(LEASE)
    before = owners.study.scheduler.records()
    scheduler = owners.other.scheduler
    if event == "rung":
        assert not scheduler.rung(theirs, Report(1, 0.5, 1.0))
    elif event == "decide":
        assert scheduler.decide(theirs) is Next.GONE
    elif event == "done":
        scheduler.done(theirs, Result(0.9, b"", 1.0))
        assert not owners.other.weights, "weights were kept of a trial that is another one's now"
    elif event == "pruned":
        scheduler.pruned(theirs, 1.0)
    elif event == "failed":
        scheduler.failed(theirs, "late", 1.0)
    else:
        assert not scheduler.lost(theirs, "late", 1.0)
    assert owners.study.scheduler.records() == before


def test_two_reapers_do_not_quarrel(owners: Owners, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, _ = owners.other.scheduler.ask()
    monkeypatch.setattr(owners.study.scheduler.leases, "lapsed", lambda: [theirs.number])
    owners.study.scheduler.reap_lapsed()
    owners.study.scheduler.reap_lapsed()  # as another one that saw it running before
    assert owners.state(theirs) == "interrupted"


@pytest.mark.parametrize(("storage", "reaped"), [("journal", True), ("sqlite", False)])
def test_a_trial_that_nobody_has_signed_yet(storage: str, reaped: bool, tmp_path: Path) -> None:
    """A journal's folder is locked, so that one is this folder's; in a database another process may be about to."""
    owners = Owners(STORAGES[storage](tmp_path))
    trial = owners.study.optuna.ask()
    owners.study.scheduler.reap()
    (found,) = owners.study.optuna.get_trials(deepcopy=False)
    assert (found.number, found.state == TrialState.FAIL) == (trial.number, reaped)
    owners.after(0.0)
    owners.after(LEASE)
    (found,) = owners.study.optuna.get_trials(deepcopy=False)
    assert found.state == TrialState.FAIL


class WaitingPool(PretendPool):
    """A clock goes on while everybody waits."""

    def __init__(self, study: PretendStudy, clock: Clock, size: int) -> None:
        super().__init__(study, well, size)
        self.clock, self.waited = clock, 0

    def wait(self, seconds: float) -> list[tuple[int, Event]]:
        self.clock.now += LEASE / 8
        if not self._busy:
            self.waited += 1
            assert self.waited < 50, "it waits for ever"
            return []
        return super().wait(seconds)


@pytest.mark.parametrize("owners", ["memory"], indirect=True)
@pytest.mark.parametrize("workers", [1, 3])
def test_a_design_that_a_dead_owner_left_running_is_trained(
    workers: int, owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "WATCH", 0.0)
    theirs, _ = owners.other.scheduler.ask()
    owners.study.optuna.enqueue_trial(dict(theirs.trial.params))  # an equal one
    pool = WaitingPool(owners.study, owners.clock, workers)
    assert run(owners.study, pool, 4)
    states = {r.number: r for r in owners.study.scheduler.records()}
    assert states[theirs.number].state == "interrupted"
    assert sum(design.key == theirs.design.key for design in pool.begun) == 1
    assert sum(r.settled for r in states.values()) == 4


@pytest.mark.parametrize("owners", ["memory"], indirect=True)
def test_a_design_that_a_living_owner_trains_is_waited_for(owners: Owners, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "WATCH", 0.0)
    theirs, _ = owners.other.scheduler.ask()
    owners.study.optuna.enqueue_trial(dict(theirs.trial.params))

    class Pool(WaitingPool):
        def wait(self, seconds: float) -> list[tuple[int, Event]]:
            owners.other.scheduler.leases.beat(f"at {self.clock.now}")
            if self.waited == 20:
                owners.other.train(theirs)
            return super().wait(seconds)

    pool = Pool(owners.study, owners.clock, 1)
    assert run(owners.study, pool, 3)
    records = owners.study.scheduler.records()
    assert records[theirs.number].state == "complete"
    assert theirs.design.key not in {design.key for design in pool.begun}
    assert [r.reused for r in records if r.key == theirs.design.key] == [None, theirs.number]


# Signs of life


def test_a_heart_beats_until_it_is_left_and_never_twice_the_same() -> None:
    signs: list[str] = []
    enough = threading.Event()

    def beat(sign: str) -> None:
        signs.append(sign)
        if len(signs) == 1:
            raise OSError("the storage is away for a while")
        if len(signs) >= 3:
            enough.set()

    with Heart(beat, 0.001):
        assert enough.wait(60)
    count = len(signs)
    with Heart(beat, 0.001):
        while len(signs) < count + 2:
            enough.wait(0.001)
    assert len(set(signs)) == len(signs)
    for thread in threading.enumerate():
        if "_live" in thread.name:  # a busy machine takes longer to end it than leaving waits for
            thread.join(60)
            assert not thread.is_alive()
    assert 3 * BEAT < LEASE, "a sign that is late is no death"


@pytest.fixture
def small(tmp_path: Path) -> tuple[str, str]:
    """A space and a task, as files."""
    space, task = tmp_path / "one.toml", tmp_path / "tiny.toml"
    slot = '[[slots]]\nname = "mlp"\noperation = "mlp"\ntuner = ["none", "norm"]\nblocks = ["all", "last 1"]\n'
    space.write_text(f'name = "one"\npresets = ["linear-probe"]\n{slot}')
    backbone = '[backbone]\nname = "glyph_vit"\n[data]\nsource = "digits"\nproxy = 100\nvalidation = 60\n'
    task.write_text(f'name = "tiny"\n{backbone}[training]\nepochs = 2\nbatch_size = 50\nrungs = [1]\n')
    return str(space), str(task)


def test_a_run_gives_signs_of_life(small: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utuning_search.search.leases.BEAT", 0.1)
    study = Study.create(*small, name="alive", studies_dir=tmp_path)
    theirs = Study.load("alive", studies_dir=tmp_path)
    theirs.scheduler.leases.owner = "another"
    running, _ = theirs.scheduler.ask()
    given = threading.Event()
    beat = study.scheduler.leases.beat

    def beat_and_say(sign: str) -> None:
        beat(sign)
        given.set()

    monkeypatch.setattr(study.scheduler.leases, "beat", beat_and_say)

    def wait_for_it(_: object) -> None:
        assert given.wait(60), "no sign of life"  # a fast machine would be through before the first one

    assert study.run(Budget(trials=1), workers=0, on_change=wait_for_it)
    assert f"alive:{study.local['owner']}" in study._optuna.user_attrs
    assert study.trials()[running.number].state == "running", "the run took another owner's trial"


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_whose_trials_a_folder_s_are(storage: str, small: tuple[str, str], tmp_path: Path) -> None:
    """A copy of a folder on a shared database is another owner; so is whoever lost run.toml, and it stays one."""
    url = f"sqlite:///{tmp_path}/s.db" if storage == "sqlite" else None
    first = Study.create(*small, name="mine", studies_dir=tmp_path, storage=url)
    owner = read_toml(first.folder / LOCAL)["owner"]

    def owner_after_a_run(folder: Path) -> str:
        study = Study.load("mine", studies_dir=folder, storage=url)
        assert study.run(Budget(trials=0), workers=0)
        assert read_toml(folder / "mine" / LOCAL)["owner"] == study.scheduler.leases.owner
        return study.scheduler.leases.owner

    assert owner_after_a_run(tmp_path) == owner
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for file in first.folder.iterdir():
        (copy / "mine").mkdir(exist_ok=True)
        (copy / "mine" / file.name).write_bytes(file.read_bytes())
    copied = owner_after_a_run(copy)
    assert (copied == owner) == (storage == "journal"), "a journal is copied with its folder"
    assert owner_after_a_run(copy) == copied
    (first.folder / LOCAL).unlink()
    lost = owner_after_a_run(tmp_path)
    assert lost not in (owner, "mine")
    assert owner_after_a_run(tmp_path) == lost


def test_looking_at_a_study_does_not_write(small: tuple[str, str], tmp_path: Path) -> None:
    study = Study.create(*small, name="seen", studies_dir=tmp_path)
    (study.folder / LOCAL).unlink()
    assert Study.load("seen", studies_dir=tmp_path).trials() == []
    assert not (study.folder / LOCAL).exists()
