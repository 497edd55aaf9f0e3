"""Optuna's pruners, on the first measured objective alone; a door to optuna.

Optuna refuses reports in studies of several objectives, so the history is told to a study of one in memory, trial by
trial and rung by rung, and its pruner is asked there.
"""

import warnings
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import optuna
from optuna.trial import TrialState

from utuning_search.common.errors import InputError
from utuning_search.search.pruners.base import Pruner, Rung
from utuning_search.search.trials import TrialRecord


@dataclass(frozen=True)
class OptunaPruner(Pruner):
    """A pruner of Optuna's. It does not see what a design costs, so it prunes small ones as readily as large ones."""

    @abstractmethod
    def make(self) -> optuna.pruners.BasePruner:
        """A fresh one of Optuna's."""

    def prunes(self, rung: Rung) -> bool:
        name, direction = rung.objectives.quality.name, rung.objectives.quality.direction
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(direction=direction, pruner=self.make())
        for record in rung.history:
            if record.number != rung.number and record.reused is None and record.state in ("complete", "pruned"):
                self._tell(study, record, name)
        trial = study.ask()
        stops = False
        for epoch in sorted(rung.measured):
            if name in rung.measured[epoch]:
                trial.report(rung.measured[epoch][name], epoch)
                stops = trial.should_prune()  # at each rung: successive halving promotes step by step
        return stops

    def _tell(self, study: optuna.Study, record: TrialRecord, name: str) -> None:
        trial = study.ask()
        for epoch in sorted(record.measured):
            if name in record.measured[epoch]:
                trial.report(record.measured[epoch][name], epoch)
                trial.should_prune()
        if record.state == "complete" and name in record.values:
            study.tell(trial, record.values[name])
        else:
            study.tell(trial, state=TrialState.PRUNED)


@dataclass(frozen=True)
class MedianPruner(OptunaPruner):
    """Prune below the median of the trials so far at the same rung.

    Attributes:
        startup: Trials that are never pruned.
    """

    startup: int = 5

    kind: ClassVar[str] = "median"
    summary: ClassVar[str] = "Optuna's MedianPruner on the first measured objective"

    def __post_init__(self) -> None:
        if self.startup < 0:
            raise InputError("pruner", "startup is at least 0", self.startup)

    def make(self) -> optuna.pruners.BasePruner:
        return optuna.pruners.MedianPruner(n_startup_trials=self.startup)


@dataclass(frozen=True)
class HalvingPruner(OptunaPruner):
    """Asynchronous successive halving (ASHA): at each rung the best 1 / `factor` go on.

    Attributes:
        factor: At least 2.
    """

    factor: int = 3

    kind: ClassVar[str] = "asha"
    summary: ClassVar[str] = "Optuna's SuccessiveHalvingPruner on the first measured objective"

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise InputError("pruner", "factor is at least 2", self.factor)

    def make(self) -> optuna.pruners.BasePruner:
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=self.factor)
