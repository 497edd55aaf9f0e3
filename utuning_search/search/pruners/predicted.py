"""Pruning by what the end will be: a trial stops once it has little chance left to reach the front."""

from dataclasses import dataclass
from typing import ClassVar

from utuning_search.common.errors import InputError
from utuning_search.search.pruners.base import Pruner, Rung
from utuning_search.search.surrogate.acquisition import chance_above
from utuning_search.search.surrogate.knowledge import Circumstances, Knowledge
from utuning_search.search.surrogate.threads import one_thread


@dataclass(frozen=True)
class PredictedPruner(Pruner):
    """Prune where the chance to end above the front, at the trial's exact size, is small.

    What the end will be is predicted from the rung and from designs like it; see `surrogate/`.

    Attributes:
        chance: The least that goes on, in (0, 1).
        startup: Complete trials before which nothing is pruned.
    """

    chance: float = 0.3
    startup: int = 3

    kind: ClassVar[str] = "predicted"
    summary: ClassVar[str] = "stops where the predicted end has little chance to reach the front"

    def __post_init__(self) -> None:
        if not 0 < self.chance < 1 or self.startup < 1:
            got = f"{self.chance} and {self.startup}"
            raise InputError("pruner", "chance is in (0, 1) and startup at least 1", got)

    @one_thread()
    def prunes(self, rung: Rung) -> bool:
        own = rung.history[rung.number]
        complete = sum(r.state == "complete" and r.reused is None for r in rung.history)
        seen = any(rung.objectives.quality.name in values for values in rung.measured.values())
        if own.design is None or complete < self.startup or not seen:
            return False
        given = Circumstances(rung.objectives, rung.setting, rung.recipe, rung.validation)
        mean, sd, height = Knowledge(rung.history, given).prospects(rung.number)
        return chance_above(mean, sd, height) < self.chance
