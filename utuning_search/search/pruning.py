"""Pareto-aware pruning: at a rung, a trial is compared only with peers that have no more parameters.

A front asks each design to beat all that are no larger, so peers that are larger say nothing against it, and
those that are no larger say everything. Sizes are known in closed form before training. Rungs are kept outside
Optuna's own reports, which it refuses in studies of several objectives (RFC optuna#3450).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from utuning_search.common.errors import InputError


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
        ahead: Prune only when at least this many such peers are ahead. A single one may be luck.
        share: Prune only when at least this share of such peers is ahead. Without it, the more trials a study
            has, the fewer could pass, until only the very best at the first rung ever trained on.
    """

    ahead: int = 3
    share: float = 1 / 3

    def __post_init__(self) -> None:
        if self.ahead < 1 or not 0 <= self.share <= 1:
            raise InputError("pruner", "ahead is at least 1 and share in [0, 1]", f"{self.ahead} and {self.share}")

    def prunes(self, accuracy: float, parameters: int, peers: Iterable[Peer]) -> bool:
        """Whether a trial of this accuracy and size stops at the rung where `peers` were measured too."""
        comparable = [p for p in peers if p.parameters <= parameters]
        ahead = sum(p.accuracy > accuracy for p in comparable)
        return ahead >= max(self.ahead, self.share * len(comparable))
