"""What a sampler is: which design is tried next.

To add one, extend `Sampler` as a frozen dataclass whose fields are its options, each with a default, and name the class
as an entry point of the group `utuning_search.samplers`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from utuning_search.designs.design import Design
from utuning_search.designs.spaces.space import Space
from utuning_search.search.objectives.base import Setting
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.trials import TrialRecord
from utuning_search.training.recipe import Recipe


@dataclass(frozen=True)
class Request:
    """Everything that a proposal is a function of.

    Attributes:
        space: What is searched.
        objectives: What a front weighs.
        setting: Of the backbone and the task; `setting.shape.depth` is the number of blocks to resolve designs for.
        recipe: Of the task: its learning rate, where the space has no rates of its own, and its epochs.
        validation: Images that quality is measured on.
        seed: Of this proposal, in [0, 2^31): another for each.
        history: All trials by number, with those that are still running.
        limits: The largest value of exact objectives by name that is trained; what is larger is refused.
        suggest: Lets an `optuna.samplers.BaseSampler` choose each of the space's variables, and gives the design.
    """

    space: Space
    objectives: Objectives
    setting: Setting
    recipe: Recipe
    validation: int
    seed: int
    history: Sequence[TrialRecord]
    limits: Mapping[str, float]
    suggest: Callable[[Any], Design]


@dataclass(frozen=True)
class Sampler(ABC):
    """Proposes designs. A proposal is a function of the request and the options: it keeps nothing between two calls,
    so that a study that was stopped goes on as if it had not been.

    Attributes:
        kind: Its name in specs and on the command line.
        summary: What it does, in one line.
    """

    kind: ClassVar[str]
    summary: ClassVar[str]

    @abstractmethod
    def propose(self, request: Request) -> Design:
        """The next design, resolved for the backbone's depth. It need not lie in the space.

        What was tried before may be proposed again: it is not trained again, but its values are reused.
        """

    def backend(self, seed: int) -> Any:
        """The `optuna.samplers.BaseSampler` that is told of known methods and of trials that were enqueued.

        It fills in what they leave open. None where there is none.
        """
        del seed
        return None

    @classmethod
    def for_budget(cls, trials: int | None) -> "Sampler":
        """The sampler with options that fit a study of so many trials; None where nobody knows."""
        del trials
        return cls()

    def to_raw(self) -> object:
        """As in a spec: its kind, or a table of kind and the options that are not at their default."""
        defaults = {f.name: f.default for f in fields(self)}
        options: dict[str, Any] = {k: v for k, v in asdict(self).items() if v != defaults[k]}
        return {"kind": self.kind, **options} if options else self.kind
