"""What Optuna's own tools find in a study: rungs as intermediate values, unseen by samplers, and true parameters."""

import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FixedTrial, FrozenTrial, TrialState

from utuning_search.designs.spaces.space import Space
from utuning_search.search.objectives.registry import USUAL, Objectives
from utuning_search.search.pruners.pareto import ParetoPruner
from utuning_search.search.samplers.registry import SAMPLERS
from utuning_search.search.samplers.wrapped import RandomSampler
from utuning_search.search.storage import open_storage
from utuning_search.testing.pretend import SHAPE, SPACE, PretendStudy
from utuning_search.testing.samplers import played

EAGER = ParetoPruner(ahead=1, share=0.0)
RANGE = Space.from_dict({**SPACE, "learning_rate": {"low": 0.0004, "high": 0.06, "log": True}})
OBJECTIVES = (USUAL, Objectives(("macro_f1", "parameters", "latency")), Objectives(("balanced_accuracy",)))
STORAGES: dict[str, Callable[[Path], BaseStorage]] = {
    "memory": lambda _: InMemoryStorage(),
    "journal": lambda folder: open_storage(None, folder),
    "sqlite": lambda folder: open_storage(f"sqlite:///{folder}/studies.db", folder),
}


def without_rungs(storage: BaseStorage) -> BaseStorage:
    """A copy of a storage as versions before this one left it."""
    old = InMemoryStorage()
    source = optuna.load_study(study_name="pretend", storage=storage)
    copied = optuna.create_study(study_name="pretend", storage=old, directions=source.directions)
    for trial in source.get_trials():
        trial.intermediate_values = {}
        copied.add_trial(trial)
    return old


@pytest.mark.parametrize("kind", SAMPLERS)
def test_whatever_samples_rungs_are_kept_and_change_nothing(kind: str) -> None:
    """More trials than TPE's start-up, of which some are pruned. An old study goes on just so."""
    study = PretendStudy(SAMPLERS[kind](), EAGER)
    study.play(8 if kind == "ehvi" else 14)
    old = PretendStudy(SAMPLERS[kind](), EAGER, storage=without_rungs(study.storage))
    assert played(old.play(3)) == played(study.play(3))
    trials = study.optuna.get_trials(deepcopy=False)
    assert any(t.state == TrialState.PRUNED for t in trials)
    assert all(t.intermediate_values for t in trials)
    assert [t.intermediate_values for t in trials] == [r.rungs for r in study.scheduler.records()]


@pytest.mark.parametrize("objectives", OBJECTIVES, ids=lambda o: ",".join(o.names))
def test_the_curve_is_of_what_designs_are_called_best_by(objectives: Objectives) -> None:
    study = PretendStudy(SAMPLERS["tpe"](), EAGER, objectives)
    study.play(16)
    for trial, record in zip(study.optuna.get_trials(deepcopy=False), study.scheduler.records(), strict=True):
        measured = {epoch: values[objectives.quality.name] for epoch, values in record.measured.items()}
        assert trial.intermediate_values == measured
        assert (trial.values is None) is (record.state != "complete")


def test_a_reused_trial_has_the_curve_too() -> None:
    study = PretendStudy()
    first = study.play(1)[0]
    study.optuna.enqueue_trial(study.optuna.trials[0].params, user_attrs={"preset": "linear-probe"})
    assert study.play(1)[1].reused == first.number
    one, other = study.optuna.trials
    assert one.intermediate_values == other.intermediate_values


def check(trial: FrozenTrial, space: Space, study: PretendStudy) -> None:
    """Parameters are what the design says, with no rounding on the way."""
    record = study.scheduler.records()[trial.number]
    assert record.design is not None
    if "learning_rate" in trial.params:
        assert trial.params["learning_rate"] == record.design.learning_rate
    assert set(trial.params) <= {variable.name for variable in space.variables(SHAPE.depth)}
    if trial.params:
        again = space.suggest(FixedTrial(trial.params), SHAPE.depth, study.spec.task.recipe.learning_rate)
        assert again.resolve(SHAPE.depth) == record.design.resolve(SHAPE.depth)


@pytest.mark.parametrize("name", ["full", "per_block", "pretend"])
@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_parameters_are_what_was_trained(name: str, kind: str) -> None:
    space = RANGE if name == "pretend" else Space.load(name)
    study = PretendStudy(SAMPLERS[kind](), EAGER, space=space)
    study.play(len(study.spec.preset_designs(SHAPE.depth)) + 4)
    for trial in study.optuna.trials:
        check(trial, space, study)
    assert any("learning_rate" in trial.params for trial in study.optuna.trials)


@pytest.mark.parametrize("place", STORAGES)
def test_so_are_those_that_somebody_enqueued(place: str, tmp_path: Path) -> None:
    study = PretendStudy(RandomSampler(), space=RANGE, storage=STORAGES[place](tmp_path))
    study.optuna.enqueue_trial({"learning_rate": 0.005357, "mlp.tuner": "adapter"})
    study.play(1)
    (trial,) = study.optuna.trials
    assert (trial.params["learning_rate"], trial.params["mlp.tuner"]) == (0.005, "adapter")
    assert len(trial.intermediate_values) == len(study.scheduler.records()[0].rungs) > 1
    check(trial, RANGE, study)


def test_optunas_plots_show_the_study() -> None:
    study = PretendStudy(SAMPLERS["random"](), EAGER)
    study.play(8)
    plots = optuna.visualization.matplotlib
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        curves = plots.plot_intermediate_values(study.optuna)
        front = plots.plot_pareto_front(study.optuna, target_names=list(USUAL.names))
    assert len(curves.get_lines()) == 8
    assert front.get_xlabel() == "accuracy"
    mpl.pyplot.close("all")
