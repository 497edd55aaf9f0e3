"""Pruning by what the end will be: a trial stops once a new one promises more for the epochs that are left."""

from dataclasses import dataclass
from typing import ClassVar

from utuning_search.common.errors import InputError
from utuning_search.search.pruners.base import Pruner, Rung
from utuning_search.search.surrogate.acquisition import chance_above
from utuning_search.search.surrogate.knowledge import Circumstances, Knowledge
from utuning_search.search.surrogate.threads import one_thread


@dataclass(frozen=True)
class PredictedPruner(Pruner):
    """Prune where the epochs that are left would be spent better on another trial.

    What the end will be is predicted from the rung and from designs like it; see `surrogate/`. A trial was begun for
    its expected gain of hypervolume over all of its epochs, and so will the next be; it goes on as long as it gains
    more of that an epoch, now that its rung is known and some epochs are paid for. So a rung that says little stops
    little, at whatever share of the epochs it comes.

    Attributes:
        worth: The least gain an epoch that goes on, of what the design promised before its first rung; above 0.
        chance: The least chance to end above the front, at the trial's exact size, that goes on; in [0, 1).
        startup: Complete trials before which nothing is pruned.
    """

    worth: float = 0.7
    chance: float = 0.05
    startup: int = 3

    kind: ClassVar[str] = "predicted"
    summary: ClassVar[str] = "stops where a new trial promises more gain of hypervolume for the epochs left"

    def __post_init__(self) -> None:
        if not self.worth > 0 or not 0 <= self.chance < 1 or self.startup < 1:
            got = f"{self.worth}, {self.chance} and {self.startup}"
            raise InputError("pruner", "worth is above 0, chance in [0, 1) and startup at least 1", got)

    @one_thread()
    def prunes(self, rung: Rung) -> bool:
        own = rung.history[rung.number]
        complete = sum(r.state == "complete" and r.reused is None for r in rung.history)
        seen = any(rung.objectives.quality.name in values for values in rung.measured.values())
        if own.design is None or complete < self.startup or not seen:
            return False
        given = Circumstances(rung.objectives, rung.setting, rung.recipe, rung.validation)
        found = Knowledge(rung.history, given).prospects(rung.number)
        if chance_above(found.mean, found.sd, found.height) < self.chance:
            return True
        left = (rung.recipe.epochs - rung.epoch) / rung.recipe.epochs
        return found.gain <= self.worth * left * found.promised
