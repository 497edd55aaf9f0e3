"""Gaussian process regression against scikit-learn's."""

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from utuning_search.search.surrogate.features import Floats
from utuning_search.search.surrogate.process import Process, matern, squares

JITTER = 1e-10  # that keeps the matrix positive where nothing was noisy


def drawn(seed: int, rows: int, columns: int = 5) -> tuple[Floats, Floats, Floats]:
    """Inputs, targets, and noise that differs from row to row."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(rows, columns))
    return inputs, np.sin(inputs).sum(axis=1) + rng.normal(0, 0.1, rows), rng.uniform(0.001, 0.3, rows)


def kernel(a: Floats, b: Floats) -> Floats:
    return matern(squares(a, b))


@pytest.mark.parametrize("rows", [1, 2, 25])
@pytest.mark.parametrize("variance", [0.04, 3.0])
def test_it_is_scikit_learns(rows: int, variance: float) -> None:
    inputs, targets, noise = drawn(rows, rows)
    process = Process(kernel(inputs, inputs), targets, variance, noise)
    matern = ConstantKernel(variance, "fixed") * Matern(1.0, "fixed", nu=2.5)
    theirs = GaussianProcessRegressor(matern, alpha=noise + JITTER, optimizer=None).fit(inputs, targets)
    at = np.concatenate([inputs, np.random.default_rng(9).normal(size=(20, 5))])
    near = kernel(at, inputs)
    mean, sd = process.mean(near), process.sd(near)
    their_mean, their_sd = theirs.predict(at, return_std=True)
    assert mean == pytest.approx(their_mean, abs=1e-8)
    assert sd == pytest.approx(their_sd, abs=1e-8)
    assert process.likelihood == pytest.approx(theirs.log_marginal_likelihood(), abs=1e-8)


def test_the_kernel_is_scikit_learns() -> None:
    a, b = drawn(0, 12)[0], drawn(1, 7)[0]
    assert kernel(a, b) == pytest.approx(Matern(1.0, nu=2.5)(a, b), abs=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_the_kernel_is_a_correlation(scale: float) -> None:
    inputs = scale * drawn(2, 30)[0]
    inputs = np.concatenate([inputs, inputs[:5]])  # the same design twice
    found = kernel(inputs, inputs)
    assert np.diag(found) == pytest.approx(np.ones(35), abs=1e-6)
    assert found == pytest.approx(found.T)
    assert found.max() <= 1 + 1e-9
    assert found.min() >= 0
    assert np.linalg.eigvalsh(found).min() > -1e-7


def test_it_falls_with_the_distance() -> None:
    found = kernel(np.zeros((1, 1)), np.linspace(0, 8, 30)[:, None])[0]
    assert (np.diff(found) < 0).all()
    assert found[-1] < 1e-4


def test_what_was_measured_twice_without_noise_is_no_obstacle() -> None:
    inputs, targets, _ = drawn(3, 6)
    both = np.repeat(inputs, 2, axis=0)
    twice, near = Process(kernel(both, both), np.repeat(targets, 2), 1.0, np.zeros(12)), kernel(inputs, both)
    mean, sd = twice.mean(near), twice.sd(near)
    assert mean == pytest.approx(targets, abs=1e-4)
    assert (sd < 1e-3).all()
    assert np.isfinite(twice.likelihood)


def test_nothing_known_is_the_belief_beforehand() -> None:
    nothing, near = Process(np.zeros((0, 0)), np.zeros(0), 0.25, np.zeros(0)), np.zeros((3, 0))
    assert nothing.mean(near).tolist() == [0.0] * 3
    assert nothing.sd(near).tolist() == [0.5] * 3
