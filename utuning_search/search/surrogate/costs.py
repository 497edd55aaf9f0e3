"""What designs cost: exact objectives, each found once, because every proposal asks for those of the history again."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from utuning_search.designs.design import Design
from utuning_search.search.objectives.base import ExactObjective, Floats, Setting

KEPT = 16_384  # values: two objectives of 8,192 designs


@lru_cache(maxsize=KEPT)
def cost(objective: ExactObjective, design: Design, setting: Setting) -> float:
    """The value of a design that is resolved for the backbone's depth."""
    return objective.value(design, setting)


def places(objectives: Sequence[ExactObjective], designs: Sequence[Design], setting: Setting) -> Floats:
    """Goodness of costs: (designs, objectives)."""
    columns = [o.goodness([cost(o, d, setting) for d in designs], setting) for o in objectives]
    return np.stack(columns, axis=1) if columns else np.zeros((len(designs), 0))
