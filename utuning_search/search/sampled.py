"""A study's storage as Optuna's samplers see it and fill it in: what they must not see is hidden, what is kept is true.

Rungs are kept as intermediate values too, for dashboards and plots. Samplers must not see them: in studies of several
objectives Optuna's TPE asks for the one direction of the study as soon as a pruned trial has any, and dies (Optuna 5.0,
its `_get_pruned_trial_score`). And parameters are kept as they are trained, to as many digits as a design has.

A trial that is being chosen is a draft, in memory, and is written as a whole: a choice of thirty values is one write
instead of thirty, each of which waits for a disk or a server, and nobody ever sees half a trial.
"""

import copy
from collections.abc import Container, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from utuning_search.designs.spaces.space import Space

ENQUEUED = (TrialState.WAITING,)  # what Optuna asks for before it makes a trial
DRAFT = -1  # the id of a trial that is not written yet; Optuna's own for a trial outside of any storage
ARTIFACT = "artifacts:"  # begins Optuna's system attributes of files that were sent of a trial
FIXED = "fixed_params"  # Optuna's system attribute of a trial that is enqueued: values that no sampler chooses


class SampledStorage:
    """Everything of a storage, but for what the module says. It serves the trials of one study.

    Optuna asks nothing of a storage but its methods, so this one passes on all that it does not have itself, whatever
    a version of Optuna adds.

    Args:
        storage: What it stands before.
        space: Searched by the study.
    """

    def __init__(self, storage: BaseStorage, space: Space) -> None:
        self._storage, self._space = storage, space
        self._finished: dict[int, FrozenTrial] = {}  # without their rungs, by number: they change no more
        self._draft: FrozenTrial | None = None
        self._waiting = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def ask(
        self,
        study: optuna.Study,
        number: int,
        fixed: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        noted: Mapping[str, Any] | None = None,
        *,
        waiting: bool = True,
    ) -> Trial:
        """The next trial: one that was enqueued, or else a draft, which `write` writes.

        Args:
            study: Of this storage.
            number: How many trials there are.
            fixed: Values of a draft that its sampler does not choose.
            attributes: User attributes of a draft.
            noted: System attributes of a draft.
            waiting: Whether any trial may be enqueued; else Optuna, which asks each time, is spared the look at all.
        """
        system = {**(noted or {}), **({} if fixed is None else {FIXED: dict(fixed)})}
        self._draft = optuna.trial.create_trial(
            state=TrialState.RUNNING, user_attrs=dict(attributes or {}), system_attrs=system
        )
        self._draft.number, self._waiting = number, waiting
        try:
            return study.ask()
        finally:
            self._waiting = True

    def noted(self, study: optuna.Study, number: int) -> dict[str, Any]:
        """What a sampler noted of a trial, such as its generation."""
        trial = self._storage.get_trial(self._storage.get_trial_id_from_study_id_trial_number(study._study_id, number))
        return {name: value for name, value in trial.system_attrs.items() if not name.startswith((FIXED, ARTIFACT))}

    def write(self, trial: Trial) -> Trial:
        """A trial of `ask` as it is in the storage, written as a whole if it was a draft."""
        if trial._trial_id != DRAFT:
            return trial
        study = trial.study
        study.sampler = optuna.samplers.RandomSampler()  # it is not asked any more, nor told of a second beginning
        number = self._storage.create_new_trial(study._study_id, self._get_draft())
        self._draft = None
        return Trial(study, number)

    def _get_draft(self) -> FrozenTrial:
        if self._draft is None:
            raise KeyError("no trial is being chosen")
        return self._draft

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        if template_trial is not None or self._draft is None:
            return self._storage.create_new_trial(study_id, template_trial)
        return DRAFT

    def get_trial(self, trial_id: int) -> FrozenTrial:
        if trial_id == DRAFT:
            return copy.deepcopy(self._get_draft())
        return _without_rungs(self._storage.get_trial(trial_id))

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        return self.get_trial(trial_id).system_attrs

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id == DRAFT:
            self._get_draft().user_attrs[key] = value
        else:
            self._storage.set_trial_user_attr(trial_id, key, value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id == DRAFT:
            self._get_draft().system_attrs[key] = value
        else:
            self._storage.set_trial_system_attr(trial_id, key, value)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if states == ENQUEUED and not self._waiting:
            return []
        trials = self._storage.get_all_trials(study_id, deepcopy, states)
        return [_without_rungs(t) if deepcopy else self._shown(t) for t in trials]

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        chosen = self._space.trained(param_name, distribution.to_external_repr(param_value_internal))
        if trial_id == DRAFT:
            self._get_draft().distributions[param_name] = distribution
            self._get_draft().params[param_name] = chosen
        else:
            internal = distribution.to_internal_repr(chosen)
            self._storage.set_trial_param(trial_id, param_name, internal, distribution)

    def _shown(self, trial: FrozenTrial) -> FrozenTrial:
        if not trial.intermediate_values or not trial.state.is_finished():
            return _without_rungs(trial)
        if trial.number not in self._finished:
            self._finished[trial.number] = _without_rungs(trial)
        return self._finished[trial.number]


def _without_rungs(trial: FrozenTrial) -> FrozenTrial:
    """The trial itself where it has none, else a shallow copy."""
    if not trial.intermediate_values:
        return trial
    shown = copy.copy(trial)
    shown.intermediate_values = {}
    return shown
