"""Where differences between trained designs come from: images, seeds, and the two together.

Every design is trained with some seeds, and all trainings are tested on the same images. In the words of random
effects, whether training s of design d gets image n right is

    share of d + image n for d + seed s of d + rest

Where a metric counts classes alike, whatever their number of images, answers are averaged class by class: each class is
a stratum, its images vary among themselves, and the share above is the mean over strata. Accuracy has one stratum.

Images are shared by all designs and seeds; seeds are a design's own. Images and the rest are many and are estimated
from the pair at hand. Seeds are few, two to five a design, so their variance is pooled over all designs. Four choices
err towards doubt, because with few seeds the textbook's formulas told equal designs apart in up to 10% of simulated
families where 5% are claimed (`benchmarks/finals_power.py`):

- A pair whose own seeds vary more than the pool keeps its own: noisy designs may stand among quiet ones.
- The rest varies the accuracy of a seed too, and is counted with the images already; only half of it is taken off.
- Each stratum has the two half images of `_with_seeds`: of a class of one image nothing is known.
- Degrees of freedom allow for the pooled variance being a draw itself: a low one looks certain, and is not.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from utuning_search.common.errors import InputError

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Correct = npt.NDArray[np.bool_] | Floats  # (seeds, images): whether right, or what each answer adds to a metric
TAKEN_OFF = 0.5  # of the rest


class Components:
    """Variances of mean accuracies and of their differences.

    Args:
        correct: Of each design (seeds, images): whether a training got an image right, or what its answer adds. Images
            are the same for all and at least two; seeds may differ in number.
        strata: Of each image the number of its stratum, (images,); None for a single one.

    Raises:
        InputError: Other shapes.

    Attributes:
        means: Accuracy of each design over its seeds, (designs,), or its mean over strata.
        seed_freedom: Degrees of freedom of the seeds' variance; 0 where no design has two seeds, so that it is unknown.
    """

    def __init__(self, correct: Sequence[Correct], strata: Rows | None = None) -> None:
        shapes = [found.shape for found in correct]
        if any(len(s) != 2 or s[0] < 1 or s[1] < 2 or s[1] != shapes[0][1] for s in shapes):
            raise InputError("comparison", "designs have (seeds, images), the same two or more images", shapes)
        images = shapes[0][1]
        groups = [np.flatnonzero(strata == s) for s in np.unique(strata)] if strata is not None else [np.arange(images)]
        self._sizes: Floats = np.array([len(rows) for rows in groups], dtype=np.float64)
        self._counts = np.array([s[0] for s in shapes])
        by_image: Floats = np.stack([found.mean(axis=0, dtype=np.float64) for found in correct])
        self.means: Floats = np.mean([by_image[:, rows].mean(axis=1) for rows in groups], axis=0)
        self._covariances: Floats = np.stack([_covariance(by_image[:, rows]) for rows in groups])
        freedom = self._counts - 1
        self.seed_freedom = int(freedom.sum())
        by_seed = [
            np.mean([found[:, rows].mean(axis=1, dtype=np.float64) for rows in groups], axis=0) for found in correct
        ]
        between = np.array([seeds.var(ddof=1) if len(seeds) > 1 else 0.0 for seeds in by_seed])
        self._pooled = float((freedom * between).sum() / max(self.seed_freedom, 1))
        self._own = np.where(freedom > 0, between, self._pooled)
        rest = [sum(_rest(found[:, rows]) / len(rows) for rows in groups) / len(groups) ** 2 for found in correct]
        self._rest_of_mean = float((freedom * np.array(rest)).sum() / max(self.seed_freedom, 1))

    def pair(self, a: int, b: int) -> tuple[float, float]:
        """Variance of the difference between two designs' means, and its degrees of freedom (Satterthwaite 1946)."""
        found = self._covariances
        return self._with_seeds(found[:, a, a] + found[:, b, b] - 2 * found[:, a, b], [a, b])

    def single(self, a: int) -> tuple[float, float]:
        """Variance of a design's mean, and its degrees of freedom; without the seeds' where that is unknown."""
        return self._with_seeds(self._covariances[:, a, a], [a])

    def _with_seeds(self, spread: Floats, designs: list[int]) -> tuple[float, float]:
        """Adds the seeds' part to variances over the images of each stratum, (strata,).

        Two half images are added, one to each side, as Agresti and Min (2005) do for pairs: a handful of images on
        which two designs differ does not tell them apart, and a design that is right on all is not right for certain.
        """
        inverse = 1 / self._counts[designs]
        freedom = np.maximum(self._sizes - 1, 1)
        parts = (spread + 1 / freedom) / self._sizes / len(self._sizes) ** 2
        images = float(parts.sum())
        seeds = max(self._pooled * float(inverse.sum()), float((self._own[designs] * inverse).sum()))
        variance = images + max(seeds - TAKEN_OFF * self._rest_of_mean * float(inverse.sum()), 0.0)
        uncertainty = float((parts**2 / freedom).sum())
        if self.seed_freedom:
            uncertainty += seeds**2 * (1 + 2 / self.seed_freedom) / self.seed_freedom  # the mean of a variance squared
        return variance, variance**2 / uncertainty


def _covariance(values: Floats) -> Floats:
    """Between designs, over the images of a stratum (designs, images); 0 where there is one image."""
    if values.shape[1] < 2:
        return np.zeros((len(values), len(values)))
    found: Floats = np.atleast_2d(np.cov(values))
    return found


def _rest(correct: Correct) -> float:
    """Variance of single answers once their image and their seed are known; 0 for one of either."""
    seeds, images = correct.shape
    if seeds < 2 or images < 2:
        return 0.0
    values = correct.astype(np.float64)
    by_image, by_seed, total = values.mean(axis=0), values.mean(axis=1), float(values.sum())
    explained = seeds * float(by_image @ by_image) + images * float(by_seed @ by_seed) - total**2 / (seeds * images)
    return float(max(float((values**2).sum()) - explained, 0.0) / ((seeds - 1) * (images - 1)))
