"""A study's storage as Optuna's samplers see it and fill it in: what they must not see is hidden, what is kept is true.

Rungs are kept as intermediate values too, for dashboards and plots. Samplers must not see them: in studies of several
objectives Optuna's TPE asks for the one direction of the study as soon as a pruned trial has any, and dies (Optuna 5.0,
its `_get_pruned_trial_score`). And parameters are kept as they are trained, to as many digits as a design has.
"""

import copy
from collections.abc import Container
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from utuning_search.designs.spaces.space import Space


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

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return _without_rungs(self._storage.get_trial(trial_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = self._storage.get_all_trials(study_id, deepcopy, states)
        return [_without_rungs(t) if deepcopy else self._shown(t) for t in trials]

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        chosen = self._space.trained(param_name, distribution.to_external_repr(param_value_internal))
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
