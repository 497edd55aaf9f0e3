"""The pruner by predicted ends: what can reach the front at its size goes on, and the rest stops."""

from dataclasses import replace

import numpy as np
import optuna
import pytest

from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design, Placement
from utuning_search.search.history import Peers
from utuning_search.search.objectives.registry import USUAL, Objectives
from utuning_search.search.pruners.base import Rung
from utuning_search.search.pruners.predicted import PredictedPruner
from utuning_search.search.pruners.registry import pruner
from utuning_search.search.surrogate.knowledge import Knowledge, Prospects
from utuning_search.search.trials import TrialRecord
from utuning_search.testing.pretend import SETTING, SHAPE, PretendStudy
from utuning_search.training.recipe import Recipe
from utuning_search.tuners import AdapterConfig

optuna.logging.set_verbosity(optuna.logging.ERROR)

RECIPE = Recipe(epochs=12, rungs=(1, 3, 6))
NOTHING = Peers(np.zeros((0, 1)), np.zeros((0, 1)))
BEHIND = {1: 0.35, 3: 0.2, 6: 0.1}  # of its end, at each rung


def trial(
    number: int, rank: int, end: float, state: str = "complete", until: int = 12, reused: int | None = None
) -> TrialRecord:
    """Of an adapter that would come to such an end, until an epoch."""
    design = Design((Placement("mlp", AdapterConfig(rank), "parallel"),), 0.005).resolve(SHAPE.depth)
    rungs = {epoch: end - behind for epoch, behind in BEHIND.items() if epoch <= until}
    accuracy = end if state == "complete" else rungs[max(rungs)]
    return TrialRecord(
        number=number,
        state=state,
        key=design.key,
        design=design,
        preset="",
        parameters=design.num_parameters(SHAPE, SETTING.num_classes),
        accuracy=accuracy,
        epochs=until,
        seconds=1.0,
        rungs=rungs,
        reused=reused,
        reason="",
        measured={epoch: {"accuracy": value} for epoch, value in rungs.items()},
    )


def usual(count: int = 5) -> list[TrialRecord]:
    return [trial(i, 2**i, 0.75 + 0.02 * i) for i in range(count)]


def rung(history: list[TrialRecord], epoch: int = 6) -> Rung:
    """Of the last trial of a history."""
    own = history[-1]
    return Rung(
        epoch=epoch,
        number=own.number,
        measured=own.measured,
        own=NOTHING,
        peers=NOTHING,
        history=history,
        objectives=USUAL,
        setting=SETTING,
        recipe=RECIPE,
        validation=400,
    )


def prunes(history: list[TrialRecord], rank: int, end: float, epoch: int = 6, **options: float) -> bool:
    """Whether one more trial stops, which would come to such an end."""
    return PredictedPruner(**options).prunes(rung([*history, trial(len(history), rank, end, "running", epoch)], epoch))  # type: ignore[arg-type]  # options


def test_the_first_trials_go_on() -> None:
    for count in range(3):
        assert not prunes(usual(count), 64, 0.2)
    assert prunes(usual(3), 64, 0.2)
    assert not prunes(usual(4), 64, 0.2, startup=5)
    assert prunes(usual(1), 64, 0.2, startup=1)


def test_only_finished_trials_of_their_own_are_counted() -> None:
    history = [*usual(2), trial(2, 8, 0.8, "pruned", 3), trial(3, 1, 0.75, reused=0), trial(4, 16, 0.8, "running", 3)]
    assert not prunes(history, 64, 0.2)
    assert prunes([*history, trial(5, 8, 0.79)], 64, 0.2)


def test_what_is_hopeless_stops_and_what_promises_goes_on() -> None:
    """At rank 20 the front stands at 0.83."""
    assert prunes(usual(), 20, 0.6)
    assert not prunes(usual(), 20, 0.9)
    assert not prunes(usual(), 20, 0.85)


def test_it_is_compared_at_its_size() -> None:
    """What would end at 0.77 is hopeless where larger than all, and good where it is the smallest."""
    history = [trial(i, rank, end) for i, (rank, end) in enumerate(((2, 0.70), (4, 0.74), (16, 0.85), (32, 0.88)))]
    assert prunes(history, 64, 0.77)
    assert not prunes(history, 3, 0.77)
    assert not prunes(history, 1, 0.50), "nothing is in the way of the smallest"


def test_an_early_rung_stops_less_than_a_late_one() -> None:
    """It says less of the end, so more is left to hope for."""
    ends = np.arange(0.62, 0.90, 0.03)
    stopped = [sum(prunes(usual(), 20, float(end), epoch) for end in ends) for epoch in (1, 6)]
    assert stopped[0] < stopped[1]


@pytest.mark.parametrize(
    ("option", "values"), [("chance", (0.0, 0.3, 0.9)), ("worth", (0.01, 0.7, 3.0))], ids=["chance", "worth"]
)
def test_what_is_asked_for_decides(option: str, values: tuple[float, ...]) -> None:
    others = {"chance": {"worth": 1e-9}, "worth": {"chance": 0.0}}[option]
    ends = np.arange(0.60, 1.00, 0.02)
    stopped = [sum(prunes(usual(), 20, float(end), **{option: v, **others}) for end in ends) for v in values]
    assert stopped[0] < stopped[1] < stopped[2] < len(ends)


def test_a_rung_that_says_little_stops_nothing_that_was_worth_its_epochs() -> None:
    """However small the chance to reach the front was: it was begun for what it might gain, and less is left to pay."""
    history = [*usual(), trial(5, 32, 0.95)]
    for end in (0.85, 0.87):
        assert not prunes(history, 20, end, 1)


def test_a_training_that_goes_wrong_stops_whatever_was_expected() -> None:
    """But not what is the smallest of all, for that is on the front however bad it is."""
    history = [*usual(), trial(5, 32, 0.95)]
    assert not prunes(history, 20, 0.83, 1)
    assert prunes(history, 20, 0.40, 1)
    smaller = [replace(r, number=i) for i, r in enumerate(history[1:])]
    assert not prunes(smaller, 1, 0.40, 1)


def test_the_same_prospects_are_worth_more_the_fewer_epochs_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 12 epochs: a half of what was promised is more an epoch than that was, once six are paid for."""

    def stops(epoch: int, gain: float, worth: float = 1.0) -> bool:
        found = Prospects(mean=0.8, sd=0.1, height=0.8, promised=0.01, gain=gain)
        monkeypatch.setattr(Knowledge, "prospects", lambda *_: found)
        return prunes(usual(), 20, 0.8, epoch, worth=worth)

    for epoch, left in ((1, 11 / 12), (3, 9 / 12), (6, 6 / 12)):
        assert stops(epoch, 0.0099 * left)
        assert not stops(epoch, 0.0101 * left)
        assert not stops(epoch, 0.0099 * left, worth=0.9)
    assert stops(6, 0.0), "nothing is no gain, whatever was promised"


@pytest.mark.parametrize(
    "options", [{"worth": 0.0}, {"chance": 1.0}, {"chance": -0.1}, {"startup": 0}, {"worth": float("nan")}]
)
def test_options_that_mean_nothing_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"worth is above 0, chance in \[0, 1\) and startup at least 1"):
        PredictedPruner(**options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="worth is above 0"):
        pruner({"kind": "predicted", **options})


def test_options_are_read_from_a_spec() -> None:
    assert pruner("predicted") == PredictedPruner(0.7, 0.05, 3)
    found = pruner({"kind": "predicted", "worth": 0.5, "startup": 8})
    assert found == PredictedPruner(0.5, 0.05, 8)
    assert found.to_dict() == {"kind": "predicted", "worth": 0.5, "chance": 0.05, "startup": 8}


def test_it_stops_trials_of_a_study_and_saves_epochs() -> None:
    study = PretendStudy(pruner=PredictedPruner())
    records = study.play(14)
    stopped = [r for r in records if r.state == "pruned"]
    assert stopped
    assert all(not r.preset and r.epochs < study.spec.task.recipe.epochs for r in stopped)
    assert all(r.state == "complete" for r in records[:3])


@pytest.mark.parametrize("names", [("latency", "parameters"), ("macro_f1", "latency"), ("accuracy",)], ids="-".join)
def test_studies_whose_quality_rungs_do_not_tell_are_not_pruned(names: tuple[str, ...]) -> None:
    """Latency is measured at the end only."""
    records = PretendStudy(pruner=PredictedPruner(), objectives=Objectives(names)).play(10)
    assert {r.state for r in records} <= {"complete", "pruned"}
    if names[0] == "latency":
        assert {r.state for r in records} == {"complete"}


def test_what_another_process_has_not_measured_yet_is_no_obstacle() -> None:
    waiting = replace(trial(5, 8, 0.8, "running", 1), rungs={}, measured={}, accuracy=None, values={"parameters": 1.0})
    assert prunes([*usual(), waiting], 20, 0.6)
