"""Ranks among comparable designs: agreement, places, and what noise allows of either.

Everything is counted over pairs of designs, so that designs of one size or one rate can be compared with each other
alone, and is given for several weightings of the designs at once: ones, and the counts of bootstrap samples. `pairs`
are (designs, designs): which are compared, none with itself.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
GRID, ROUNDS = 0.0025, 60  # of accuracies; more rounds would make a few spikes of what is smooth


def weightings(designs: int, bootstraps: int, seed: int = 0) -> Floats:
    """(1 + bootstraps, designs): ones, then how often each design is in a sample."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(designs, np.full(designs, 1 / designs), size=bootstraps)
    return np.concatenate([np.ones((1, designs)), counts])


def tau(x: Floats, y: Floats, pairs: Bools, weights: Floats) -> Floats:
    """Kendall's tau-b over pairs, for each weighting."""
    one, other = (np.sign(v[:, None] - v[None, :]) * pairs for v in (x, y))

    def total(matrix: Floats) -> Floats:
        return np.asarray((weights @ matrix * weights).sum(axis=1))

    untied = total(np.abs(one)) * total(np.abs(other))
    return np.asarray(total(one * other) / np.sqrt(np.maximum(untied, 1e-12)))


def places(x: Floats, pairs: Bools, weights: Floats) -> Floats:
    """Share of those it is compared with that each design beats, ties half: (weightings, designs)."""
    beaten = (1 + np.sign(x[:, None] - x[None, :])) / 2 * pairs
    return np.asarray((weights @ beaten.T) / np.maximum(weights @ pairs.T.astype(float), 1e-12))


def best_kept(x: Floats, y: Floats, best: float, pairs: Bools, weights: Floats) -> Floats:
    """Share of the best by y, among those each is compared with, that are of the best by x: (weightings,)."""
    chosen, top = (places(v, pairs, weights) >= 1 - best for v in (x, y))
    return np.asarray(1 - lost(chosen, top, weights))


def lost(going: Bools, top: Bools, weights: Floats) -> Floats:
    """Share of the top that does not go on: (weightings,) of (weightings, designs)."""
    return np.asarray((weights * top * ~going).sum(axis=1) / np.maximum((weights * top).sum(axis=1), 1e-12))


def noise_factor(first: Floats, again: Floats, images: int) -> float:
    """Standard deviation over seeds of training, in that of so many images drawn at random (binomial)."""
    mean = (first + again) / 2
    usual = mean * (1 - mean) / images
    return float(np.sqrt(((first - again) ** 2 / 2).sum() / usual.sum()))


def redrawn(y: Floats, images: int, factor: float, draws: int, seed: int = 0) -> list[tuple[Floats, Floats]]:
    """Pairs of trainings of the same designs with two other seeds, as their noise has them.

    The distribution of accuracies without noise is found by expectation and maximization on a grid (deconvolution);
    each design's is drawn from it in the light of the one training there is.
    """
    grid = np.arange(max(y.min() - 0.03, GRID), min(y.max() + 0.03, 1 - GRID), GRID)
    sd = factor * np.sqrt(grid * (1 - grid) / images)
    likely = np.exp(-0.5 * ((y[:, None] - grid) / sd) ** 2) / sd
    density = np.full(len(grid), 1 / len(grid))
    for _ in range(ROUNDS):
        shares = likely * density
        density = (shares / shares.sum(axis=1, keepdims=True)).mean(axis=0)
    shares = np.cumsum(likely * density, axis=1)
    rng = np.random.default_rng(seed)

    def trained(at: npt.NDArray[np.int64]) -> Floats:
        return np.asarray(np.round((grid[at] + sd[at] * rng.standard_normal(len(at))) * images) / images)

    found = []
    for _ in range(draws):
        at = (shares < rng.random((len(y), 1)) * shares[:, -1:]).sum(axis=1)
        found.append((trained(at), trained(at)))
    return found
