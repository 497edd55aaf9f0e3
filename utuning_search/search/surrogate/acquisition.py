"""What a design is expected to add to a front."""

import numpy as np
from scipy.special import ndtr

from utuning_search.search.pareto import hypervolume
from utuning_search.search.surrogate.features import Floats

DRAWS = 16


def expected_gain(mean: Floats, sd: Floats, place: Floats, front: Floats) -> Floats:
    """Expected hypervolume improvement of candidates whose cost is known and whose quality is normal (EHVI in closed
    form, Emmerich et al., 2005, where one of two objectives is certain).

    The gain of a candidate of quality q at place c is the integral over u from 0 to c of max(0, q - h(u)), where h(u)
    is the best quality of the front at places of at least u; so its expectation is a sum of expected improvements, one
    a step of the front.

    Args:
        mean, sd: (candidates,) of the quality.
        place: (candidates,) of the cost's goodness: 0 is the worst that counts, 1 the best.
        front: (points, 2) quality and place of each point.

    Returns:
        (candidates,) in units of quality times goodness.
    """
    points = front[np.argsort(front[:, 1])]
    points = points[points[:, 1] > 0]
    # Best quality among the points that lie at an edge or beyond; nothing lies beyond the last.
    heights = np.append(np.maximum.accumulate(points[::-1, 0])[::-1], -np.inf)
    steps = heights[:-1] > heights[1:]  # the others end no step
    edges = np.concatenate([[0.0], points[steps, 1], [np.inf]])
    heights = np.append(heights[:-1][steps], -np.inf)
    widths = np.clip(np.minimum(place[:, None], edges[None, 1:]) - edges[None, :-1], 0.0, None)
    floor = min(0.0, float(mean.min())) if len(mean) else 0.0
    gains = np.stack([expected_improvement(mean, sd, max(h, floor)) for h in heights], axis=1)
    found: Floats = (widths * gains).sum(axis=1)
    return found


def chance_above(mean: float, sd: float, height: float) -> float:
    """Probability that a normal quality is above a height."""
    return float(ndtr((mean - height) / sd))


def expected_improvement(mean: Floats, sd: Floats, best: float) -> Floats:
    """E max(0, q - best) of normal q."""
    z = (mean - best) / sd
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    found: Floats = sd * (z * ndtr(z) + density)
    return found


def sampled_gain(mean: Floats, sd: Floats, places: Floats, front: Floats, rng: np.random.Generator) -> Floats:
    """The same with any number of measured and exact objectives, by draws of the measured ones.

    Args:
        mean, sd: (candidates, measured) in terms of goodness.
        places: (candidates, exact), likewise.
        front: (points, measured + exact).
        rng: Of the draws; all candidates share them, so that they are compared and not their luck.

    Returns:
        (candidates,) share of the box between the bounds.
    """
    draws = rng.standard_normal((DRAWS, mean.shape[1]))
    now = hypervolume(front)
    found = np.zeros(len(mean))
    for i in range(len(mean)):
        for draw in draws:
            point = np.concatenate([mean[i] + sd[i] * draw, places[i]])
            found[i] += hypervolume(np.vstack([front, point])) - now
    return found / DRAWS
