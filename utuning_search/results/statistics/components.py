"""Where differences between trained designs come from: images, seeds, and the two together.

Every design is trained with some seeds, and all trainings are tested on the same images. In the words of random
effects, whether training s of design d gets image n right is

    share of d + image n for d + seed s of d + rest

Images are shared by all designs and seeds; seeds are a design's own. Images and the rest are many and are estimated
from the pair at hand. Seeds are few, two to five a design, so their variance is pooled over all designs. Three choices
err towards doubt, because with few seeds the textbook's formulas told equal designs apart in up to 10% of simulated
families where 5% are claimed (`benchmarks/finals_power.py`):

- A pair whose own seeds vary more than the pool keeps its own: noisy designs may stand among quiet ones.
- The rest varies the accuracy of a seed too, and is counted with the images already; only half of it is taken off.
- Degrees of freedom allow for the pooled variance being a draw itself: a low one looks certain, and is not.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from utuning_search.common.errors import InputError

Floats = npt.NDArray[np.float64]
Correct = npt.NDArray[np.bool_]  # (seeds, images)
TAKEN_OFF = 0.5  # of the rest


class Components:
    """Variances of mean accuracies and of their differences.

    Args:
        correct: Of each design (seeds, images): whether a training got an image right. Images are the same for all and
            at least two; seeds may differ in number.

    Raises:
        InputError: Other shapes.

    Attributes:
        means: Accuracy of each design over its seeds, (designs,).
        seed_freedom: Degrees of freedom of the seeds' variance; 0 where no design has two seeds, so that it is unknown.
    """

    def __init__(self, correct: Sequence[Correct]) -> None:
        shapes = [found.shape for found in correct]
        if any(len(s) != 2 or s[0] < 1 or s[1] < 2 or s[1] != shapes[0][1] for s in shapes):
            raise InputError("comparison", "designs have (seeds, images), the same two or more images", shapes)
        self._images = shapes[0][1]
        self._counts = np.array([s[0] for s in shapes])
        self._by_image: Floats = np.stack([found.mean(axis=0, dtype=np.float64) for found in correct])
        self.means: Floats = self._by_image.mean(axis=1)
        self._covariance = np.atleast_2d(np.cov(self._by_image))
        freedom = self._counts - 1
        self.seed_freedom = int(freedom.sum())
        by_seed = [found.mean(axis=1, dtype=np.float64) for found in correct]
        between = np.array([seeds.var(ddof=1) if len(seeds) > 1 else 0.0 for seeds in by_seed])
        self._pooled = float((freedom * between).sum() / max(self.seed_freedom, 1))
        self._own = np.where(freedom > 0, between, self._pooled)
        rest = [self._rest(found, seeds) for found, seeds in zip(correct, by_seed, strict=True)]
        self._rest_of_mean = float((freedom * np.array(rest)).sum() / max(self.seed_freedom, 1) / self._images)

    def pair(self, a: int, b: int) -> tuple[float, float]:
        """Variance of the difference between two designs' means, and its degrees of freedom (Satterthwaite 1946)."""
        return self._with_seeds(
            float(self._covariance[a, a] + self._covariance[b, b] - 2 * self._covariance[a, b]), [a, b]
        )

    def single(self, a: int) -> tuple[float, float]:
        """Variance of a design's mean, and its degrees of freedom; without the seeds' where that is unknown."""
        return self._with_seeds(float(self._covariance[a, a]), [a])

    def _with_seeds(self, spread: float, designs: list[int]) -> tuple[float, float]:
        """Adds the seeds' part to a variance over images.

        Two half images are added, one to each side, as Agresti and Min (2005) do for pairs: a handful of images on
        which two designs differ does not tell them apart, and a design that is right on all is not right for certain.
        """
        inverse = 1 / self._counts[designs]
        images = (spread + 1 / (self._images - 1)) / self._images
        seeds = max(self._pooled * float(inverse.sum()), float((self._own[designs] * inverse).sum()))
        variance = images + max(seeds - TAKEN_OFF * self._rest_of_mean * float(inverse.sum()), 0.0)
        uncertainty = images**2 / (self._images - 1)
        if self.seed_freedom:
            uncertainty += seeds**2 * (1 + 2 / self.seed_freedom) / self.seed_freedom  # the mean of a variance squared
        return variance, variance**2 / uncertainty

    def _rest(self, correct: Correct, by_seed: Floats) -> float:
        """Variance of single answers once their image and their seed are known; 0 for one seed."""
        seeds, images = correct.shape
        if seeds < 2:
            return 0.0
        by_image = correct.mean(axis=0, dtype=np.float64)
        total = float(correct.sum())  # answers are 0 or 1, so they are their own squares
        explained = seeds * float(by_image @ by_image) + images * float(by_seed @ by_seed) - total**2 / (seeds * images)
        return float(max(total - explained, 0.0) / ((seeds - 1) * (images - 1)))
