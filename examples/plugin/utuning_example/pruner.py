"""Stop what is far behind: a trial that is more than a margin below the best one at the same rung."""

from dataclasses import dataclass
from typing import ClassVar

from utuning_search.common.errors import InputError
from utuning_search.search.pruners.base import Pruner, Rung


@dataclass(frozen=True)
class MarginPruner(Pruner):
    """Attributes: margin, how far behind in the study's first measured objective a trial may be."""

    margin: float = 0.2

    kind: ClassVar[str] = "margin"
    summary: ClassVar[str] = "stops what is more than a margin behind the best trial at the same rung"

    def __post_init__(self) -> None:
        if not self.margin > 0:
            raise InputError("pruner", "margin is above 0", self.margin)

    def prunes(self, rung: Rung) -> bool:
        """Gains are compared: values, negated where less is better. Nothing is pruned before there are peers."""
        return len(rung.peers) > 0 and bool(rung.own.measured[0, 0] < rung.peers.measured[:, 0].max() - self.margin)
