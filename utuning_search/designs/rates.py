"""A good learning rate of a design, relative to one that suits adapters of middling size.

A tuner of rank r moves its operation by a sum of r products, so that with Adam, whose steps have one size, a step moves
it about r times as far as a step of rank 1, and a constant scale as many times as it says. Vectors that are added move
it least. On short schedules this decides more than the design does, so designs that are compared at one rate are
compared by their rates. The rule was fitted on TunerBench (benchmarks/tunerbench), known methods at six rates, and on
ten of them at two rates on an ImageNet ViT-Ti, where scale-shifts and experts with dropout stand less than digits would
have it, and so does a head alone.
"""

import math
from functools import lru_cache

from utuning_search.designs.design import Design
from utuning_search.designs.placement import Placement

FASTEST, SLOWEST = 3.2, 0.25
PROBE = 2.0  # of a linear probe
LEVEL, POWER = 5.0, 0.45  # a rate at no effective rank, and the power that it falls with
# Effective ranks of tuners that have none, or whose rank says something else: what is multiplied moves an operation
# farther than what is added.
# Those after the bias are measured at four rates on the bundled digits, one seed; of "kronecker" and "arc" all four are
# alike within the error, and their figures are what they were guessed to be.
EFFECTIVE = {
    "scale_shift": 4.0,
    "norm": 1.5,
    "bias": 0.1,
    "rescale": 0.5,
    "oft": 1.5,
    "vera": 0.5,
    "grouped": 1.5,
    "compacter": 6.0,
    "kronecker": 4.0,
    "arc": 4.0,
}
WILD = {"experts": 2.0}  # by how much an effective rank is larger than the rank


@lru_cache(maxsize=8192)  # every proposal asks for those of the whole history
def rate_factor(design: Design, depth: int) -> float:
    """By how much a good peak learning rate of a design differs from a task's; a factor from 0.25 to 3.2.

    Args:
        design: Resolved for the backbone.
        depth: Number of blocks.
    """
    if not design.placements:
        return PROBE
    # What lies outside the blocks is one place of a whole backbone, whatever its depth: too little to count.
    inside = [p for p in design.placements if not p.is_outside]
    total = sum(_effective(p) * len(p.block_numbers()) / depth for p in inside)
    return min(max(LEVEL / math.pow(1 + total, POWER), SLOWEST), FASTEST)


def _effective(placement: Placement) -> float:
    kind = placement.tuner.kind
    rank = EFFECTIVE.get(kind, float(placement.tuner.options().get("rank", 0.0))) * WILD.get(kind, 1.0)
    return rank * abs(placement.scale) if isinstance(placement.scale, float) else rank
