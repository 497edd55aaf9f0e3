"""Callbacks are told of everything once, and nothing they do ends a run; loggers write to the real libraries."""

import importlib.util
import itertools
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from utuning_search.common.errors import InputError
from utuning_search.search.budget import Budget
from utuning_search.search.callbacks.base import Callback, FinalRecord, Started
from utuning_search.search.callbacks.registry import LOGGERS, logger
from utuning_search.search.callbacks.telling import MOST_FAILURES, Telling
from utuning_search.search.defaults import LOGGERS as NAMED
from utuning_search.search.interrupts import Interrupts
from utuning_search.search.pruners.pareto import ParetoPruner
from utuning_search.search.runner import Runner
from utuning_search.search.trials import TrialRecord
from utuning_search.testing.pretend import SHAPE, PretendStudy
from utuning_search.training.proxy import Result

from ..test_environment import OOM, PretendPool, well

STUDY = "pretend"


class Heard(Callback):
    """Keeps what it was told."""

    def __init__(self, raises: str = "", error: type[BaseException] = RuntimeError) -> None:
        self.told: list[tuple[str, Any]] = []
        self._raises, self._error = raises, error

    def __str__(self) -> str:
        return "heard"

    def _hear(self, event: str, what: Any) -> None:
        self.told.append((event, what))
        if event == self._raises:
            raise self._error("a disk\nis full")

    def on_start(self, started: Started) -> None:
        self._hear("start", len(started.records))

    def on_rung(self, trial: TrialRecord, epoch: int) -> None:
        assert trial.measured[epoch]
        self._hear("rung", (trial.number, epoch))

    def on_trial(self, trial: TrialRecord) -> None:
        self._hear("trial", trial.number)

    def on_end(self) -> None:
        self._hear("end", None)

    def of(self, event: str) -> list[Any]:
        return [what for told, what in self.told if told == event]


def study_of() -> PretendStudy:
    return PretendStudy(pruner=ParetoPruner(ahead=1, share=0.0))


def started(study: PretendStudy, *finals: FinalRecord) -> Started:
    space = study.spec.space
    return Started(STUDY, study.scheduler.records(), finals, lambda design: space.params_of(design, SHAPE.depth))


def run(
    study: PretendStudy,
    callback: Callback,
    trials: int,
    say: Callable[[str], None] = pytest.fail,
    fate: Callable[..., Any] = well,
) -> None:
    """As `Study.run` does, on pretended trainings."""
    telling = Telling([callback], say)
    telling.start(started(study))
    with Interrupts() as interrupts:
        pool = PretendPool(study, fate)
        assert Runner(study.scheduler, pool, Budget(trials=trials), interrupts, None, telling).loop()
    telling.end()


def test_everything_is_told_once_and_in_order() -> None:
    study, heard = study_of(), Heard()
    run(study, heard, 8)
    run(study, heard, 16)
    records = study.scheduler.records()
    assert heard.of("start") == [0, 8]
    assert heard.of("trial") == [r.number for r in records]
    assert heard.of("rung") == [(r.number, e) for r in records for e in r.measured if r.reused is None]
    assert heard.told[-1] == ("end", None)
    assert {"complete", "pruned"} <= {r.state for r in records}


def test_a_reused_design_is_told_and_a_lost_trial_is_not() -> None:
    study, heard, fates = study_of(), Heard(), iter([OOM])
    study.play(1)
    study.optuna.enqueue_trial(study.optuna.trials[0].params, user_attrs={"preset": "linear-probe"})
    run(study, heard, 4, fate=lambda _: next(fates, None))
    records = study.scheduler.records()
    assert records[1].reused == 0
    assert "interrupted" in [r.state for r in records]
    assert heard.of("trial") == [r.number for r in records[1:] if r.settled]


@pytest.mark.parametrize("event", ["rung", "trial", "end"])
def test_what_a_callback_raises_is_one_line_and_loses_nothing(event: str) -> None:
    study, said = study_of(), list[str]()
    heard = Heard(event)
    run(study, heard, 8, said.append)
    assert [r.state for r in study.scheduler.records() if not r.settled] == []
    assert len(study.scheduler.records()) == 8
    assert said
    assert len(said) <= MOST_FAILURES
    assert said[0] == f"heard, on_{event}: RuntimeError: a disk is full; the run goes on."


def test_one_that_cannot_begin_is_told_nothing() -> None:
    study, heard, said = study_of(), Heard("start"), list[str]()
    run(study, heard, 2, said.append)
    assert [r.settled for r in study.scheduler.records()] == [True, True]
    assert heard.told == [("start", 0)]
    assert said == ["heard, on_start: RuntimeError: a disk is full; the run goes on without it."]


def test_passwords_in_what_it_raises_are_not_said() -> None:
    class Talks(Callback):
        def on_end(self) -> None:
            raise RuntimeError("no answer from https://me:hunter2@host/api")

    said = list[str]()
    Telling([Talks()], said.append).end()
    assert "hunter2" not in said[0]
    assert "https://me:***@host/api" in said[0]


def test_one_that_always_fails_is_left_alone_and_others_are_not() -> None:
    study, said = study_of(), list[str]()
    broken, heard = Heard("trial"), Heard()
    telling = Telling([broken, heard], said.append)
    for record in study.play(MOST_FAILURES + 2):
        telling.trial(record)
    assert len(broken.told) == MOST_FAILURES == len(said)
    assert "no more of that after 3 failures in a row" in said[-1]
    assert len(heard.told) == MOST_FAILURES + 2


def test_a_trial_that_is_not_settled_is_not_told() -> None:
    study, heard = study_of(), Heard()
    running, _ = study.scheduler.ask()
    Telling([heard]).trial(study.scheduler.records()[running.number])
    assert not heard.told


def test_ctrl_c_is_no_failure_of_a_callback() -> None:
    telling = Telling([Heard("trial", KeyboardInterrupt)])
    with pytest.raises(KeyboardInterrupt):
        telling.trial(study_of().play(1)[0])


def test_without_a_place_to_say_it_it_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="heard, on_end"):
        Telling([Heard("end")]).end()


# Loggers: (names of what was logged) and (name -> curve of a value) as the real library reads them back.
Curves = dict[str, dict[str, list[tuple[int, float]]]]


def read_tensorboard(folder: Path) -> Curves:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: Curves = {}
    for run in sorted((folder / "runs" / STUDY).iterdir()):
        events = EventAccumulator(str(run)).Reload()
        tags = events.Tags()["scalars"]
        found[run.name] = {t: [(e.step, e.value) for e in events.Scalars(t)] for t in tags}
        assert "_hparams_/session_start_info" in events.summary_metadata or not (run / "logged").exists()
    return found


def read_mlflow(folder: Path) -> Curves:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name(STUDY)
    found: Curves = {}
    for run in client.search_runs([experiment.experiment_id]):
        assert run.info.run_name not in found, "logged twice"
        names = run.data.metrics
        found[run.info.run_name] = {
            n: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, n)] for n in names
        }
    return found


PLACES: dict[str, Callable[[Path], str]] = {
    "tensorboard": lambda folder: f"tensorboard={folder}/runs",
    "mlflow": lambda folder: f"mlflow=sqlite:///{folder}/mlflow.db",
}
READ: dict[str, Callable[[Path], Curves]] = {"tensorboard": read_tensorboard, "mlflow": read_mlflow}
NAME: dict[str, Callable[[int], str]] = {"tensorboard": "trial-{:05d}".format, "mlflow": "trial {}".format}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing asks the network."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("DO_NOT_TRACK", "true")


def check(found: Curves, kind: str, records: list[TrialRecord]) -> None:
    """Each settled trial once, with its curve and its objectives, each point once."""
    for record in records:
        curves = found[NAME[kind](record.number)]
        for name in {n for values in record.measured.values() for n in values}:
            wanted = [(e, v[name]) for e, v in sorted(record.measured.items())]
            assert [s for s, _ in curves[name]] == [s for s, _ in wanted]
            assert all(math.isclose(a, b, rel_tol=1e-6) for (_, a), (_, b) in zip(curves[name], wanted, strict=True))
        ((_, parameters),) = curves["parameters"]
        assert math.isclose(parameters, record.parameters)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", LOGGERS)
def test_loggers_write_each_trial_once_however_often_a_study_goes_on(kind: str, tmp_path: Path) -> None:
    study, place = study_of(), PLACES[kind](tmp_path)
    study.play(2)  # without a logger
    run(study, logger(place), 5)
    first = READ[kind](tmp_path)
    check(first, kind, study.scheduler.records())
    assert len(first) == 5
    # A process that is killed after a rung, before it could say more, and one that was just told.
    killed = logger(place)
    killed.on_start(started(study))
    lost, _ = study.scheduler.ask()
    report = next(study.reports(lost.design))
    study.scheduler.rung(lost, report)
    killed.on_rung(study.scheduler.records()[lost.number], report.epoch)
    study.train(lost)
    final = FinalRecord("linear-probe", "k", lost.design, None, 0, 9, True, 650, {"accuracy": 0.75})
    fresh = replace(final, epochs=8, values={"accuracy": 0.5})
    again = logger(place)
    again.on_start(replace(started(study, final), remeasured=[fresh]))
    again.on_final(final)
    again.on_remeasured(fresh)
    again.on_end()
    found = READ[kind](tmp_path)
    check(found, kind, study.scheduler.records())
    last, other = sorted(set(found) - {NAME[kind](r.number) for r in study.scheduler.records()})
    assert "final" in last
    assert "fresh" in other
    assert found[last]["test_accuracy"] == [(9, 0.75)]
    assert found[other]["validation_accuracy"] == [(8, 0.5)]
    assert "test_accuracy" not in found[other]
    assert {name: found[name] for name in first} == first
    run(study, logger(place), 6)
    assert READ[kind](tmp_path) == found


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", LOGGERS)
def test_loggers_write_the_whole_curve_of_a_trial_that_goes_on_from_a_checkpoint(kind: str, tmp_path: Path) -> None:
    """They are told of what it reports, and not of its rungs before."""
    study, log = study_of(), logger(PLACES[kind](tmp_path))
    log.on_start(started(study))
    running, _ = study.scheduler.ask()
    first, second = itertools.islice(study.reports(running.design), 2)
    study.scheduler.rung(running, first)
    study.scheduler.rung(running, second)
    log.on_rung(study.scheduler.records()[0], second.epoch)
    study.scheduler.done(running, Result(0.9, b"", 1.0))
    log.on_trial(study.scheduler.records()[0])
    log.on_end()
    check(READ[kind](tmp_path), kind, study.scheduler.records())


def test_what_is_named_on_the_command_line_is_what_there_is() -> None:
    assert tuple(LOGGERS) == NAMED


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("wandb=x", "KIND of logger"),
        ("tensorboard", "a folder is given; got none"),
        ("tensorboard={}/file", "a folder is given; got the file"),
        (f"tensorboard={'n' * 260}", "a folder is given; got File name too long"),
        (f"tensorboard={{}}/{'é' * 200}/x", "a folder is given; got File name too long"),
    ],
)
def test_a_place_that_is_none_is_refused(text: str, rule: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=rule):
        logger(text.format(tmp_path))


@pytest.mark.parametrize(("kind", "module"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow")])
def test_without_the_library_it_says_what_to_install(kind: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"pip install 'utuning-search\[{kind}\]'"):
        logger(f"{kind}=x")


@pytest.mark.parametrize(("kind", "module"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow")])
def test_without_the_library_the_others_are_there(kind: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules of all are imported, whichever is asked for; none may import its library then."""
    monkeypatch.setitem(sys.modules, module, None)
    spec = importlib.util.find_spec(f"utuning_search.search.callbacks.{kind}")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
