"""Pareto-aware pruning: at a rung, a trial is compared only with peers that have no more parameters.

A front asks each design to beat all that are no larger, so peers that are larger say nothing against it, and
those that are no larger say everything. Sizes are known in closed form before training. Rungs are kept outside
Optuna's own reports, which it refuses in studies of several objectives (RFC optuna#3450).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from utuning_search.errors import InputError


@dataclass(frozen=True)
class Peer:
    """Another trial at the same rung: its accuracy there and its trainable parameters."""

    accuracy: float
    parameters: int


@dataclass(frozen=True)
class ParetoPruner:
    """Prune where enough peers of no more parameters are ahead at the same rung.

    The smallest design so far is never pruned: nothing stands against it.

    Attributes:
        ahead: Prune when at least this many such peers are ahead. A single one may be luck.
        margin: A peer is ahead if its accuracy is higher by more than this.
    """

    ahead: int = 3
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.ahead < 1 or not 0 <= self.margin < 1:
            raise InputError("pruner", "ahead is at least 1 and margin in [0, 1)", f"{self.ahead} and {self.margin}")

    def prunes(self, accuracy: float, parameters: int, peers: Iterable[Peer]) -> bool:
        """Whether a trial of this accuracy and size stops at the rung where `peers` were measured too."""
        ahead = sum(p.parameters <= parameters and p.accuracy > accuracy + self.margin for p in peers)
        return ahead >= self.ahead
