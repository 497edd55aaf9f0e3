"""No pruning."""

from dataclasses import dataclass
from typing import ClassVar

from utuning_search.search.pruners.base import Pruner, Rung


@dataclass(frozen=True)
class NoPruner(Pruner):
    """Train every trial to its last epoch."""

    kind: ClassVar[str] = "none"
    summary: ClassVar[str] = "trains every trial to its last epoch"

    def prunes(self, rung: Rung) -> bool:
        del rung
        return False
