"""The pruner in an Optuna study that is not ours, with a second objective that is known ahead."""

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

import utuning_search
from utuning_search.common.errors import InputError
from utuning_search.search.pruners.known import ParetoRungs
from utuning_search.search.pruners.pareto import ParetoPruner

DIRECTIONS = ["maximize", "minimize"]


def quality(width: int, luck: float, epoch: int) -> float:
    return (0.5 + 0.1 * width / 64 - 0.3 * luck) * (1 - 0.5**epoch)


def objective(trial: optuna.Trial) -> tuple[float, float]:
    """As the class's docstring and the page on Optuna have it."""
    width, luck = trial.suggest_int("width", 1, 64), trial.suggest_float("luck", 0, 1)
    rungs = ParetoRungs(trial, {1: width})
    accuracy = 0.0
    for epoch in range(1, 6):
        accuracy = quality(width, luck, epoch)
        if rungs.report(epoch, accuracy):
            raise optuna.TrialPruned
    return accuracy, width


@pytest.mark.parametrize("sampler", [optuna.samplers.TPESampler(seed=0), optuna.samplers.RandomSampler(seed=0)])
def test_it_prunes_and_spares_the_front(sampler: optuna.samplers.BaseSampler) -> None:
    study = optuna.create_study(directions=DIRECTIONS, sampler=sampler)
    study.optimize(objective, n_trials=40)
    pruned = [t for t in study.trials if t.state == TrialState.PRUNED]
    assert 2 < len(pruned) < 30
    ends = {t.number: (quality(**t.params, epoch=5), t.params["width"]) for t in study.trials}
    for trial in pruned:
        accuracy, width = ends[trial.number]
        earlier = [ends[t.number] for t in study.trials if t.number < trial.number]
        assert sum(a > accuracy and w <= width for a, w in earlier) >= 3, "nothing smaller was ahead"


def asked(study: optuna.Study, size: float, **options: ParetoPruner) -> ParetoRungs:
    return ParetoRungs(study.ask(), {1: size}, **options)


def test_only_trials_that_cost_no_more_and_are_at_the_same_step_count() -> None:
    study = optuna.create_study(directions=DIRECTIONS)
    for _ in range(3):
        assert not asked(study, 10).report(1, 0.9)
    assert not asked(study, 9).report(1, 0.5)  # they are larger
    assert not asked(study, 11).report(2, 0.5)  # nobody was there
    assert not asked(study, 11).report(1, 0.9)  # they are not ahead
    assert asked(study, 11).report(1, 0.5)
    assert not asked(study, 11, pruner=ParetoPruner(ahead=9)).report(1, 0.5)


def test_a_trial_is_none_of_its_own_peers() -> None:
    study = optuna.create_study(directions=DIRECTIONS)
    pruner = ParetoPruner(share=1 / 3)
    for accuracy in (0.9, 0.9, 0.9, *[0.1] * 6):
        asked(study, 10).report(1, accuracy)
    assert asked(study, 11, pruner=pruner).report(1, 0.5)  # three of nine are ahead, of ten that would be too few


def test_directions_count() -> None:
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"])
    for loss in (0.1, 0.2, 0.3):
        ParetoRungs(study.ask(), {0: 5.0}).report(0, [loss, loss])
    assert ParetoRungs(study.ask(), {0: 4.0}).report(0, [0.4, 0.4])
    assert not ParetoRungs(study.ask(), {0: 6.0}).report(0, [0.4, 0.4])
    assert not ParetoRungs(study.ask(), {0: 4.0}).report(0, [0.05, 0.4])


def test_failed_trials_say_nothing_and_others_are_kept_in_the_storage(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    study = optuna.create_study(study_name="s", storage=url, directions=DIRECTIONS)
    for number in range(3):
        asked(study, 10).report(1, 0.9)
        study.tell(number, state=TrialState.FAIL if number == 0 else TrialState.PRUNED)
    again = optuna.load_study(study_name="s", storage=url)
    assert not asked(again, 11).report(1, 0.5)
    asked(again, 10).report(1, 0.9)
    assert asked(again, 11).report(1, 0.5)


def test_mistakes_are_one_line() -> None:
    study = optuna.create_study(directions=DIRECTIONS)
    for known in ({}, {0: 1.0, 1: 1.0}, {2: 1.0}):
        with pytest.raises(InputError, match="known has some of the positions"):
            ParetoRungs(study.ask(), known)
    with pytest.raises(InputError, match="it gets 1 values"):
        asked(study, 1.0).report(1, [0.5, 0.5])


def test_it_is_public() -> None:
    assert utuning_search.ParetoRungs is ParetoRungs
