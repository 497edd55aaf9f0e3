"""Which choices matter: how much one edit of each kind changes the final quality, with what is not known of it.

Optuna's importances ask how much of the variance over all trials a variable explains, by a forest on the space's
variables, of which most do not exist in most trials; and they explain sizes, which are exact and need no model. Here a
choice is a kind of edit, a step that the space allows: another rate, form, tuner. The surrogate is asked, of designs
that were tried, how far apart design and edit may lie; draws from its posterior say how well that is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utuning_search.designs.design import Design
from utuning_search.designs.spaces.edits import Neighbourhoods
from utuning_search.designs.spaces.space import Space
from utuning_search.search.surrogate.knowledge import Circumstances, Knowledge
from utuning_search.search.surrogate.threads import one_thread
from utuning_search.search.trials import TrialRecord

LEAST = 5  # designs, before anything is said
EDITED = 40  # designs that are edited, spread evenly over those that were tried
DRAWS = 400
ENDS = (2.5, 50.0, 97.5)  # per cent


@dataclass(frozen=True)
class Importance:
    """What one kind of edit does to the quality.

    Attributes:
        kind: See `Neighbourhoods.edits`.
        edits: How many were looked at.
        effect: Root of the mean squared change, a share of the range between the objective's bounds; the median of the
            posterior.
        low, high: Its 95% interval by the posterior. Of a kind that was hardly tried it is wide.
    """

    kind: str
    edits: int
    effect: float
    low: float
    high: float


@one_thread()
def importance(history: Sequence[TrialRecord], given: Circumstances, space: Space, seed: int = 0) -> list[Importance]:
    """Of each kind of edit, the largest effect first; none where fewer than LEAST designs of the space are known.

    Args:
        history: Of a study.
        given: See `Circumstances`.
        space: Of the study.
        seed: Of the edits that are drawn and of the posterior.
    """
    rng = np.random.default_rng(seed)
    near = Neighbourhoods(space, given.setting.shape.depth, given.recipe.learning_rate)
    known = Knowledge(history, given)
    tried = [d for d in dict.fromkeys(known.designs) if near.holds(d)]
    if len(tried) < LEAST:
        return []
    chosen = [tried[i] for i in np.unique(np.linspace(0, len(tried) - 1, EDITED).round().astype(int))]
    pairs: dict[str, list[tuple[Design, Design]]] = {}
    for design in chosen:
        for kind, edited in near.edits(design, rng).items():
            pairs.setdefault(kind, []).append((design, edited))
    rows = {d: i for i, d in enumerate(dict.fromkeys(d for found in pairs.values() for pair in found for d in pair))}
    drawn = known.draws(list(rows), DRAWS, rng)
    found = []
    for kind, both in pairs.items():
        changes = drawn[:, [rows[b] for _, b in both]] - drawn[:, [rows[a] for a, _ in both]]
        low, middle, high = np.percentile(np.sqrt((changes**2).mean(axis=1)), ENDS)
        found.append(Importance(kind, len(both), float(middle), float(low), float(high)))
    return sorted(found, key=lambda i: (-i.effect, i.kind))
