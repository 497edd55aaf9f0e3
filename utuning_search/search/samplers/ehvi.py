"""Bayesian optimization in the algebra of designs: the sampler that is made for these spaces."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design
from utuning_search.designs.spaces.edits import Neighbourhoods
from utuning_search.search.objectives.base import ExactObjective
from utuning_search.search.objectives.registry import objective
from utuning_search.search.samplers.base import Request, Sampler
from utuning_search.search.samplers.candidates import Candidates
from utuning_search.search.surrogate.costs import cost
from utuning_search.search.surrogate.knowledge import TRAINED, Circumstances, Knowledge
from utuning_search.search.surrogate.threads import one_thread

BEST, EDITS = 6, 4  # candidates that are edited once more, and how often each
AIMED = 0.25  # share of proposals that aim at known methods


@dataclass(frozen=True)
class EHVISampler(Sampler):
    """Expected hypervolume improvement (EHVI; Emmerich et al., 2005) of edits of good designs.

    Candidates are steps from designs that are good already, from known methods, and some fresh draws (as in LEMONADE,
    Elsken et al., 2018, and local search in BANANAS, White et al., 2021). A Gaussian process on features of designs,
    which pruned and running trials inform too, says how good each will be; what it costs is known exactly. So gaps of
    the front are filled, and no size is tried at which nothing can be gained.

    Every fourth proposal or so aims at the known methods that no other design equals yet: in the logarithm of the size,
    a better design among the largest of a front gains most of the volume there is, and small ones were left to chance.

    Attributes:
        pool: Candidates a proposal besides known methods.
    """

    pool: int = 80

    kind: ClassVar[str] = "ehvi"
    summary: ClassVar[str] = "Bayesian: edits of good designs and of known methods by expected gain of hypervolume"

    def __post_init__(self) -> None:
        if self.pool < 1:
            raise InputError("sampler", "pool is at least 1", self.pool)

    @one_thread()
    def propose(self, request: Request) -> Design:
        rng = np.random.default_rng(request.seed)
        near = Neighbourhoods(request.space, request.setting.shape.depth, request.recipe.learning_rate)
        tried = {r.key for r in request.history if r.state in TRAINED}
        candidates = Candidates(near, rng, tried, lambda design: _allowed(design, request))
        given = Circumstances(request.objectives, request.setting, request.recipe, request.validation)
        known = Knowledge(request.history, given)
        methods = [r.design for r in request.history if r.preset and r.state == "complete" and r.design is not None]
        pool = candidates.around(known.parents, self.pool, methods)
        if not pool:  # everything was tried, or is too large
            return near.draw(rng)
        improves, leads = partial(known.gains, rng=rng), partial(known.leads, rivals=_rivals(candidates))
        worth = leads if rng.random() < AIMED else improves
        gains = worth(pool)
        if worth is leads and not gains.any():  # no known method is left to aim at
            worth, gains = improves, improves(pool)
        best = [pool[i] for i in np.argsort(-gains, kind="stable")[:BEST]]
        more = candidates.edits(best, EDITS, {design.key for design in pool})
        if more:
            gains = np.concatenate([gains, worth(more)])
        return [*pool, *more][int(np.argmax(gains))]


def _rivals(candidates: Candidates) -> list[tuple[Design, ...]]:
    """The known methods of the space, each at several rates."""
    return [(d, *candidates.at_other_rates([d])) for d in candidates.known if d.placements]


def _allowed(design: Design, request: Request) -> bool:
    for name, limit in request.limits.items():
        known = objective(name)
        if isinstance(known, ExactObjective) and cost(known, design, request.setting) > limit:
            return False
    return True
