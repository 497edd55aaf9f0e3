"""What a callback is: it is told of rungs, trials and finals while they come.

All is called in the process that runs the study, never in a worker. What a callback raises is said in one line, and the
run goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from utuning_search.designs.design import Design
from utuning_search.designs.spaces.domains import Value
from utuning_search.search.trials import TrialRecord


@dataclass(frozen=True)
class FinalRecord:
    """One training of a finalist: a final, on all training images, measured on the test split; or a fresh one.

    A fresh training (`on_remeasured`) is one as the search's was, measured on its validation split.

    Attributes:
        name: Of the finalist: the known method it is, or its trial, or its key.
        key: The design's.
        design: What was trained.
        trial: Number of the search's trial, or None.
        seed: From 0.
        epochs: Of the schedule.
        augmented: Whether training images were changed at random.
        parameters: Trainable, head included.
        values: On that split by name, such as accuracy in [0, 1]; empty where the training failed.
        reason: Why it failed, or that memory was short; or empty.
    """

    name: str
    key: str
    design: Design
    trial: int | None
    seed: int
    epochs: int
    augmented: bool
    parameters: int
    values: Mapping[str, float]
    reason: str = ""


@dataclass(frozen=True)
class Started:
    """A run or a confirmation that begins, and what was there before it.

    Attributes:
        study: What it is called; where `recommend` made it, as the folder that it writes to.
        records: All trials so far, by number.
        finals: Earlier trainings of the finalists that are confirmed now.
        choices: Values of the space's search variables that give a design; None where the space does not hold it.
        remeasured: Earlier fresh trainings of the finalists that are measured again now.
    """

    study: str
    records: Sequence[TrialRecord]
    finals: Sequence[FinalRecord]
    choices: Callable[[Design], Mapping[str, Value] | None]
    remeasured: Sequence[FinalRecord] = ()


class Callback:
    """Does nothing at any event; extend it and say what to do at those that matter."""

    def on_start(self, started: Started) -> None:
        """A run or a confirmation begins. Where this raises, nothing else is told."""

    def on_rung(self, trial: TrialRecord, epoch: int) -> None:
        """A trial was measured after an epoch, which `trial.measured[epoch]` holds; also after the last one."""

    def on_trial(self, trial: TrialRecord) -> None:
        """A trial is settled: complete, pruned or failed, by its own training or by an equal design's values.

        It is in the storage by now, so nothing that goes wrong here loses it. Trials that are given back have no end.
        """

    def on_final(self, final: FinalRecord) -> None:
        """A training of a finalist is over, and kept."""

    def on_remeasured(self, fresh: FinalRecord) -> None:
        """A fresh training of a finalist on the search's own split is over, and kept; see `results.remeasure`."""

    def on_end(self) -> None:
        """The run or the confirmation ends, however it does."""
