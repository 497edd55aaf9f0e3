"""What a pruner is: whether a trial goes on at a rung.

To add one, extend `Pruner` as a frozen dataclass whose fields are its options, each with a default, and name the class
as an entry point of the group `utuning_search.pruners`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from utuning_search.search.history import Peers
from utuning_search.search.objectives.base import Setting
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.trials import TrialRecord
from utuning_search.training.recipe import Recipe


@dataclass(frozen=True)
class Rung:
    """A trial at a rung, and what it can be compared with.

    Attributes:
        epoch: After which it was measured.
        number: The trial's.
        measured: What was measured of the trial by name, at this rung and at those before it, by epoch.
        own: The trial itself, as one row.
        peers: The other trials at this rung, pruned and running ones among them.
        history: All trials by number, this one included.
        objectives: Of the study.
        setting: Of the backbone and the task.
        recipe: Of the task.
        validation: Images that quality is measured on.
    """

    epoch: int
    number: int
    measured: Mapping[int, Mapping[str, float]]
    own: Peers
    peers: Peers
    history: Sequence[TrialRecord]
    objectives: Objectives
    setting: Setting
    recipe: Recipe
    validation: int


@dataclass(frozen=True)
class Pruner(ABC):
    """Decides at rungs. The decision is a function of the rung and the options: it keeps nothing between two calls.

    Known methods are never asked for, nor is the last epoch.

    Attributes:
        kind: Its name in specs and on the command line.
        summary: What it prunes, in one line.
    """

    kind: ClassVar[str]
    summary: ClassVar[str]

    @abstractmethod
    def prunes(self, rung: Rung) -> bool:
        """Whether the trial stops here."""

    def to_dict(self) -> dict[str, Any]:
        """Kind and options, as in a spec."""
        return {"kind": self.kind, **asdict(self)}
