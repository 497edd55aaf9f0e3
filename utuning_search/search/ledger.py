"""What is written of trials into the storage, and how one is closed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import Trial, TrialState

from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.running import Running
from utuning_search.search.trials import TrialRecord, rung_attributes


class Ledger:
    """Writes for one study.

    Args:
        study: As the scheduler sees it, which asks it for trials and tells it of them.
        storage: The study's own.
        objectives: What its front weighs.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage, objectives: Objectives) -> None:
        self._study, self._storage, self._objectives = study, storage, objectives
        self.study_id = storage.get_study_id_from_name(study.study_name)

    def reuse(self, running: Running, record: TrialRecord) -> None:
        """Settle a trial by what an equal design, settled before, was measured at and how it ended."""
        trial = running.trial
        trial.set_user_attr("reused", record.number)
        for epoch, values in record.measured.items():
            self.rung(trial, epoch, values)
        if record.accumulation > 1:
            trial.set_user_attr("accumulation", record.accumulation)
        if record.state == "complete":
            names = self._objectives.names
            if record.accuracy is not None and "accuracy" not in names:
                trial.set_user_attr("final", {"accuracy": record.accuracy})
            self.tell(trial.number, [record.values[name] for name in names], TrialState.COMPLETE)
        elif record.state == "pruned":
            self.tell(trial.number, None, TrialState.PRUNED)
        else:
            trial.set_user_attr("reason", record.reason)
            self.tell(trial.number, None, TrialState.FAIL)

    def rung(self, trial: Trial, epoch: int, values: Mapping[str, float]) -> None:
        """Keep what was measured at a rung."""
        for name, value in rung_attributes(epoch, values).items():
            trial.set_user_attr(name, value)
        shown = values.get(self._objectives.quality.name, values.get("accuracy"))
        if shown is not None:  # for Optuna's dashboard and plots; nothing here reads it
            self._storage.set_trial_intermediate_value(self.trial_id(trial.number), epoch, shown)

    def close(self, running: Running, seconds: float) -> None:
        """Keep how far a trial came, in how many seconds; to be called before it is told."""
        running.trial.set_user_attr("epochs", running.epoch)
        running.trial.set_user_attr("seconds", seconds)
        if running.accumulation > 1:
            running.trial.set_user_attr("accumulation", running.accumulation)

    def tell(self, number: int, values: list[float] | None, state: TrialState) -> None:
        """End a trial; one that another process ended stays as it is."""
        try:
            self._study.tell(number, values, state=state)
        except UpdateFinishedTrialError:  # the same, or it was told already before a connection was lost
            pass
        except ValueError as error:
            # Another process closed the trial (a reaper): what is stored stands.
            if "finished" not in str(error).lower() and "running" not in str(error).lower():
                raise

    def interrupt(self, number: int) -> None:
        """Give a trial back, so that its design may be tried again."""
        with suppress(UpdateFinishedTrialError):  # another process was faster
            self._storage.set_trial_user_attr(self.trial_id(number), "interrupted", True)
            self.tell(number, None, TrialState.FAIL)

    @contextmanager
    def open(self, running: Running) -> Iterator[bool]:
        """Whether a trial is still ours to write to, while it is entered.

        If not, another process took this one for dead and gave its trial back: that one's outcome will count. What is
        written after that is refused, and the rest of what was to be written is left out.
        """
        with suppress(UpdateFinishedTrialError):
            yield not self._storage.get_trial(self.trial_id(running.number)).state.is_finished()

    def trial_id(self, number: int) -> int:
        """Of a trial's number, in the storage."""
        return self._storage.get_trial_id_from_study_id_trial_number(self.study_id, number)
