"""A trial that was given back with a checkpoint goes on from it, wherever it can be read, and reports nothing twice."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch

from utuning_search.search.artifacts import Artifacts
from utuning_search.search.budget import Budget
from utuning_search.search.callbacks.base import Callback
from utuning_search.search.checkpoints import Checkpoints
from utuning_search.search.defaults import SAMPLERS
from utuning_search.search.interrupts import Interrupts
from utuning_search.search.running import Next, Running
from utuning_search.search.samplers.registry import sampler_for
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord
from utuning_search.testing.pretend import PretendStudy
from utuning_search.training.checkpoint import ABOUT, Checkpoint, _versions
from utuning_search.training.proxy import Result
from utuning_search.training.weights import sealed

from .hosts import Host

TRIALS = 12


def checkpoint(epoch: int, running: Running) -> Checkpoint:
    """As a training would leave it, without any weights."""
    about = {"versions": _versions(), "epoch": epoch, "seconds": 3.0, "measured": running.measured}
    tensor = torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)
    found = Checkpoint.read(safetensors.torch.save(sealed({ABOUT: tensor})))
    assert found is not None
    return found


def began(study: PretendStudy) -> Running:
    """The next trial, at its first rung."""
    running, step = study.scheduler.ask()
    while step is not Next.TRAIN:
        running, step = study.scheduler.ask()
    study.scheduler.job(running)
    report = next(r for r in study.reports(running.design) if r.epoch not in running.measured)
    assert study.scheduler.rung(running, report) or not running.preset
    return running


def go_on(study: PretendStudy, running: Running) -> None:
    """Train the rest of a trial that goes on."""
    for report in study.reports(running.design):
        if report.epoch not in running.measured and not study.scheduler.rung(running, report):
            study.scheduler.pruned(running, 1.0)
            return
    last = study.reported(running.design, study.spec.task.recipe.epochs)
    study.scheduler.done(running, Result(last.pop("accuracy"), b"", 1.0))


def outcomes(records: list[TrialRecord]) -> list[tuple[object, ...]]:
    return [(r.key, r.state, r.preset, r.accuracy, r.epochs, dict(r.rungs)) for r in records if r.settled]


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "study", "study", None)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_study_whose_trials_were_given_back_is_what_it_had_been(name: str, checkpoints: Checkpoints) -> None:
    """With each sampler: what it noted of a trial, such as its generation, is not lost."""
    sampler = sampler_for(name, TRIALS)
    whole, stopped = PretendStudy(sampler), PretendStudy(sampler, checkpoints=checkpoints)
    whole.play(TRIALS)
    while stopped.scheduler.history.settled < TRIALS:
        running, step = stopped.scheduler.ask()
        if step is not Next.TRAIN:
            continue
        report = next(iter(stopped.reports(running.design)))
        if not stopped.scheduler.rung(running, report):
            stopped.scheduler.pruned(running, 1.0)
            continue
        stopped.scheduler.paused(running, checkpoint(report.epoch, running))
        assert checkpoints.find(running.design.key) is not None
        again, step = stopped.scheduler.ask()
        assert (again.design, step) == (running.design, Next.TRAIN)
        job = stopped.scheduler.job(again)
        assert job.begun == checkpoints.file(running.design.key)
        assert (again.measured, again.seconds) == (running.measured, 3.0)
        go_on(stopped, again)
        assert checkpoints.find(running.design.key) is None, "it is kept of a finished trial"
    assert outcomes(stopped.scheduler.records()) == outcomes(whole.scheduler.records())[:TRIALS]


def test_it_is_tried_again_as_it_was_whatever_others_found_meanwhile(checkpoints: Checkpoints) -> None:
    study = PretendStudy(sampler_for("ehvi", TRIALS), checkpoints=checkpoints)
    study.play(4)
    first, other = began(study), began(study)
    study.scheduler.paused(first, checkpoint(1, first))
    go_on(study, other)
    again, _ = study.scheduler.ask()
    assert again.design == first.design


def test_without_its_file_a_trial_begins_anew(checkpoints: Checkpoints) -> None:
    """As on a machine that cannot read it."""
    study = PretendStudy(checkpoints=checkpoints)
    running = began(study)
    study.scheduler.paused(running, checkpoint(1, running))
    checkpoints.file(running.design.key).unlink()
    again, _ = study.scheduler.ask()
    job = study.scheduler.job(again)
    assert (again.design, job.begun, again.measured) == (running.design, None, {})


def test_a_disk_that_is_full_ends_no_training(checkpoints: Checkpoints, tmp_path: Path) -> None:
    (tmp_path / "study").write_text("no folder")
    study = PretendStudy(checkpoints=checkpoints)
    running = began(study)
    study.scheduler.saved(running, checkpoint(1, running))
    go_on(study, running)
    assert [r.state for r in study.scheduler.records()] == ["complete"]
    other = began(study)
    study.scheduler.paused(other, checkpoint(1, other))
    assert study.scheduler.records()[other.number].state == "interrupted"


def test_what_others_settled_is_swept(checkpoints: Checkpoints) -> None:
    study = PretendStudy(checkpoints=checkpoints)
    running, waiting = began(study), began(study)
    for one in (running, waiting):
        study.scheduler.saved(one, checkpoint(1, one))
    left = checkpoints.file(running.design.key).read_bytes()
    go_on(study, running)
    checkpoints.file(running.design.key).write_bytes(left)  # as of another machine's folder
    study.scheduler.sweep()
    assert not checkpoints.file(running.design.key).exists()
    assert checkpoints.file(waiting.design.key).exists()


def test_another_machine_goes_on_from_the_artifact_store(tmp_path: Path) -> None:
    """And of a trial that is saved again and again the storage keeps no list."""
    first = PretendStudy()
    machines = []
    for name in ("one", "two"):
        store = Artifacts(str(tmp_path / "store"), first.optuna, first.storage)
        machines.append(Checkpoints(tmp_path / name, "study", store))
    Artifacts(str(tmp_path / "store"), first.optuna, first.storage).check(new=True)
    one, two = (PretendStudy(storage=first.storage, checkpoints=c) for c in machines)
    running = began(one)
    for epoch in (1, 2):
        one.scheduler.saved(running, checkpoint(epoch, running))
    one.scheduler.paused(running, checkpoint(3, running))
    assert [p.name for p in (tmp_path / "store").iterdir()] == [f"study.{running.design.key}.safetensors"]
    assert not one.optuna.get_trials()[running.number].system_attrs.keys() - {"fixed_params"}
    again, _ = two.scheduler.ask()
    job = two.scheduler.job(again)
    assert job.begun == machines[1].file(running.design.key)
    assert again.trial.user_attrs["checkpoint"] == 3
    go_on(two, again)
    assert not list((tmp_path / "store").iterdir())
    assert not machines[1].file(running.design.key).exists()


class Ends(Callback):
    """Asks this process to end at the first rung of some trials; keeps which rungs it was told of."""

    def __init__(self, *trials: int) -> None:
        self._trials, self.rungs = list(trials), []

    def on_rung(self, trial: TrialRecord, epoch: int) -> None:
        self.rungs.append((trial.key, epoch))
        if trial.number in self._trials:
            self._trials.remove(trial.number)
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def _interrupted_by_sigterm() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


def trained(study: Study) -> list[tuple[object, ...]]:
    settled = [r for r in study.trials() if r.settled]
    found = zip(outcomes(settled), settled, strict=True)
    return [(*o, r.design, study.found_weights(r.number).read_bytes()) for o, r in found]


@pytest.mark.usefixtures("_interrupted_by_sigterm")
def test_after_sigterm_trainings_go_on_from_their_checkpoints(tmp_path: Path) -> None:
    host = Host(tmp_path / "one")
    made = (str(host.folder / "mini.toml"), str(host.folder / "tiny.toml"))
    whole = Study.create(*made, name="whole", studies_dir=tmp_path)
    told = Ends()
    assert whole.run(Budget(trials=4), workers=0, callbacks=[told])
    study = Study.create(*made, name="stopped", studies_dir=tmp_path)
    ends = Ends(0, 3)
    for stopped in (True, True, False):
        study = Study.load("stopped", studies_dir=tmp_path)
        assert study.run(Budget(trials=4), workers=0, callbacks=[ends]) is not stopped
        assert len(list((study.folder / "checkpoints").glob("*"))) == stopped
        assert not [r for r in study.trials() if r.state == "running"]
    assert trained(study) == trained(whole)
    assert ends.rungs == told.rungs, "a rung was told twice"
    assert [r.state for r in study.trials()].count("interrupted") == 2


@pytest.mark.usefixtures("_interrupted_by_sigterm")
def test_a_trial_goes_on_on_another_machine(database: str, hosts: tuple[Host, Host], tmp_path: Path) -> None:
    one, two = hosts
    made = (str(one.folder / "mini.toml"), str(one.folder / "tiny.toml"))
    store = str(tmp_path / "store")
    study = Study.create(*made, name="many", studies_dir=one.folder, storage=database, artifacts=store)
    ends = Ends(1)
    assert not study.run(Budget(trials=3), workers=0, callbacks=[ends])
    (kept,) = (one.folder / "many" / "checkpoints").iterdir()
    other = Study.load("many", studies_dir=two.folder, storage=database)
    assert other.run(Budget(trials=3), workers=0, callbacks=[ends])
    assert len(ends.rungs) == len(set(ends.rungs))
    alone = Study.create(*made, name="alone", studies_dir=one.folder)
    assert alone.run(Budget(trials=3), workers=0)
    assert trained(other) == trained(alone)
    assert not [p for p in (tmp_path / "store").iterdir() if kept.stem in p.name]
    assert study.run(Budget(trials=3), workers=0)
    assert not kept.exists(), "what another machine finished is kept here"


def test_a_second_signal_ends_at_once() -> None:
    """And one that comes while a storage is waited for."""
    raised: list[int] = []

    def handler(number: int, frame: object) -> None:
        del frame
        raised.append(number)
        raise KeyboardInterrupt

    before = [signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        for second in (signal.SIGTERM, signal.SIGINT):
            raised.clear()
            with Interrupts() as interrupts, interrupts.gently():
                with interrupts.let_in():
                    signal.raise_signal(signal.SIGTERM)
                assert interrupts.ending
                assert not raised
                with pytest.raises(KeyboardInterrupt), interrupts.let_in():
                    signal.raise_signal(second)
                assert raised == [second]
                with pytest.raises(KeyboardInterrupt):
                    interrupts.sleep(1e9)
                with pytest.raises(KeyboardInterrupt):
                    interrupts.strike()
        with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts, interrupts.let_in():
            signal.raise_signal(signal.SIGTERM)
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGTERM)  # while something is written, and before anything is trained
            with interrupts.gently():
                for _ in range(2):
                    with interrupts.let_in():
                        assert interrupts.ending
    finally:
        for number, old in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, old)


def test_a_trial_that_was_taken_away_keeps_no_checkpoint(checkpoints: Checkpoints) -> None:
    study = PretendStudy(checkpoints=checkpoints)
    running = began(study)
    study.scheduler._ledger.interrupt(running.number)
    study.scheduler.saved(running, checkpoint(1, running))
    assert not checkpoints.file(running.design.key).exists()
