"""The contract of pruners."""

import pickle
import re

import numpy as np

from utuning_search.common.configured import from_table
from utuning_search.designs.design import Design
from utuning_search.search.history import Peers
from utuning_search.search.objectives.registry import USUAL, Objectives
from utuning_search.search.pruners.base import Pruner, Rung
from utuning_search.search.trials import TrialRecord
from utuning_search.testing.pretend import SETTING, PretendStudy
from utuning_search.testing.samplers import played

TRIALS = 24
PARAMETERS = {"parameters": 10_000.0}
STUDIES = (USUAL, Objectives(("accuracy", "macro_f1", "parameters")), Objectives(("balanced_accuracy",)))


class PrunerContract:
    """Inherit it in a test module and set `pruner`:

    class TestMine(PrunerContract):
        pruner = MyPruner()
    """

    pruner: Pruner

    def test_it_has_a_name_and_says_what_it_does(self) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9_-]*", self.pruner.kind)
        assert self.pruner.summary

    def test_every_option_has_a_default(self) -> None:
        assert type(self.pruner)() is not None

    def test_it_survives_its_table_and_a_process(self) -> None:
        known = {self.pruner.kind: type(self.pruner)}
        assert from_table(known, self.pruner.to_dict(), "spec", "pruner") == self.pruner
        assert pickle.loads(pickle.dumps(self.pruner)) == self.pruner

    def test_the_first_trial_goes_on(self) -> None:
        """There is nothing that it could be compared with."""
        assert not self.pruner.prunes(rung_of(0.01))

    def test_a_decision_is_a_function_of_the_rung(self) -> None:
        for accuracy in (0.1, 0.6, 0.99):
            rung = rung_of(accuracy, played_by=self.pruner)
            before = played(list(rung.history))
            decision = self.pruner.prunes(rung)
            self.pruner.prunes(rung_of(0.5, played_by=self.pruner))  # nothing of it is kept
            assert self.pruner.prunes(rung) is decision
            assert played(list(rung.history)) == before

    def test_studies_of_any_objectives_come_to_their_end(self) -> None:
        for objectives in STUDIES:
            records = PretendStudy(pruner=self.pruner, objectives=objectives).play(TRIALS)
            assert {r.state for r in records} <= {"complete", "pruned"}
            assert all(r.state == "complete" for r in records if r.preset), "known methods are measured in full"
            assert any(r.state == "complete" and not r.preset for r in records), "it prunes everything"

    def test_a_study_plays_the_same_twice(self) -> None:
        once, again = (PretendStudy(pruner=self.pruner).play(TRIALS) for _ in range(2))
        assert played(once) == played(again)


def rung_of(accuracy: float, *, played_by: Pruner | None = None) -> Rung:
    """A trial of 10,000 parameters at the first rung, after no other trial or after those of a study."""
    study = PretendStudy() if played_by is None else PretendStudy(pruner=played_by)
    epoch = study.spec.task.recipe.rungs[0]
    history = [] if played_by is None else study.play(TRIALS)
    peers = study.scheduler.history.peers(epoch, but=len(history))
    own = Peers(*(np.array([row]) for row in study.scheduler.history.gains({"accuracy": accuracy}, PARAMETERS)))
    measured = {epoch: {"accuracy": accuracy}}
    design = Design(learning_rate=0.004)
    trial = TrialRecord(
        number=len(history),
        state="running",
        key=design.key,
        design=design,
        preset="",
        parameters=int(PARAMETERS["parameters"]),
        accuracy=accuracy,
        epochs=0,
        seconds=0.0,
        rungs={epoch: accuracy},
        reused=None,
        reason="",
        measured=measured,
    )
    spec = study.spec
    return Rung(
        epoch=epoch,
        number=trial.number,
        measured=measured,
        own=own,
        peers=peers,
        history=(*history, trial),
        objectives=USUAL,
        setting=SETTING,
        recipe=spec.task.recipe,
        validation=spec.task.data.validation,
    )
