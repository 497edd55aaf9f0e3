"""What a rung says of the end: less the earlier it is, less a head start, and nothing before a trial was finished."""

from collections.abc import Sequence

import numpy as np
import pytest

from utuning_search.search.surrogate.curves import AHEAD, SLOPE, RungModel, ends

LAST, RUNGS = 12, (1, 3, 6)
SLOW, FAST = 0.002, 0.016
Curve = dict[int, float]


def finished(count: int, *, spread: float = 0.1, noise: float = 0.0, seed: int = 0) -> tuple[list[Curve], list[float]]:
    """Curves of trials that rise to their end, nearly as is usual, and their rates, which decide nothing.

    Args:
        count: Of trials.
        spread: Of ends, to either side of 0.8.
        noise: Standard deviation at half of the epochs, and more before.
        seed: Of all.
    """
    rng = np.random.default_rng(seed)
    curves = []
    for q in 0.8 + spread * rng.uniform(-1, 1, count):
        level = {e: 0.4 + 0.3 * e / LAST + SLOPE * (q - 0.8) + noise * LAST / (2 * e) * rng.normal() for e in RUNGS}
        curves.append({**{e: float(x) for e, x in level.items()}, LAST: float(q)})
    return curves, (0.005 * 2 ** rng.uniform(-2, 2, count)).tolist()


def told(curve: Curve, rate: float, curves: Sequence[Curve], rates: Sequence[float]) -> tuple[float, float]:
    """Of one more trial."""
    found = ends([*curves, curve], [*rates, rate], LAST)[-1]
    assert found is not None
    return found


def test_what_was_finished_is_known_and_what_was_never_measured_is_not() -> None:
    curves, rates = finished(4)
    found = ends([*curves, {}], [*rates, 0.005], LAST)
    assert found == [*((c[LAST], 0.0) for c in curves), None]
    assert ends([], [], LAST) == []


def test_before_any_trial_was_finished_a_rung_says_hardly_anything() -> None:
    value, sd = told({6: 0.7}, 0.005, [{1: 0.3}, {1: 0.2, 3: 0.5}], [0.005, 0.005])
    assert value == 0.7
    assert sd >= 1.0, "any share of images may be right in the end"


@pytest.mark.parametrize("count", [1, 3, 30])
def test_an_early_rung_says_less_than_a_late_one(count: int) -> None:
    curves, rates = finished(count, noise=0.01)
    sds = [told({epoch: 0.7}, 0.005, curves, rates)[1] for epoch in RUNGS]
    assert sds[0] > 1.3 * sds[1] > 1.3 * 1.3 * sds[2] > 0
    assert sds[0] < 0.2


def test_the_latest_rung_is_what_counts() -> None:
    curves, rates = finished(10)
    assert told({1: 0.9, 3: 0.1, 6: 0.7}, 0.005, curves, rates) == told({6: 0.7}, 0.005, curves, rates)


def test_it_learns_what_rungs_of_a_study_say() -> None:
    """From many trials: x = a + 0.5 q + 0.03 z, whatever is usual."""
    rng = np.random.default_rng(1)
    final, rates = rng.uniform(0.5, 0.9, 200), rng.uniform(-2, 2, 200)
    model = RungModel(0.2 + 0.5 * final + 0.03 * rates, final, rates, 0.25)
    for q, z in ((0.6, -1.0), (0.8, 0.0), (0.85, 2.0)):
        found, sd = model.observe(0.2 + 0.5 * q + 0.03 * z, z)
        assert found == pytest.approx(q, abs=0.005)
        assert sd < 0.02


def test_a_head_start_of_a_fast_rate_is_discounted() -> None:
    """At one rung, of two trials that are equally good the one with the lower rate is expected to end higher."""
    for spread in (0.1, 0.0):  # where finals are alike, by what is usual
        curves, rates = finished(20, spread=spread)
        fast, slow = (told({3: 0.75}, rate, curves, rates)[0] for rate in (FAST, SLOW))
        assert fast < slow
    rng = np.random.default_rng(2)
    logs = rng.uniform(-2, 2, 100)
    final = rng.uniform(0.7, 0.9, 100)
    ahead = RungModel(final - 0.2 + 0.02 * logs, final, logs, 0.25)
    found = [ahead.observe(0.6, z)[0] for z in (-1.0, 1.0)]
    assert found[0] - found[1] == pytest.approx(0.04, rel=0.15), "by as much as it was in this study"


def test_the_usual_head_start_falls_with_the_square_of_the_epochs() -> None:
    found = []
    for share in (0.25, 0.5):
        one = RungModel(np.array([0.6]), np.array([0.8]), np.array([0.0]), share)
        found.append(one.observe(0.6, 0.0)[0] - one.observe(0.6, 1.0)[0])
        assert one.observe(0.6, 0.0)[0] == pytest.approx(0.8)
    assert found == pytest.approx([AHEAD / SLOPE, AHEAD / SLOPE / 4])


def test_rungs_that_say_nothing_or_the_opposite_never_turn_good_into_bad() -> None:
    rng = np.random.default_rng(3)
    final = rng.uniform(0.5, 0.9, 50)
    against = RungModel(1.2 - final, final, np.zeros(50), 0.5)
    without = RungModel(rng.uniform(0.4, 0.6, 50), final, np.zeros(50), 0.5)
    for model in (against, without):
        low, high = (model.observe(x, 0.0) for x in (0.4, 0.7))
        assert 0 < high[0] - low[0] <= 0.3 / 0.5 + 1e-9
        assert low[1] > 0.1, "and it is seen that they say little"


def test_noise_at_a_rung_is_noise_of_what_it_says() -> None:
    sds = []
    for noise in (0.0, 0.03, 0.1):
        curves, rates = finished(40, noise=noise)
        sds.append(told({6: 0.7}, 0.005, curves, rates)[1])
    assert sds == sorted(sds)
    assert sds[2] > 0.1 / 1.2 * 0.8
    assert sds[2] > 5 * sds[0]


def test_trials_that_were_stopped_say_nothing_of_others() -> None:
    curves, rates = finished(8, noise=0.01)
    alone = told({3: 0.6}, 0.004, curves, rates)
    beside = [{1: 0.1, 3: 0.2}, {3: 0.9}, {1: 0.5}]
    assert told({3: 0.6}, 0.004, [*curves, *beside], [*rates, 0.001, 0.01, 0.02]) == alone


def test_more_trials_make_it_surer() -> None:
    sds = [told({3: 0.7}, 0.005, *finished(count))[1] for count in (1, 4, 40)]
    assert sds == sorted(sds, reverse=True)
