"""Bayesian optimization in the algebra of designs: the sampler that is made for these spaces."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from utuning_search.designs.design import Design
from utuning_search.designs.spaces.edits import Neighbourhoods
from utuning_search.search.samplers.base import Request, Sampler
from utuning_search.search.samplers.candidates import Candidates
from utuning_search.search.surrogate.knowledge import Knowledge, TRAINED

BEST, EDITS = 6, 4  # candidates that are edited once more, and how often each


@dataclass(frozen=True)
class EHVISampler(Sampler):
    """Expected hypervolume improvement at the exact size.

    Attributes:
        pool: Candidates a proposal.
    """

    pool: int = 80

    kind: ClassVar[str] = "ehvi"
    summary: ClassVar[str] = "Bayesian: edits of the front and of known methods by their expected gain of hypervolume"

    def propose(self, request: Request) -> Design:
        rng = np.random.default_rng(request.seed)
        near = Neighbourhoods(request.space, request.setting.shape.depth, request.recipe.learning_rate)
        tried = {r.key for r in request.history if r.state in TRAINED}
        candidates = Candidates(near, rng, tried, lambda d: _allowed(d, request))
        known = Knowledge(
            request.history, request.objectives, request.setting, request.recipe, request.validation
        )
        pool = candidates.around(known.parents, self.pool)
        if not pool:
            return near.draw(rng)
        gains = known.gains(pool)
        best = [pool[i] for i in np.argsort(-gains, kind="stable")[:BEST]]
        more = candidates.edits(best, EDITS, {d.key for d in pool})
        if more:
            gains = np.concatenate([gains, known.gains(more)])
        return [*pool, *more][int(np.argmax(gains))]


def _allowed(design: Design, request: Request) -> bool:
    exact = request.objectives.exact_values(design, request.setting)
    return all(value <= request.limits.get(name, np.inf) for name, value in exact.items())
