"""Pareto-aware pruning: at a rung, a trial is compared only with peers that cost no more.

A front asks each design to beat all that are no larger, so peers that are larger say nothing against it, and
those that are no larger say everything. Sizes are known in closed form before training. Rungs are kept outside
Optuna's own reports, which it refuses in studies of several objectives (RFC optuna#3450).
"""

from dataclasses import dataclass
from typing import ClassVar

from utuning_search.common.errors import InputError
from utuning_search.search.history import Peers
from utuning_search.search.pruners.base import Pruner, Rung


@dataclass(frozen=True)
class ParetoPruner(Pruner):
    """Prune where enough peers that cost no more are ahead at the same rung.

    A peer costs no more if it is at least as good in every exact objective, and is ahead if it is at least as good in
    every measured one and better in one. The cheapest design so far is never pruned: nothing stands against it.

    Attributes:
        ahead: Prune only when at least this many such peers are ahead. A single one may be luck.
        share: Prune only when at least this share of such peers is ahead. Without it, the more trials a study
            has, the fewer could pass, until only the very best at the first rung ever trained on.
    """

    ahead: int = 3
    share: float = 1 / 3

    kind: ClassVar[str] = "pareto"
    summary: ClassVar[str] = "stops where enough trials that cost no more are ahead at the same rung"

    def __post_init__(self) -> None:
        if self.ahead < 1 or not 0 <= self.share <= 1:
            raise InputError("pruner", "ahead is at least 1 and share in [0, 1]", f"{self.ahead} and {self.share}")

    def prunes(self, rung: Rung) -> bool:
        return self.outnumbered(rung.own, rung.peers)

    def outnumbered(self, own: Peers, peers: Peers) -> bool:
        """Whether enough of the peers at a rung are ahead of one trial there."""
        cheap = (peers.exact >= own.exact).all(axis=1)
        comparable = peers.measured[cheap]
        ahead = (comparable >= own.measured).all(axis=1) & (comparable > own.measured).any(axis=1)
        return int(ahead.sum()) >= max(self.ahead, self.share * len(comparable))
