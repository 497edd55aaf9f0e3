"""What a logger is: a callback that writes to a place, each rung, trial and final once, however often a study goes on.

To add one, extend `Logger` and name the class as an entry point of the group `utuning_search.loggers`; then
`run --log KIND=PLACE` makes it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from utuning_search.designs.spaces.domains import Value
from utuning_search.search.callbacks.base import Callback, FinalRecord, Started
from utuning_search.search.trials import TrialRecord


class Logger(Callback, ABC):
    """Writes what it is told to a place. What was there before a run, and is not in that place yet, is written first.

    What is written of a trial is known by the study's name and the trial's number, of a final by `final_name`, of a
    fresh training by `fresh_name`.

    Args:
        place: Where to, as in `--log KIND=PLACE`; empty where nobody said.

    Attributes:
        kind: Its name on the command line.
        summary: Where it writes, in one line.
    """

    kind: ClassVar[str]
    summary: ClassVar[str]

    def __init__(self, place: str) -> None:
        self.place = place
        self.started: Started | None = None

    def __str__(self) -> str:
        return f"--log {self.kind}"

    def on_start(self, started: Started) -> None:
        self.started = started
        self.open(started.study)
        for record in started.records:
            if record.settled:
                self.on_trial(record)
        for final in started.finals:
            self.on_final(final)
        for fresh in started.remeasured:
            self.on_remeasured(fresh)

    @abstractmethod
    def open(self, study: str) -> None:
        """Look what the place holds of a study."""

    def chosen(self, trial: TrialRecord) -> dict[str, Value]:
        """What a trial is told apart by: values of the space's variables, and what else designs differ in."""
        table: dict[str, Value] = {"key": trial.key, "preset": trial.preset}
        if trial.design is not None:
            found: Mapping[str, Value] = (self.started and self.started.choices(trial.design)) or {}
            rate = trial.design.learning_rate
            table |= {"design": str(trial.design), **({} if rate is None else {"learning_rate": rate}), **found}
        return table


def reached(trial: TrialRecord) -> dict[str, float]:
    """The objectives of a settled trial that its last rung does not say: the exact ones, and those of its end."""
    last = trial.measured[max(trial.measured)] if trial.measured else {}
    return {name: value for name, value in trial.values.items() if name not in last}


def final_name(final: FinalRecord) -> str:
    """What a final is known by, among those of its study."""
    return f"final {final.key} {final.epochs} epochs{'' if final.augmented else ' plain'} seed {final.seed}"


def fresh_name(fresh: FinalRecord) -> str:
    """What a fresh training on the search's own split is known by, likewise."""
    return f"fresh {fresh.key} {fresh.epochs} epochs seed {fresh.seed}"
