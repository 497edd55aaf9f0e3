"""What finals claim to know: in simulated families of equal designs they are wrong in at most one of twenty."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from utuning_search.common.errors import InputError
from utuning_search.results.statistics.components import Components
from utuning_search.results.statistics.paired import DOUBT, FREEDOMS, compare, critical, doubt, intervals
from utuning_search.results.statistics.wilson import wilson

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "finals_power.py"
LEVEL, MARGIN = 0.05, 2.0  # standard errors of a share that was counted


@pytest.fixture(scope="module")
def simulated() -> ModuleType:
    """The benchmark, whose trainings these are."""
    spec = importlib.util.spec_from_file_location("finals_power", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Wrong in one of twenty


@pytest.mark.parametrize(
    ("seeds", "images", "seed_sd", "repeats"),
    [
        (3, 1000, 0.0, 300),
        (3, 1000, 0.6, 600),
        (3, 1000, (0.3, 1.0) * 4, 600),
        (2, 1000, 0.6, 500),
        (5, 1000, 0.6, 300),
        (2, 3000, 1.0, 300),
        (3, 3000, 0.6, 300),
    ],
)
def test_eight_equal_designs_are_told_apart_in_one_family_of_twenty_at_most(
    seeds: int, images: int, seed_sd: float | tuple[float, ...], repeats: int, simulated: ModuleType
) -> None:
    """Any two of the 28 pairs; the rule of one standard error calls a third of the designs beaten in every family."""
    share = simulated.false_alarms(repeats, 1, designs=8, seeds=seeds, images=images, seed_sd=seed_sd)
    assert share <= LEVEL + MARGIN * math.sqrt(LEVEL * (1 - LEVEL) / repeats)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_two_equal_designs_are_told_apart_in_one_of_twenty_at_most(seeds: int, simulated: ModuleType) -> None:
    share = simulated.false_alarms(600, 2, designs=2, seeds=seeds, images=1000, seed_sd=0.6)
    assert share <= LEVEL + MARGIN * math.sqrt(LEVEL * (1 - LEVEL) / 600)


def test_what_is_there_is_seen(simulated: ModuleType) -> None:
    """Two points between two designs, of three seeds each and 3,000 images; with ten seeds also among eight designs."""
    two = simulated.power(100, 3, designs=2, ahead=2.0, seeds=3, images=3000, seed_sd=0.3)
    more = simulated.power(40, 3, designs=2, ahead=2.0, seeds=10, images=3000, seed_sd=0.6)
    eight = simulated.power(20, 3, designs=8, ahead=2.0, seeds=10, images=3000, seed_sd=0.6)
    less = simulated.power(40, 3, designs=2, ahead=1.0, seeds=10, images=3000, seed_sd=0.6)
    print(f"seen: {two:.0%} of 3 seeds, {more:.0%} of 10; among eight designs {eight:.0%}; one point {less:.0%}")
    assert two > 0.6
    assert more > 0.95
    assert eight > 0.8
    assert 0.3 < less < more


def test_the_earlier_rule_called_a_third_of_equals_beaten(simulated: ModuleType) -> None:
    draw = np.random.default_rng(0)
    shares = {
        seeds: np.mean(
            [simulated.beaten_by_a_standard_error(simulated.correct(draw, 8, seeds, 1000, 0.6)) for _ in range(100)]
        )
        / 8
        for seeds in (1, 3)
    }
    assert shares[3] > 0.25
    assert shares[1] > 0.6


def test_the_simulation_decides_as_comparisons_do(simulated: ModuleType) -> None:
    draw = np.random.default_rng(4)
    apart = 0
    for _ in range(4):
        found = simulated.correct(draw, 4, 3, 400, 0.5, ahead=[0.0, 0.0, 4.0, 9.0])
        wanted = {(a, b) for a, b in simulated.told_apart(found)}
        made = compare({str(i): each for i, each in enumerate(found)})
        assert {(int(c.a), int(c.b)) for c in made if c.verdict in ("better", "worse")} == wanted
        apart += len(wanted)
    assert 4 <= apart <= 20


# What it is made of


def seeds_of(draw: np.random.Generator, seeds: int, images: int, share: float) -> np.ndarray:
    return draw.random((seeds, images)) < share


def test_intervals_agree_with_verdicts_and_turn_round() -> None:
    draw = np.random.default_rng(5)
    correct = {name: seeds_of(draw, 3, 500, share) for name, share in zip("abcd", (0.5, 0.5, 0.6, 0.8), strict=True)}
    made = compare(correct)
    assert len(made) == 6
    for c in made:
        assert (c.low > 0) == (c.verdict == "better")
        assert (c.high < 0) == (c.verdict == "worse")
        assert c.p is not None
        assert c.corrected is not None
        assert c.p <= c.corrected
        assert (c.corrected < DOUBT) == (c.verdict in ("better", "worse"))
        assert c.low < c.difference < c.high
        turned = c.seen_from(c.b)
        assert (turned.difference, turned.low, turned.high) == (-c.difference, -c.high, -c.low)
        assert {c.verdict, turned.verdict} in ({"better", "worse"}, {"cannot be told apart"})
        assert turned.seen_from(c.a) == c
    assert {c.verdict for c in made} == {"cannot be told apart", "worse"}


def test_the_same_images_tell_more_than_others_would() -> None:
    """A design that misses ten images more than another, of the same 300 hard ones."""
    draw = np.random.default_rng(6)
    hard = np.arange(1000) < 300
    a = np.tile(~hard, (3, 1))
    b = a.copy()
    b[:, 400:430] = False
    (paired,) = compare({"a": a, "b": b})
    (apart,) = compare({"a": a, "b": np.stack([draw.permutation(row) for row in b])})
    assert paired.verdict == "better"
    assert apart.difference == pytest.approx(paired.difference)
    assert apart.high - apart.low > 2 * (paired.high - paired.low)


def test_a_handful_of_images_tells_nothing() -> None:
    """Of four images that only one is right on, the exact chance is one in eight; of eight it is one in 128."""
    a = np.ones((2, 1000), dtype=bool)
    four, eight = a.copy(), a.copy()
    four[:, :4], eight[:, :8] = False, False
    assert compare({"a": a, "b": four})[0].verdict == "cannot be told apart"
    assert compare({"a": a, "b": eight})[0].verdict == "better"
    (same,) = compare({"a": a, "b": a})
    assert (same.difference, same.verdict) == (0, "cannot be told apart")
    assert same.low < 0 < same.high


def test_noise_of_trainings_counts_however_many_images_there_are() -> None:
    """Two seeds of each design, four points apart in both: images alone would say more."""
    draw = np.random.default_rng(7)
    images = 20_000
    latent = draw.random(images)
    a = np.stack([latent < 0.80, latent < 0.84])
    b = np.stack([latent < 0.79, latent < 0.83])
    (both,) = compare({"a": a, "b": b})
    assert both.verdict == "cannot be told apart"
    steady = {"a": np.stack([latent < 0.82] * 2), "b": np.stack([latent < 0.81] * 2)}
    assert compare(steady)[0].verdict == "better"


def test_with_one_seed_each_nothing_is_said_and_with_one_more_something_may_be() -> None:
    draw = np.random.default_rng(8)
    one = {"a": seeds_of(draw, 1, 2000, 0.9), "b": seeds_of(draw, 1, 2000, 0.5), "c": seeds_of(draw, 1, 2000, 0.5)}
    made = compare(one)
    assert {(c.verdict, c.p, c.corrected) for c in made} == {("training noise unknown", None, None)}
    assert made[0].low > 0.3, "of images alone"
    pooled = compare({**one, "c": seeds_of(draw, 4, 2000, 0.5)})
    assert [c.verdict for c in pooled] == ["better", "better", "cannot be told apart"], (
        "another design's seeds are lent"
    )


def test_more_designs_want_more() -> None:
    wide = [critical(designs, 20) for designs in (2, 3, 8, 20)]
    assert wide == sorted(wide)
    assert wide[0] == pytest.approx(stats.t.ppf(0.975, 20), abs=1e-3)
    assert doubt(wide[2], 8, 20) == pytest.approx(DOUBT, abs=1e-4)
    assert critical(8, 29.9) == critical(8, 20), "rounded down"
    assert critical(8, 1e6) == critical(8, FREEDOMS[-1])


def test_variances_are_those_by_hand() -> None:
    """Of two designs with two seeds on four images; see the docstring of `components`."""
    a = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], dtype=bool)
    b = np.array([[1, 0, 1, 0], [1, 0, 1, 0]], dtype=bool)
    made = Components([a, b])
    assert made.means.tolist() == [0.625, 0.5]
    assert made.seed_freedom == 2
    differences = a.mean(axis=0) - b.mean(axis=0)  # 0, 1, -1/2, 0
    images = (differences.var(ddof=1) + 1 / 3) / 4
    seeds = np.array([0.75, 0.5]).var(ddof=1)  # of a; that of b is 0: as much as the pool of both adds up to
    variance, freedom = made.pair(0, 1)
    residual = a - a.mean(axis=0) - a.mean(axis=1, keepdims=True) + a.mean()
    rest = float((residual**2).sum()) / 3 / 2 / 4  # of one design of two, on four images
    assert variance == pytest.approx(images + seeds / 2 - 0.5 * rest)
    assert freedom == pytest.approx(variance**2 / (images**2 / 3 + (seeds / 2) ** 2 * 2 / 2))


@pytest.mark.parametrize(
    "shapes", [((2, 5), (2, 6)), ((0, 5), (1, 5)), ((5,), (5,)), ((2, 1), (2, 1))], ids=lambda s: f"{s}"
)
def test_other_images_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(InputError, match=r"designs have \(seeds, images\), the same two or more images; got "):
        compare({str(i): np.ones(shape, dtype=bool) for i, shape in enumerate(shapes)})


def test_one_design_or_none_is_not_compared() -> None:
    assert compare({}) == ()
    assert compare({"a": np.ones((2, 9), dtype=bool)}) == ()
    assert intervals({}) == {}


def test_intervals_of_means_hold_their_level(simulated: ModuleType) -> None:
    draw, missed, total = np.random.default_rng(9), 0, 0
    for _ in range(100):
        found = simulated.correct(draw, 4, 3, 1000, 0.6)
        for low, high in intervals(dict(zip("abcd", found, strict=True))).values():
            missed += not low <= simulated.ACCURACY <= high
            total += 1
    assert 0.005 <= missed / total <= 0.09  # those of one draw share its images


def test_right_on_all_images_is_not_right_for_certain() -> None:
    low, high = intervals({"a": np.ones((3, 200), dtype=bool), "b": np.zeros((3, 200), dtype=bool)})["a"]
    assert 0.95 < low < 0.995
    assert high == 1


# Wilson's interval


@pytest.mark.parametrize(("right", "images"), [(0, 10), (10, 10), (45, 60), (950, 1000), (1, 3)])
def test_wilson_equals_scipy(right: int, images: int) -> None:
    wanted = stats.binomtest(right, images).proportion_ci(method="wilson")
    assert wilson(right / images, images) == pytest.approx((wanted.low, wanted.high))


def test_wilson_refuses_what_is_no_share() -> None:
    for accuracy, images in ((1.1, 10), (-0.1, 10), (0.5, 0)):
        with pytest.raises(InputError, match="accuracy is in"):
            wilson(accuracy, images)
