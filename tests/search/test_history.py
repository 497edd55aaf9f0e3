"""The history of a study, kept up to date trial by trial, is what its trials say when all are read at once."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState

from utuning_search.search.history import History
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.running import Next, Running
from utuning_search.search.scheduler import MOST_LOSSES
from utuning_search.search.storage import open_storage
from utuning_search.search.trials import front_of, read_trial
from utuning_search.testing.pretend import PretendStudy
from utuning_search.training.proxy import Report, Result

THREE = Objectives(("macro_f1", "parameters", "latency"))


def afresh(study: PretendStudy) -> History:
    """The history of somebody who has just opened the study."""
    trials = study.optuna.get_trials(deepcopy=False)
    batch = study.spec.task.recipe.batch_size
    return History(lambda: trials, trials.__getitem__, batch, study.spec.objectives).refresh()


def same(study: PretendStudy) -> None:
    """What the scheduler kept is what is in the storage, and what each count says of all trials."""
    kept, fresh = study.scheduler.history, afresh(study)
    batch, objectives = study.spec.task.recipe.batch_size, study.spec.objectives
    records = [read_trial(t, batch, objectives) for t in study.optuna.get_trials(deepcopy=False)]
    for history in (kept, fresh):
        assert list(history.records) == records
        assert history.settled == sum(r.settled for r in records)
        assert history.epochs == sum(r.epochs for r in records)
        assert history.front == front_of(records, objectives)
        assert history.free_index() == fresh.free_index()
        for epoch in study.spec.task.recipe.rungs:
            wanted = [r for r in records if epoch in r.measured and r.reused is None and r.state != "interrupted"]
            found = history.peers(epoch, but=-1)
            rows = sorted((*m, *e) for m, e in zip(found.measured.tolist(), found.exact.tolist(), strict=True))
            expected = [[*m, *e] for m, e in (history.gains(r.measured[epoch], r.values) for r in wanted)]
            assert np.allclose(rows, sorted(expected)) if expected else not rows


@pytest.mark.parametrize("objectives", [Objectives(), THREE], ids=["usual", "three"])
def test_it_is_what_the_trials_say_at_any_moment(objectives: Objectives) -> None:
    study = PretendStudy(objectives=objectives)
    for _ in range(6):
        study.play(4)
        same(study)
    running, step = study.scheduler.ask()
    assert step is Next.TRAIN
    same(study)
    report = next(study.reports(running.design))
    study.scheduler.rung(running, report)
    same(study)
    study.scheduler.lost(running, "its worker was killed", 1.0)
    same(study)
    study.scheduler.reap()
    study.play(3)
    same(study)


def test_interrupted_trials_give_their_index_back() -> None:
    study = PretendStudy()
    study.play(3)
    running, _ = study.scheduler.ask()
    assert study.scheduler.history.free_index() == 4
    study.scheduler.lost(running, "killed", 1.0)
    assert study.scheduler.history.free_index() == 3
    again, _ = study.scheduler.ask()
    assert again.design == running.design, "the trial that was lost is asked for again"
    assert study.scheduler.history.losses(running.design.key) == 1
    for losses in range(2, MOST_LOSSES):  # workers that had trained others before
        assert not study.scheduler.lost(again, "killed", 1.0)
        assert study.scheduler.history.losses(running.design.key) == losses
        again, _ = study.scheduler.ask()
    assert study.scheduler.lost(again, "killed", 1.0)
    assert study.scheduler.history.records[again.number].state == "failed"


def test_a_design_in_training_is_waited_for_and_then_reused() -> None:
    study = PretendStudy()
    first = ask_for(study, "linear-probe")
    # The same design again, as another proposal.
    study.optuna.enqueue_trial(dict(first.trial.params))
    second, step = study.scheduler.ask()
    assert second.design.key == first.design.key
    assert step is Next.WAIT
    assert study.scheduler.decide(second) is Next.WAIT
    study.train(first)
    assert study.scheduler.decide(second) is Next.REUSED
    record = study.scheduler.records()[second.number]
    assert (record.state, record.reused, record.epochs) == ("complete", first.number, 0)
    assert record.values == study.scheduler.records()[first.number].values


@pytest.mark.parametrize("state", ["complete", "pruned", "failed"])
def test_a_reused_trial_is_no_peer(state: str) -> None:
    """Its values stand for the first trial's: counted again they would let one training prune others as if it were two.

    It is none after it was settled, and none while it is.
    """
    study = PretendStudy()
    epoch = study.spec.task.recipe.rungs[0]
    first = ask_for(study, "linear-probe")
    study.scheduler.rung(first, next(study.reports(first.design)))
    if state == "complete":
        study.scheduler.done(first, Result(0.9, b"", 1.0))
    elif state == "pruned":
        study.scheduler.pruned(first, 1.0)
    else:
        study.scheduler.failed(first, "the loss is finite", 1.0)
    assert len(study.scheduler.history.peers(epoch, but=-1)) == 1
    study.optuna.enqueue_trial(dict(first.trial.params))
    second, step = study.scheduler.ask()
    assert step is Next.REUSED
    record = study.scheduler.records()[second.number]
    assert (record.state, record.reused, record.measured) == (
        state,
        first.number,
        study.scheduler.records()[0].measured,
    )
    for history in (study.scheduler.history, afresh(study)):
        assert len(history.peers(epoch, but=-1)) == 1
    third, step = study.scheduler.ask()
    assert step is Next.TRAIN
    third.trial.set_user_attr("reused", first.number)  # as a process that is killed amid its writes leaves it
    study.scheduler.rung(third, next(study.reports(third.design)))
    assert len(study.scheduler.history.peers(epoch, but=-1)) == 1


def ask_for(study: PretendStudy, preset: str) -> Running:
    running, step = study.scheduler.ask()
    assert (running.preset, step) == (preset, Next.TRAIN)
    return running


def test_what_is_too_large_is_closed_untrained_and_does_not_count() -> None:
    study = PretendStudy(limits=(("parameters", 3_000.0),))
    records = study.play(8)
    large = [r for r in records if r.state == "oversized"]
    assert large
    assert all(r.parameters > 3_000 and r.reason == "more than 3,000 parameters" and not r.rungs for r in large)
    assert study.scheduler.history.settled == 8 == len(records) - len(large)
    states = Counter(t.state for t in study.optuna.get_trials(deepcopy=False))
    assert states[TrialState.PRUNED] >= len(large)


def test_trials_of_other_processes_are_seen() -> None:
    study = PretendStudy()
    study.play(2)
    other = PretendStudy(storage=study.storage)
    running, _ = other.scheduler.ask()
    assert study.scheduler.history.in_training(running.design.key, running.number + 1)
    other.scheduler.rung(running, Report(study.spec.task.recipe.rungs[0], 0.5, 1.0))
    assert len(study.scheduler.history.peers(study.spec.task.recipe.rungs[0], but=-1)) == 3


def test_only_trials_on_their_way_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes a question cost the same after 10,000 trials."""
    study = PretendStudy()
    study.play(10)
    study.scheduler.ask()
    read: list[int] = []
    monkeypatch.setattr(
        "utuning_search.search.history.read_trial",
        lambda trial, *rest: read.append(trial.number) or read_trial(trial, *rest),
    )
    study.scheduler.recent.records  # noqa: B018  # reading is what is tested
    assert read == [10]


@pytest.mark.parametrize("kind", ["memory", "journal"])
def test_no_trial_asks_for_all_of_them(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes the longer the more there are; and yet what others enqueue or finish is seen."""
    storage = open_storage(None, tmp_path) if kind == "journal" else None
    study = PretendStudy(storage=storage)
    study.play(3)
    asked: list[object] = []
    real = study.storage.get_all_trials

    def get_all_trials(*given: Any, **named: Any) -> Any:
        asked.append(given)
        return real(*given, **named)

    monkeypatch.setattr(study.storage, "get_all_trials", get_all_trials)
    study.play(5)
    assert not asked
    other = PretendStudy(storage=storage or study.storage)
    for design in (3, 4):
        other.optuna.enqueue_trial(dict(study.optuna.get_trials()[design].params))
    assert [r.state for r in study.scheduler.records()[-2:]] == ["waiting"] * 2
    study.play(2)
    assert [r.reused for r in study.scheduler.records()[-2:]] == [3, 4]
    theirs, _ = other.scheduler.ask()
    assert study.scheduler.records()[-1].state == "running"
    other.train(theirs)
    assert study.scheduler.records()[-1].settled
