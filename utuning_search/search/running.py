"""A trial on its way, and what can happen to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from optuna.trial import Trial

from utuning_search.designs.design import Design
from utuning_search.training.pool import Job


class Next(Enum):
    """What happens to a trial that was asked for."""

    TRAIN = "train"
    WAIT = "wait"  # an equal design is in training: ask again with `decide` once it is settled
    REUSED = "reused"  # settled by the values of an equal design
    TOO_LARGE = "too large"  # closed untrained; it does not count
    GONE = "gone"  # another process took this one for dead and gave the trial back


@dataclass
class Running:
    """A trial on its way: what is trained, and how far it is.

    Attributes:
        trial: Optuna's.
        design: Resolved for the backbone.
        parameters: Trainable, head included.
        exact: The exact objectives by name.
        preset: Name of the known method it is, or empty.
        seed: Of its training.
        epoch, values: The last rung, and what was measured there by name.
        measured: The same of all rungs so far, by epoch.
        accumulation: In how many parts a batch was taken.
        seconds: Trained by an earlier trial, of whose checkpoint it goes on.
        begun: File of that checkpoint.
    """

    trial: Trial
    design: Design
    parameters: int
    exact: Mapping[str, float]
    preset: str
    seed: int
    epoch: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    measured: dict[int, Mapping[str, float]] = field(default_factory=dict)
    accumulation: int = 1
    seconds: float = 0.0
    begun: Path | None = None

    @property
    def number(self) -> int:
        return self.trial.number

    @property
    def accuracy(self) -> float | None:
        """On validation at the last rung, in [0, 1]; None before the first."""
        return self.values.get("accuracy")

    @property
    def job(self) -> Job:
        return Job(self.design, self.seed, self.begun)
