"""Asynchronous successive halving by Pareto rank, as MO-ASHA has it: a pruner to try our own sampler with."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from utuning_search.search.pareto import front
from utuning_search.search.pruners.base import Pruner, Rung


@dataclass(frozen=True)
class ParetoHalvingPruner(Pruner):
    """A trial goes on where it is among the first 1/`factor` at its rung by non-dominated sorting (Schmucker et al.,
    2021); within the last rank that fits partly, the more accurate ones go on.

    Attributes:
        factor: Of trials at a rung, one of so many goes on.
    """

    factor: int = 2

    kind: ClassVar[str] = "pareto-halving"
    summary: ClassVar[str] = "asynchronous successive halving by Pareto rank"

    def prunes(self, rung: Rung) -> bool:
        own = np.concatenate([rung.own.measured, rung.own.exact], axis=1)
        others = np.concatenate([rung.peers.measured, rung.peers.exact], axis=1)
        points = np.concatenate([own, others])
        left, place = np.arange(len(points)), 0
        while True:
            first = left[front(points[left])]
            if 0 in first:
                place += int((points[first, 0] > points[0, 0]).sum())
                return place >= max(1, len(points) // self.factor)
            place += len(first)
            left = np.setdiff1d(left, first)
