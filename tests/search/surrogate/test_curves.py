"""What a rung says of the end: less the earlier it is, less a head start, and nothing before a trial was finished."""

from collections.abc import Sequence

import numpy as np
import pytest

from utuning_search.search.surrogate.curves import AHEAD, SOON, STEEP, RungModel, ends
from utuning_search.search.surrogate.features import Floats

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
        steep = {e: (e / LAST) ** -STEEP for e in RUNGS}
        level = {e: 0.4 + 0.3 * e / LAST + steep[e] * (q - 0.8) + noise * LAST / (2 * e) * rng.normal() for e in RUNGS}
        curves.append({**{e: float(x) for e, x in level.items()}, LAST: float(q)})
    return curves, (0.005 * 2 ** rng.uniform(-2, 2, count)).tolist()


def handicaps(rates: Sequence[float], suits: Sequence[float] = ()) -> Floats:
    """Of trials of some rates, which suit all the same unless said otherwise."""
    return np.log2(np.column_stack([rates, suits or np.ones(len(rates))]))


def told(curve: Curve, rate: float, curves: Sequence[Curve], rates: Sequence[float]) -> tuple[float, float]:
    """Of one more trial."""
    found = ends([*curves, curve], handicaps([*rates, rate]), LAST)[-1]
    assert found is not None
    return found


def test_what_was_finished_is_known_and_what_was_never_measured_is_not() -> None:
    curves, rates = finished(4)
    found = ends([*curves, {}], handicaps([*rates, 0.005]), LAST)
    assert found == [*((c[LAST], 0.0) for c in curves), None]
    assert ends([], handicaps([]), LAST) == []


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
    """From many trials: x = a + 0.5 q + 0.03 z - 0.05 w, whatever is usual."""
    rng = np.random.default_rng(1)
    final, both = rng.uniform(0.5, 0.9, 600), rng.uniform(-2, 2, (600, 2))
    ahead = np.array([0.03, -0.05])
    model = RungModel(0.2 + 0.5 * final + both @ ahead, final, both, 0.25)
    for q, z, w in ((0.6, -1.0, 1.0), (0.8, 0.0, 0.0), (0.85, 2.0, -1.0)):
        found, sd = model.observe(0.2 + 0.5 * q + 0.03 * z - 0.05 * w, np.array([z, w]))
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
    ahead = RungModel(final - 0.2 + 0.02 * logs, final, np.column_stack([logs, 0 * logs]), 0.25)
    found = [ahead.observe(0.6, np.array([z, 0.0]))[0] for z in (-1.0, 1.0)]
    assert found[0] - found[1] == pytest.approx(0.04, rel=0.15), "by as much as it was in this study"


def test_a_head_start_of_what_wants_a_fast_rate_is_discounted_too() -> None:
    """At one rung and one rate, of two trials that are equally good the one that such a rate suits ends lower."""
    curves, rates = finished(20)
    suits = (2 ** np.random.default_rng(4).uniform(-2, 2, 20)).tolist()
    for epoch in RUNGS:
        alike = [{epoch: 0.75}, {epoch: 0.75}]
        wide, norms = ends([*curves, *alike], handicaps([*rates, 0.005, 0.005], [*suits, 0.25, 4.0]), LAST)[-2:]
        assert wide is not None
        assert norms is not None
        assert wide[0] > norms[0]


def test_usual_head_starts_fall_with_the_epochs() -> None:
    """That of the rate with their square, that of what suits with the square of what is left."""
    middling = np.zeros(2)
    for share in (0.25, 0.5, 0.8):
        one = RungModel(np.array([0.6]), np.array([0.8]), middling[None], share)
        assert one.observe(0.6, middling)[0] == pytest.approx(0.8)
        fast, norms = (0.8 - one.observe(0.6, at)[0] for at in np.eye(2))
        assert fast * share**-STEEP == pytest.approx(AHEAD / (4 * share) ** 2)
        assert norms * share**-STEEP == pytest.approx(SOON * (1 - share) ** 2)
        assert share > 0.5 or norms > 0.003, "points of accuracy that matter"


def test_a_rung_tells_designs_apart_by_more_the_earlier_it_is() -> None:
    """So by as much as it is above others, an early one promises less."""
    found = []
    for share in (0.25, 0.5, 1.0):
        one = RungModel(np.array([0.6]), np.array([0.8]), np.zeros((1, 2)), share)
        found.append(one.observe(0.7, np.zeros(2))[0] - 0.8)
    assert found[0] < found[1] < found[2] == pytest.approx(0.1)


def test_rungs_that_say_nothing_or_the_opposite_never_turn_good_into_bad() -> None:
    rng = np.random.default_rng(3)
    final = rng.uniform(0.5, 0.9, 50)
    against = RungModel(1.2 - final, final, np.zeros((50, 2)), 0.5)
    without = RungModel(rng.uniform(0.4, 0.6, 50), final, np.zeros((50, 2)), 0.5)
    for model in (against, without):
        low, high = (model.observe(x, np.zeros(2)) for x in (0.4, 0.7))
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


def test_the_noise_of_what_a_rung_says_is_that_of_finished_trials() -> None:
    """Of many it is theirs, in terms of the end; of one it is as unsure again, for its own level may be off as much."""
    rng = np.random.default_rng(5)
    final, none = rng.uniform(0.5, 0.9, 2000), np.zeros((2000, 2))
    model = RungModel(0.2 + 0.5 * final + 0.05 * rng.normal(size=2000), final, none, 0.5)
    assert model.observe(0.55, np.zeros(2))[1] == pytest.approx(0.05 / 0.5, rel=0.05)
    exact = [RungModel(np.full(n, 0.6), np.full(n, 0.8), np.zeros((n, 2)), 0.5) for n in (1, 3)]
    one, three = (e.observe(0.6, np.zeros(2))[1] ** 2 for e in exact)
    assert one / three == pytest.approx((2 / 9) / ((4 / 3) / 11)), "eight trials' worth of what is usual, and its own"


def test_trials_that_were_stopped_say_nothing_of_others() -> None:
    curves, rates = finished(8, noise=0.01)
    alone = told({3: 0.6}, 0.004, curves, rates)
    beside = [{1: 0.1, 3: 0.2}, {3: 0.9}, {1: 0.5}]
    assert told({3: 0.6}, 0.004, [*curves, *beside], [*rates, 0.001, 0.01, 0.02]) == alone


def test_more_trials_make_it_surer() -> None:
    sds = [told({3: 0.7}, 0.005, *finished(count))[1] for count in (1, 4, 40)]
    assert sds == sorted(sds, reverse=True)
