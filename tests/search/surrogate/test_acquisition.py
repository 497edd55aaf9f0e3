"""Expected gains of hypervolume against hypervolumes of many possible ends."""

import math

import numpy as np
import pytest
from scipy.special import ndtri

from utuning_search.search.pareto import hypervolume
from utuning_search.search.surrogate import acquisition
from utuning_search.search.surrogate.acquisition import chance_above, expected_gain, expected_improvement, sampled_gain
from utuning_search.search.surrogate.features import Floats

FRONTS = {
    "nothing": [],
    "one": [[0.6, 0.5]],
    "several": [[0.45, 0.9], [0.55, 0.7], [0.6, 0.65], [0.7, 0.2]],
    "with-dominated": [[0.45, 0.9], [0.7, 0.2], [0.44, 0.5], [0.6, 0.65], [0.55, 0.65], [0.3, 0.1]],
    "ties": [[0.5, 0.6], [0.5, 0.4], [0.6, 0.4], [0.6, 0.4]],
    "too-dear": [[0.6, 0.5], [0.8, -0.3], [0.8, 0.0]],
}


def front(name: str) -> Floats:
    return np.array(FRONTS[name]).reshape(-1, 2)


def candidates(count: int = 12) -> tuple[Floats, Floats, Floats]:
    """Mean, standard deviation and place, below the front and above it, four deviations from the bounds."""
    rng = np.random.default_rng(0)
    return rng.uniform(0.35, 0.75, count), rng.uniform(0.005, 0.06, count), rng.uniform(0.02, 0.98, count)


def possible(mean: float, sd: float, place: float, stands: Floats, draws: int = 250) -> float:
    """Mean gain over evenly likely qualities."""
    now, qualities = hypervolume(stands), mean + sd * ndtri((np.arange(draws) + 0.5) / draws)
    return float(np.mean([hypervolume(np.vstack([stands, [q, place]])) - now for q in qualities]))


@pytest.mark.parametrize("name", FRONTS)
def test_it_is_the_mean_gain_over_possible_ends(name: str) -> None:
    mean, sd, place = candidates()
    found = expected_gain(mean, sd, place, front(name))
    expected = [possible(*row, front(name)) for row in zip(mean, sd, place, strict=True)]
    assert found == pytest.approx(expected, abs=3e-5)
    assert max(expected) > 0.02


def test_what_is_certain_gains_what_it_adds() -> None:
    stands = front("several")
    for quality, place in ((0.5, 0.95), (0.65, 0.5), (0.9, 0.1), (0.58, 0.68), (0.4, 0.4)):
        adds = hypervolume(np.vstack([stands, [quality, place]])) - hypervolume(stands)
        found = expected_gain(np.array([quality]), np.array([1e-9]), np.array([place]), stands)
        assert found == pytest.approx([adds], abs=1e-8)


def test_what_is_dominated_beyond_doubt_gains_nothing() -> None:
    found = expected_gain(np.array([0.3, 0.44]), np.array([0.01, 0.001]), np.array([0.5, 0.9]), front("several"))
    assert found == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.parametrize("name", FRONTS)
def test_what_costs_more_than_counts_gains_nothing(name: str) -> None:
    mean, sd, place = np.array([0.9, 0.9]), np.array([0.1, 0.1]), np.array([0.0, -0.5])
    assert expected_gain(mean, sd, place, front(name)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", FRONTS)
def test_it_never_falls_with_quality_doubt_or_cheapness(name: str) -> None:
    mean, sd, place = candidates()
    found = expected_gain(mean, sd, place, front(name))
    assert (found >= 0).all()
    assert (expected_gain(mean + 0.05, sd, place, front(name)) >= found).all()
    assert (expected_gain(mean, 2 * sd, place, front(name)) >= found - 1e-12).all()
    assert (expected_gain(mean, sd, place + 0.02, front(name)) >= found).all()


def test_each_candidate_is_judged_by_itself() -> None:
    mean, sd, place = candidates()
    together = expected_gain(mean, sd, place, front("several"))
    alone = [float(expected_gain(mean[[i]], sd[[i]], place[[i]], front("several"))[0]) for i in range(len(mean))]
    assert together == pytest.approx(alone)
    assert expected_gain(mean[:0], sd[:0], place[:0], front("several")).shape == (0,)


def test_points_that_are_dominated_change_nothing() -> None:
    mean, sd, place = candidates()
    more = np.vstack([front("several"), [[0.4, 0.85], [0.55, 0.3], [0.7, 0.1]]])
    assert expected_gain(mean, sd, place, more) == pytest.approx(expected_gain(mean, sd, place, front("several")))


def test_improvement_and_chance_are_those_of_a_normal() -> None:
    one = np.array([1.0])
    assert expected_improvement(np.array([0.5]), 0.2 * one, 0.5) == pytest.approx(0.2 / math.sqrt(2 * math.pi))
    assert expected_improvement(np.array([0.9]), 1e-6 * one, 0.5) == pytest.approx(0.4)
    assert expected_improvement(np.array([0.1]), 0.01 * one, 0.5) == pytest.approx(0.0, abs=1e-12)
    assert chance_above(0.5, 0.1, 0.5) == 0.5
    assert chance_above(0.6, 0.1, 0.5) == pytest.approx(0.8413, abs=1e-4)
    assert chance_above(0.4, 0.1, 0.5) == pytest.approx(1 - 0.8413, abs=1e-4)
    assert chance_above(0.0, 0.1, -math.inf) == 1.0


# By draws


def sampled(mean: Floats, sd: Floats, place: Floats, stands: Floats, seed: int = 0) -> Floats:
    return sampled_gain(mean[:, None], sd[:, None], place[:, None], stands, np.random.default_rng(seed))


@pytest.mark.parametrize("name", ["nothing", "one", "with-dominated"])
def test_draws_agree_with_the_closed_form(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acquisition, "DRAWS", 600)
    mean, sd, place = candidates(6)
    exact = expected_gain(mean, sd, place, front(name))
    assert sampled(mean, sd, place, front(name)) == pytest.approx(exact, rel=0.1, abs=5e-5)


def test_a_few_draws_tell_good_candidates_from_bad() -> None:
    mean, sd, place = candidates(40)
    exact, found = expected_gain(mean, sd, place, front("several")), sampled(mean, sd, place, front("several"))
    assert np.corrcoef(exact, found)[0, 1] > 0.95
    assert exact[np.argmax(found)] > 0.8 * exact.max()


def test_candidates_share_their_draws() -> None:
    """Of two that are as sure, the better one never loses by bad luck."""
    mean, sd, place = np.linspace(0.58, 0.66, 12), np.full(12, 0.03), np.full(12, 0.5)
    found = sampled(mean, sd, place, front("several"), seed=3)
    assert (np.diff(found) > 0).all()
    again = sampled(np.repeat(mean[5], 3), sd[:3], place[:3], front("several"))
    assert len(set(again.tolist())) == 1


@pytest.mark.parametrize(("measured", "exact"), [(1, 2), (2, 1), (2, 2), (3, 0), (1, 0)])
def test_any_number_of_objectives_gains_what_it_adds(measured: int, exact: int) -> None:
    rng = np.random.default_rng(measured + 7 * exact)
    stands = rng.uniform(0.1, 0.9, (5, measured + exact))
    mean, places = rng.uniform(0.2, 0.9, (6, measured)), rng.uniform(0.2, 0.9, (6, exact))
    found = sampled_gain(mean, np.full_like(mean, 1e-9), places, stands, rng)
    points = np.hstack([mean, places])
    adds = [hypervolume(np.vstack([stands, point])) - hypervolume(stands) for point in points]
    assert found == pytest.approx(adds, abs=1e-7)
    nothing = sampled_gain(mean, np.full_like(mean, 1e-9), places, stands[:0], rng)
    assert nothing == pytest.approx(points.prod(axis=1), abs=1e-6)
