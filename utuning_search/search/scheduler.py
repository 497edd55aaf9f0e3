"""Ask, evaluate, tell: which design is trained next, whether it goes on at a rung, and what is kept of it.

The next trial is a function of (spec, history): trials are numbered by an index of their own that interrupted
trials give back, and every random choice is seeded by it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import optuna
from optuna.storages import BaseStorage
from optuna.trial import Trial, TrialState

from utuning_search.common.seeds import derive_seed
from utuning_search.designs.design import Design
from utuning_search.designs.spaces.domains import Suggester
from utuning_search.search.pruning import Peer
from utuning_search.search.sampling import make_sampler
from utuning_search.search.spec import StudySpec
from utuning_search.search.trials import OVERSIZED, RUNG, TrialRecord, read_trial
from utuning_search.training.pool import Job
from utuning_search.training.proxy import Report, Result
from utuning_search.tuners import BackboneShape

MOST_LOSSES = 2  # workers that one design may take down before it counts as failed


@dataclass
class Running:
    """A trial on its way: what is trained, and how far it is."""

    trial: Trial
    design: Design
    parameters: int
    preset: str
    seed: int
    epoch: int = 0
    accuracy: float | None = None
    accumulation: int = 1

    @property
    def job(self) -> Job:
        return Job(self.design, self.seed)


class Scheduler:
    """Decides for one study. It neither trains nor waits.

    Args:
        study: The Optuna study.
        storage: Its storage.
        spec: What decides its trials.
        shape: Of the backbone.
        num_classes: Of the task.
        owner: Marks the trials that this study folder started.
        keep_weights: Called with a trial's number and its weights before it is told as complete.
    """

    def __init__(
        self,
        study: optuna.Study,
        storage: BaseStorage,
        spec: StudySpec,
        shape: BackboneShape,
        num_classes: int,
        owner: str,
        keep_weights: Callable[[int, bytes], None],
    ) -> None:
        self._study, self._storage, self.spec = study, storage, spec
        self._shape, self._num_classes = shape, num_classes
        self._owner, self._keep_weights = owner, keep_weights
        self._presets = spec.preset_designs(shape.depth)

    def records(self) -> list[TrialRecord]:
        """All trials, in Optuna's order."""
        return [read_trial(t, self.spec.task.recipe.batch_size) for t in self._study.get_trials(deepcopy=False)]

    def reap(self) -> int:
        """Mark trials that this folder started and never finished as interrupted; how many there were."""
        mine = [
            t
            for t in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if t.user_attrs.get("owner", self._owner) == self._owner
        ]
        for trial in mine:
            self._interrupt(trial.number)
        return len(mine)

    def ask(self) -> Running:
        """The next trial, sampled, sized and recorded; `settle_duplicate` says whether to train it."""
        index = self._free_index()
        self._study.sampler = make_sampler(self.spec.sampler, self.spec.seed, index)
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if index < len(self._presets) and not waiting:
            name = list(self._presets)[index]
            params = self.spec.space.params_of(self._presets[name], self._shape.depth)
            self._study.enqueue_trial(params or {}, user_attrs={"preset": name})
        trial = self._study.ask()
        recipe = self.spec.task.recipe
        preset = trial.user_attrs.get("preset", "")
        if preset and not self.spec.space.contains(self._presets[preset], self._shape.depth):
            design = self._presets[preset]  # it has no values of search variables, so samplers learn nothing from it
        else:
            design = self.spec.space.suggest(cast(Suggester, trial), self._shape.depth, recipe.learning_rate)
        parameters = design.num_parameters(self._shape, self._num_classes)
        attributes = {"owner": self._owner, "key": design.key, "design": design.to_dict(), "parameters": parameters}
        for name, value in {**attributes, "index": index}.items():
            trial.set_user_attr(name, value)
        seed = derive_seed(self.spec.seed, f"training {design.key}")
        return Running(trial, design, parameters, preset, seed)

    def refuse_oversized(self, running: Running) -> bool:
        """Close a trial whose design is larger than the study allows; whether it was.

        Samplers see a pruned trial without a value, and so learn to propose smaller ones.
        """
        limit = self.spec.max_parameters
        if not limit or running.parameters <= limit:
            return False
        running.trial.set_user_attr("reason", f"more than {limit:,} parameters")
        running.trial.set_user_attr(OVERSIZED, True)
        self._tell(running.trial.number, None, TrialState.PRUNED)
        return True

    def settle_duplicate(self, running: Running) -> bool | None:
        """Reuse the outcome of an equal design.

        Returns:
            True if the trial is settled by it, None if an equal one is still being trained, False if this is
            the first of its kind and has to be trained.
        """
        earlier = [r for r in self.records() if r.key == running.design.key and r.number < running.trial.number]
        for record in earlier:
            if record.settled and record.reused is None:
                self._reuse(running, record)
                return True
        return None if any(r.state == "running" for r in earlier) else False

    def rung(self, running: Running, report: Report) -> bool:
        """Keep a report; whether the trial goes on. A pruned trial is told as such here."""
        running.epoch, running.accuracy, running.accumulation = report.epoch, report.accuracy, report.accumulation
        running.trial.set_user_attr(f"{RUNG}{report.epoch}", report.accuracy)
        last = report.epoch >= self.spec.task.recipe.epochs
        # Known methods are what a front is read against, so they are always measured in full.
        if last or running.preset or self.spec.pruner is None:
            return True
        peers = [
            Peer(r.rungs[report.epoch], r.parameters)
            for r in self.records()
            if report.epoch in r.rungs
            and r.number != running.trial.number
            and r.reused is None
            and r.state != "interrupted"
        ]
        return not self.spec.pruner.prunes(report.accuracy, running.parameters, peers)

    def pruned(self, running: Running, seconds: float) -> None:
        self._close(running, seconds)
        self._tell(running.trial.number, None, TrialState.PRUNED)

    def done(self, running: Running, result: Result) -> None:
        """Keep a finished trial: weights first, so that whatever is told as complete can be exported."""
        self._keep_weights(running.trial.number, result.weights)
        running.accuracy, running.accumulation = result.accuracy, result.accumulation
        self._close(running, result.seconds)
        self._tell(running.trial.number, [result.accuracy, float(running.parameters)], TrialState.COMPLETE)

    def failed(self, running: Running, reason: str, seconds: float) -> None:
        """Keep why a trial has no result; the study goes on."""
        running.trial.set_user_attr("reason", reason)
        self._close(running, seconds)
        self._tell(running.trial.number, None, TrialState.FAIL)

    def lost(self, running: Running, reason: str, seconds: float) -> None:
        """A worker died: the design is tried again, unless it took workers down before."""
        before = sum(
            r.key == running.design.key and r.state == "interrupted" and bool(r.reason) for r in self.records()
        )
        if before + 1 >= MOST_LOSSES:
            self.failed(running, reason, seconds)
        else:
            running.trial.set_user_attr("reason", reason)
            self._interrupt(running.trial.number)

    def _reuse(self, running: Running, record: TrialRecord) -> None:
        trial = running.trial
        trial.set_user_attr("reused", record.number)
        for epoch, accuracy in record.rungs.items():
            trial.set_user_attr(f"{RUNG}{epoch}", accuracy)
        if record.accumulation > 1:
            trial.set_user_attr("accumulation", record.accumulation)
        if record.state == "complete":
            values = [record.accuracy or 0.0, float(record.parameters)]
            self._tell(trial.number, values, TrialState.COMPLETE)
        elif record.state == "pruned":
            self._tell(trial.number, None, TrialState.PRUNED)
        else:
            trial.set_user_attr("reason", record.reason)
            self._tell(trial.number, None, TrialState.FAIL)

    def _close(self, running: Running, seconds: float) -> None:
        running.trial.set_user_attr("epochs", running.epoch)
        running.trial.set_user_attr("seconds", seconds)
        if running.accumulation > 1:
            running.trial.set_user_attr("accumulation", running.accumulation)

    def _tell(self, number: int, values: list[float] | None, state: TrialState) -> None:
        try:
            self._study.tell(number, values, state=state)
        except ValueError as error:
            # Another process closed the trial (a reaper): what is stored stands.
            if "finished" not in str(error).lower() and "running" not in str(error).lower():
                raise

    def _interrupt(self, number: int) -> None:
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, number)
        self._storage.set_trial_user_attr(trial_id, "interrupted", True)
        self._tell(number, None, TrialState.FAIL)

    def _free_index(self) -> int:
        trials = self._study.get_trials(deepcopy=False)
        taken = {t.user_attrs["index"] for t in trials if "index" in t.user_attrs and "interrupted" not in t.user_attrs}
        return next(i for i in range(len(taken) + 1) if i not in taken)
