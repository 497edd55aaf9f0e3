"""Neighbours of the front: change one placement of a design that nothing dominates."""

from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from optuna.samplers import RandomSampler

from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design, Placement
from utuning_search.search.samplers.base import Request, Sampler
from utuning_search.search.trials import front_of


@dataclass(frozen=True)
class NeighbourSampler(Sampler):
    """Attributes: explore, the share of proposals that are drawn from the space at random, in [0, 1]."""

    explore: float = 0.3

    kind: ClassVar[str] = "neighbour"
    summary: ClassVar[str] = "a design of the front with one placement changed"

    def propose(self, request: Request) -> Design:
        """A function of the request: all that is drawn comes from its seed."""
        draw = Random(request.seed)
        parents = [r.design for r in front_of(request.history, request.objectives) if r.design and r.design.placements]
        if parents and draw.random() >= self.explore:
            parent = draw.choice(parents)
            placement = draw.choice(parent.placements)
            others = [p for p in parent.placements if p is not placement]
            with suppress(InputError):  # it may have become equal to another one, which is no design
                return replace(parent, placements=(*others, *changed(placement, draw)))
        return request.suggest(RandomSampler(seed=request.seed))


def changed(placement: Placement, draw: Random) -> tuple[Placement, ...]:
    """The placement at half or twice its size, or without its first block; or none."""
    tuner, options, blocks = placement.tuner, placement.tuner.options(), placement.block_numbers()
    found: list[tuple[Placement, ...]] = [()]
    for size in [name for name in ("rank", "length") if name in options]:
        for number in (options[size] // 2, 2 * options[size]):
            if 1 <= number <= 1024:
                found.append((replace(placement, tuner=replace(tuner, **{size: number})),))
    if len(blocks) > 1:
        found.append((replace(placement, blocks=blocks[1:]),))
    return draw.choice(found)
