"""How often finals call equal designs apart, and how often they see a true difference: simulated trainings.

    python benchmarks/finals_power.py [--repeats 1000]

What a training gets right is drawn with a difficulty of each image that all designs share, tastes of each design, luck
of each training, and a seed that moves its accuracy as a whole. At 80% accuracy one of two trainings of a design is
right and the other wrong on 10% of the images, of different designs on 12%. Three tables: families of equal designs, of
which no two may be told apart in more than 5% of the cases; one design that is better than all others; and the rule of
one standard error of the difference, for comparison.
"""

import argparse
import math
from itertools import combinations
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from utuning_search.results.statistics.components import Components
from utuning_search.results.statistics.paired import DOUBT, doubt

SHARED, TASTE, LUCK = 0.85, 0.07, 0.08  # variances of what decides an image, 1 in all
SEEN = 2.7  # standard errors below which three or more designs are never told apart, and 1.96 for two
ACCURACY = 0.8


def correct(
    draw: np.random.Generator,
    designs: int,
    seeds: int,
    images: int,
    seed_sd: float | npt.NDArray[np.float64],
    ahead: npt.ArrayLike = 0.0,
    accuracy: float = ACCURACY,
) -> npt.NDArray[np.bool_]:
    """Trainings (designs, seeds, images): which images each gets right.

    Args:
        draw: Where randomness comes from.
        designs, seeds, images: How many.
        seed_sd: Standard deviation of a design's accuracy over seeds, on infinitely many images, in points.
        ahead: Of each design, points above `accuracy`.
        accuracy: In [0, 1], on infinitely many images and seeds.
    """
    wanted = accuracy + np.broadcast_to(np.asarray(ahead, dtype=np.float64), designs)[:, None] / 100
    sd = np.broadcast_to(np.asarray(seed_sd, dtype=np.float64), designs)[:, None] / 100
    trained = np.clip(wanted + sd * draw.standard_normal((designs, seeds)), 0.001, 0.999)
    threshold = np.vectorize(NormalDist().inv_cdf)(trained)
    latent = draw.standard_normal((designs, seeds, images), dtype=np.float32) * math.sqrt(LUCK)
    latent += draw.standard_normal((designs, 1, images), dtype=np.float32) * math.sqrt(TASTE)
    latent += draw.standard_normal(images, dtype=np.float32) * math.sqrt(SHARED)
    right: npt.NDArray[np.bool_] = latent + threshold[..., None] > 0
    return right


def told_apart(found: npt.NDArray[np.bool_]) -> dict[tuple[int, int], float]:
    """Pairs that `paired.compare` tells apart, and their difference; the same decisions without their intervals."""
    components = Components(list(found))
    apart = {}
    for i, j in combinations(range(len(found)), 2):
        variance, freedom = components.pair(i, j)
        difference = float(components.means[i] - components.means[j])
        ratio = abs(difference) / math.sqrt(variance)
        if ratio > (SEEN if len(found) > 2 else 1.96) and doubt(ratio, len(found), freedom) < DOUBT:
            apart[i, j] = difference
    return apart


def beaten_by_a_standard_error(found: npt.NDArray[np.bool_]) -> int:
    """How many designs the earlier rule calls beaten; the first is the smallest."""
    by_seed = found.mean(axis=2)
    means, seeds = by_seed.mean(axis=1), by_seed.shape[1]
    errors = by_seed.std(axis=1, ddof=1) / math.sqrt(seeds) if seeds > 1 else np.zeros(len(found))
    return sum(any(means[i] - means[j] > math.hypot(errors[i], errors[j]) for i in range(j)) for j in range(len(found)))


def false_alarms(repeats: int, seed: int, **options: object) -> float:
    """Share of families of equal designs in which any two are told apart; `options` as for `correct`."""
    draw = np.random.default_rng(seed)
    return sum(bool(told_apart(correct(draw, **options))) for _ in range(repeats)) / repeats  # type: ignore[arg-type]


def power(repeats: int, seed: int, *, designs: int, ahead: float, **options: object) -> float:
    """Share of pairs told apart, the right way round, in which one is the only design that is ahead by some points."""
    draw, seen = np.random.default_rng(seed), 0
    by = [ahead, *[0.0] * (designs - 1)]
    for _ in range(repeats):
        apart = told_apart(correct(draw, designs=designs, ahead=by, **options))  # type: ignore[arg-type]
        seen += sum(i == 0 and difference > 0 for (i, _), difference in apart.items())
    return seen / repeats / (designs - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000)
    repeats = parser.parse_args().repeats
    mixed = np.array([0.3, 1.0] * 4)
    print("Families of equal designs in which any two are told apart:")
    for images in (1000, 3000):
        for seeds in (2, 3, 5):
            shares = [
                false_alarms(repeats, 0, designs=8, seeds=seeds, images=images, seed_sd=sd)
                for sd in (0.3, 0.6, 1.0, mixed)
            ]
            two = false_alarms(repeats, 0, designs=2, seeds=seeds, images=images, seed_sd=0.6)
            said = ", ".join(f"{s:.1%}" for s in shares)
            print(f"  {images} images, {seeds} seeds: {said} of eight (seed sd 0.3, 0.6, 1.0, mixed); {two:.1%} of two")
    print("Pairs with a true difference that are told apart, seed sd 0.3 / 0.6 / 1.0:")
    for designs in (2, 3, 8):
        for images in (1000, 3000):
            for seeds in (2, 3, 5, 10):
                said = []
                for ahead in (1.0, 2.0):
                    shares = [
                        power(
                            max(repeats // 4, 1),
                            1,
                            designs=designs,
                            ahead=ahead,
                            seeds=seeds,
                            images=images,
                            seed_sd=sd,
                        )
                        for sd in (0.3, 0.6, 1.0)
                    ]
                    said.append(f"{ahead:g} points {' / '.join(f'{s:.0%}' for s in shares)}")
                print(f"  of {designs} designs, {images} images, {seeds} seeds: {'; '.join(said)}")
    draw = np.random.default_rng(2)
    print("Of eight equal designs, beaten by the rule of one standard error (seed sd 0.6, 3000 images):")
    for seeds in (1, 3):
        beaten = [beaten_by_a_standard_error(correct(draw, 8, seeds, 3000, 0.6)) for _ in range(repeats)]
        print(f"  {seeds} seeds: {np.mean(beaten) / 8:.0%}")


if __name__ == "__main__":
    main()
