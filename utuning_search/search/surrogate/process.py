"""Gaussian process regression with a kernel whose length scales are known beforehand."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from utuning_search.search.surrogate.features import Floats

JITTER = 1e-6  # share of the variance by which designs of equal features may differ, or nothing could be drawn


def squares(a: Floats, b: Floats) -> Floats:
    """Squared distances between rows that are divided by their length scales: (rows of a, rows of b)."""
    found: Floats = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T, 0.0)
    return found


def matern(squares: Floats) -> Floats:
    """Matérn 5/2 of unit variance at squared distances."""
    r = np.sqrt(5 * squares)
    found: Floats = (1 + r + r**2 / 3) * np.exp(-r)
    return found


@dataclass(frozen=True)
class Process:
    """The posterior of a function that was observed with noise.

    Args:
        correlations: (rows, rows) of the function, such as those of `matern`; more than 1 on the diagonal where it
            varies more than `variance` says.
        targets: (rows,) less the mean that is believed beforehand.
        variance: Of the function.
        noise: (rows,) variance of each observation.
    """

    correlations: Floats
    targets: Floats
    variance: float
    noise: Floats

    @cached_property
    def _factor(self) -> Floats:
        gram = self.variance * self.correlations
        gram.flat[:: len(gram) + 1] += self.noise + 1e-10
        found: Floats = cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
        return found

    @cached_property
    def _weights(self) -> Floats:
        found: Floats = cho_solve((self._factor, True), self.targets, check_finite=False)
        return found

    @property
    def likelihood(self) -> float:
        """Log marginal likelihood of the targets."""
        fit = 0.5 * float(self.targets @ self._weights)
        return -fit - float(np.log(np.diag(self._factor)).sum()) - 0.5 * len(self.targets) * float(np.log(2 * np.pi))

    def mean(self, correlations: Floats) -> Floats:
        """Of the function at others, given by their (others, rows) with what was observed."""
        found: Floats = self.variance * (correlations @ self._weights)
        return found

    def draws(self, correlations: Floats, own: Floats, count: int, rng: np.random.Generator) -> Floats:
        """The function at others, drawn so many times: (count, others).

        Args:
            correlations: (others, rows), likewise.
            own: (others, others).
            count: Of draws.
            rng: The one source of chance.
        """
        half = solve_triangular(self._factor, self.variance * correlations.T, lower=True, check_finite=False)
        left = self.variance * own - half.T @ half
        left.flat[:: len(left) + 1] += JITTER * self.variance
        found: Floats = self.mean(correlations) + rng.standard_normal((count, len(own))) @ cholesky(left)
        return found

    def sd(self, correlations: Floats, own: Floats | float = 1.0) -> Floats:
        """Standard deviation of the function, without noise, likewise; `own` (others,) is of each with itself."""
        half = solve_triangular(self._factor, self.variance * correlations.T, lower=True, check_finite=False)
        found: Floats = np.sqrt(np.maximum(self.variance * own - (half**2).sum(0), 1e-12))
        return found
