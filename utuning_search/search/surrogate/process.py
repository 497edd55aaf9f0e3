"""Gaussian process regression with a kernel whose length scales are known beforehand."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from utuning_search.search.surrogate.features import Floats


def kernel(a: Floats, b: Floats) -> Floats:
    """Matérn 5/2 of unit variance between rows that are divided by their length scales: (rows of a, rows of b)."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
    r = np.sqrt(5 * np.maximum(squares, 0.0))
    found: Floats = (1 + r + r**2 / 3) * np.exp(-r)
    return found


@dataclass(frozen=True)
class Process:
    """The posterior of a function that was observed with noise.

    Args:
        inputs: (rows, features), divided by their length scales.
        targets: (rows,) less the mean that is believed beforehand.
        variance: Of the function.
        noise: (rows,) variance of each observation.
    """

    inputs: Floats
    targets: Floats
    variance: float
    noise: Floats

    @cached_property
    def _factor(self) -> Floats:
        gram = self.variance * kernel(self.inputs, self.inputs) + np.diag(self.noise + 1e-10)
        found: Floats = cholesky(gram, lower=True, check_finite=False)
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

    def predict(self, inputs: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the function, without noise, at (rows, features)."""
        between = self.variance * kernel(inputs, self.inputs)
        half = solve_triangular(self._factor, between.T, lower=True, check_finite=False)
        left = np.maximum(self.variance - (half**2).sum(0), 1e-12)
        return between @ self._weights, np.sqrt(left)
