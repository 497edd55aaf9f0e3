"""A good learning rate of a design, relative to one that suits adapters of middling size.

A tuner of rank r moves its operation by a sum of r products, so that with Adam, whose steps have one size, a step moves
it about r times as far as a step of rank 1, and a constant scale as many times as it says. Vectors that are added move
it least. On short schedules this decides more than the design does, so designs that are compared at one rate are
compared by their rates. The rule was fitted on TunerBench (benchmarks/tunerbench), known methods at six rates, and on
nine of them at two rates on an ImageNet ViT-Ti: digits alone would have everything 1.7 times as fast, at which the
larger backbone loses 1.4 points more, and they gain nothing that is more than noise.
"""

import math
from functools import lru_cache

from utuning_search.designs.design import Design
from utuning_search.designs.placement import Placement

FASTEST, SLOWEST = 2.4, 0.25  # of what moves its operation least, a linear probe among them, and most
HALF = 2.0  # effective ranks at which the rate begins to fall
POWER = 0.45
# Effective ranks of tuners that have none: what is multiplied moves an operation farther than what is added.
EFFECTIVE = {"scale_shift": 1.0, "norm": 0.5, "bias": 0.25}


@lru_cache(maxsize=8192)  # a search asks for it of all designs it has tried, at each proposal
def rate_factor(design: Design, depth: int) -> float:
    """By how much a good peak learning rate of a design differs from a task's; a factor from 0.25 to 2.4.

    Args:
        design: Resolved for the backbone.
        depth: Number of blocks.
    """
    total = sum(_effective(p) * len(p.block_numbers()) / depth for p in design.placements)
    return max(FASTEST / math.pow(1 + total / HALF, POWER), SLOWEST)


def _effective(placement: Placement) -> float:
    rank = float(placement.tuner.options().get("rank", EFFECTIVE.get(placement.tuner.kind, 0.0)))
    return rank * abs(placement.scale) if isinstance(placement.scale, float) else rank
