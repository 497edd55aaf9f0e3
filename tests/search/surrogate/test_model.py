"""The model of final quality: near what was measured it says that, far away the line, and it knows which is which."""

from dataclasses import replace

import numpy as np
import pytest

from utuning_search.designs.design import Design
from utuning_search.designs.placement import Placement
from utuning_search.designs.spaces.edits import Neighbourhoods
from utuning_search.designs.spaces.space import Space
from utuning_search.search.surrogate import subset
from utuning_search.search.surrogate.features import GROUPS, Floats, feature_names, features, matrix
from utuning_search.search.surrogate.model import BARE, SCALES, SIZE, USUAL, Model
from utuning_search.search.surrogate.subset import telling
from utuning_search.testing.pretend import SHAPE
from utuning_search.tuners import ScaleShiftConfig

NAMES = feature_names()
KIND = NAMES.index("depth of lora")  # a column that tells little of the size
INTERCEPT, SLOPE = 0.6, 0.2


@pytest.fixture(scope="module")
def raw() -> Floats:
    """Of forty designs."""
    near, rng = Neighbourhoods(Space.load("full"), SHAPE.depth, 0.005), np.random.default_rng(0)
    return matrix([near.draw(rng) for _ in range(40)], SHAPE, 0.005)


def bumpy(raw: Floats) -> Floats:
    """A quality that rises with the size, and depends on more than that."""
    return np.asarray(INTERCEPT + SLOPE * raw[:, SIZE] + 0.05 * np.sin(7 * raw).mean(axis=1))


def fitted(raw: Floats, quality: Floats, noise: float = 0.001, sd: float = 0.0) -> Model:
    return Model(raw, quality, np.full(len(raw), sd), noise)


def moved(raw: Floats, by: float) -> Floats:
    """The same sizes, so far from what is known in another respect."""
    found = raw.copy()
    found[:, KIND] += by
    return found


def test_each_feature_has_a_scale_and_the_size_is_where_it_is_said_to_be() -> None:
    assert SCALES.shape == (len(NAMES),)
    assert NAMES[SIZE] == "size"
    assert NAMES[BARE] == "nearness to a bare head"
    assert len(set(SCALES[: GROUPS[0]])) == 1
    assert SCALES[NAMES.index("rate")] == SCALES.max(), "nothing decides more than the rate"


def test_it_goes_through_what_was_measured_without_noise(raw: Floats) -> None:
    quality = bumpy(raw)
    mean, sd = fitted(raw, quality).predict(raw)
    assert mean == pytest.approx(quality, abs=0.002)
    assert (sd < 0.002).all()


def test_of_many_some_choose_how_far_it_varies_and_all_are_learned_from(raw: Floats) -> None:
    quality = bumpy(raw)
    whole = fitted(raw, quality)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("utuning_search.search.surrogate.model.CHOOSING", len(raw) // 2)
        half = fitted(raw, quality)
    assert half.predict(raw)[0] == pytest.approx(quality, abs=0.002), "also those that chose nothing"
    assert half.predict(moved(raw, 1.0))[0] == pytest.approx(whole.predict(moved(raw, 1.0))[0], abs=0.01)


def test_noise_is_smoothed(raw: Floats) -> None:
    """Of noisy measurements it says more of the truth than each of them does."""
    truth = bumpy(raw)
    seen = truth + np.random.default_rng(1).normal(0, 0.03, len(raw))
    mean, sd = fitted(raw, seen, 0.03).predict(raw)
    assert np.abs(mean - truth).mean() < 0.7 * np.abs(seen - truth).mean()
    assert np.abs(mean - seen).mean() > 0.01
    assert (np.abs(mean - truth) < 3 * sd).mean() > 0.9


def test_what_it_was_not_shown_it_predicts_better_than_the_line(raw: Floats) -> None:
    rng, by_kind = np.random.default_rng(2), 0.05 * (raw[:, NAMES.index("parallel")] - 0.5)
    quality = INTERCEPT + SLOPE * raw[:, SIZE] + by_kind + rng.normal(0, 0.005, len(raw))
    mean, _ = fitted(raw[:30], quality[:30], 0.005).predict(raw[30:])
    line, _ = fitted(raw[:30], quality[:30], 0.005).predict(moved(raw[30:], 1e4))
    assert np.abs(mean - quality[30:]).mean() < 0.85 * np.abs(line - quality[30:]).mean()


def test_far_away_it_is_the_line_in_the_size(raw: Floats) -> None:
    quality = INTERCEPT + SLOPE * raw[:, SIZE] + 0.01 * np.random.default_rng(3).normal(size=len(raw))
    far = moved(np.zeros((3, len(NAMES))), 1e4)
    far[:, SIZE] = (0.6, 0.8, 1.0)
    mean, sd = fitted(raw, quality, 0.01).predict(far)
    assert mean[1] - mean[0] == pytest.approx(mean[2] - mean[1]), "a line"
    assert mean == pytest.approx(INTERCEPT + SLOPE * far[:, SIZE], abs=0.02)
    assert sd == pytest.approx(np.full(3, sd[0]))
    again, _ = fitted(raw, quality, 0.01).predict(moved(far, 1e4))
    assert again == pytest.approx(mean), "wherever that is"


def test_trainings_that_failed_make_good_designs_no_less_known(raw: Floats) -> None:
    """The worse they failed, the more a model of least squares would make of them."""
    truth = bumpy(raw)
    rng = np.random.default_rng(4)
    seen = truth + rng.normal(0, 0.01, len(raw))
    failed = np.arange(len(raw)) % 8 == 0
    rest, found = ~failed, []
    for by in (0.15, 0.7):
        mean, sd = fitted(raw, np.where(failed, seen - by, seen), 0.01).predict(raw)
        found.append((np.abs(mean - truth)[rest].mean(), sd[rest].mean()))
        assert (mean[failed] < truth[failed] - 0.03).all(), "they themselves are known to be bad"
    usual = np.abs(fitted(raw[rest], seen[rest], 0.01).predict(raw[rest])[0] - truth[rest]).mean()
    assert found[1] == pytest.approx(found[0], rel=0.1), "how badly is beside the point"
    assert found[0][0] < 2 * usual


def test_a_bare_head_far_below_makes_no_slope_of_the_others(raw: Floats) -> None:
    """It lies far to the left of all, which levels off soon."""
    head = features(Design((), 0.005), SHAPE, 0.005)[None]
    known = np.concatenate([head, raw])
    model = fitted(known, 0.8 - 0.5 * known[:, BARE], 0.01)
    large = moved(raw[raw[:, BARE] < 0.01], 1e4)
    assert len(large) > 10
    assert model.predict(large)[0] == pytest.approx(0.8, abs=0.01)
    assert model.predict(moved(head, 1e4))[0] == pytest.approx(0.3, abs=0.05)


def test_it_knows_less_the_farther_away(raw: Floats) -> None:
    model = fitted(raw, bumpy(raw))
    mean_sd = [float(model.predict(moved(raw, by))[1].mean()) for by in (0.0, 0.5, 2.0, 5.0, 1e4)]
    assert mean_sd == sorted(mean_sd)
    assert mean_sd[0] < 0.2 * mean_sd[-1]
    assert 0.3 * USUAL < mean_sd[-1] < 3 * USUAL


def test_what_says_little_moves_little(raw: Floats) -> None:
    """An observation counts by how sure it is: one that knows nothing leaves all as it was."""
    quality = bumpy(raw)
    odd = quality.copy()
    odd[0] += 0.2
    sd = np.zeros(len(raw))
    without = fitted(raw[1:], quality[1:]).predict(raw[:1])[0][0]
    told = []
    for unsure in (0.0, 0.05, 1.0):
        sd[0] = unsure
        told.append(float(Model(raw, odd, sd, 0.001).predict(raw[:1])[0][0]))
    assert told[0] == pytest.approx(odd[0], abs=0.01)
    assert told[0] > told[1] > told[2]
    assert told[2] == pytest.approx(without, abs=0.005)


def test_it_varies_as_much_as_what_it_was_shown(raw: Floats) -> None:
    """Whether designs differ by much or little decides how sure it is of those that it does not know."""
    wild = np.random.default_rng(4).normal(0, 1, len(raw))
    sds = [float(fitted(raw, 0.7 + spread * wild, 0.01).predict(moved(raw, 1e4))[1][0]) for spread in (0.0, 0.05, 0.2)]
    assert sds == sorted(sds)
    assert sds[2] > 3 * sds[0]


def test_one_trial_and_none_are_enough(raw: Floats) -> None:
    mean, sd = Model(raw[:0], np.zeros(0), np.zeros(0), 0.01).predict(raw[:3])
    assert mean.tolist() == [0.0] * 3
    assert np.isfinite(sd).all()
    mean, _ = fitted(raw[:1], np.array([0.8]), 0.01).predict(raw[:1])
    assert mean == pytest.approx([0.8], abs=0.02)


def test_equal_data_give_equal_models(raw: Floats) -> None:
    one, other = (fitted(raw, bumpy(raw), 0.02).predict(moved(raw, 0.3)) for _ in range(2))
    assert (one[0] == other[0]).all()
    assert (one[1] == other[1]).all()


def test_the_mean_alone_is_that_of_the_prediction(raw: Floats) -> None:
    model = fitted(raw, bumpy(raw), 0.02)
    assert (model.mean(moved(raw, 0.3)) == model.predict(moved(raw, 0.3))[0]).all()


# Of many trials


def test_of_many_trials_it_learns_from_some_but_the_line_from_all(raw: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    quality, none = bumpy(raw), np.zeros(len(raw))
    far = moved(raw, 1e4)
    whole = Model(raw, quality, none, 0.001)
    monkeypatch.setattr(subset, "MOST", 20)
    left = quality - whole.mean(far)  # above the line
    always = left == left.min()
    some, without = Model(raw, quality, none, 0.001, always), Model(raw, quality, none, 0.001)
    for model in (some, without):
        assert model.mean(far) == pytest.approx(whole.mean(far)), "the line"
        assert model.predict(far)[1] == pytest.approx(whole.predict(far)[1], rel=1.5)
        known = np.abs(model.mean(raw) - quality) < 0.002
        assert 20 <= known.sum() < len(raw)
        assert known[np.argsort(-left)[:10]].all(), "the best are among them"
    assert some.mean(raw)[always] == pytest.approx(quality[always], abs=0.002)


def test_what_says_little_is_not_among_the_best(raw: Floats, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a rung that may mean anything."""
    monkeypatch.setattr(subset, "MOST", 10)
    quality, sd = INTERCEPT + SLOPE * raw[:, SIZE], np.zeros(len(raw))
    quality[:10] += 0.05
    sd[:5] = 0.5
    seen = []

    def watched(heights: Floats, always: object) -> object:
        seen.append(heights)
        return telling(heights, always)  # type: ignore[arg-type]  # it is what it is given

    monkeypatch.setattr("utuning_search.search.surrogate.model.telling", watched)
    Model(raw, quality, sd, 0.001)
    assert set(np.argsort(-seen[0])[:5]) == set(range(5, 10))


def test_next_to_a_bare_head_designs_vary_more(raw: Floats) -> None:
    """By half of what a bare head lacks; elsewhere as much as before."""
    lacks = 0.3
    quality = 0.7 - lacks * raw[:, BARE]
    bare = matrix([Design()], SHAPE, 0.005)
    model = fitted(np.concatenate([raw, bare]), np.append(quality, 0.7 - lacks), 0.01)
    far = moved(np.concatenate([bare, bare, bare]), 1e4)
    far[:, BARE] = (1.0, 0.5, 0.0)
    sd = model.predict(far)[1]
    usual = float(model._process.variance)
    assert sd == pytest.approx(np.sqrt(usual + (0.5 * lacks * far[:, BARE]) ** 2), rel=0.1)
    one = model.draws(far[:1], 4000, np.random.default_rng(0))
    assert one.std() == pytest.approx(sd[0], rel=0.05)


def test_a_small_design_that_is_better_than_the_line_is_no_word_on_larger_ones() -> None:
    """As on an ImageNet ViT-Ti: of an edit that is five times as large it said three points too much."""
    shape = replace(SHAPE, dim=192, depth=12, num_heads=3, hidden=768, hidden_in=768)
    placed = [Placement("norm1", ScaleShiftConfig()), Placement("norm2", ScaleShiftConfig())]
    large = [Placement(o, ScaleShiftConfig(), blocks=b) for o, b in (("fc1", "all"), ("fc2", "7-12"), ("proj", "all"))]
    known = [Design(), Design(tuple(placed)), *(Design((*placed, p)) for p in large), Design(tuple(large))]
    small = Design(
        (Placement("v", ScaleShiftConfig(), blocks="1-4"), Placement("mlp", ScaleShiftConfig(), blocks="12"))
    )
    edited = Design((*small.placements, Placement("fc1", ScaleShiftConfig(), blocks="1-4")))
    quality = np.array([0.38, 0.68, 0.705, 0.70, 0.70, 0.70])
    with_it, without = [], []
    for said, designs, measured in ((without, known, quality), (with_it, [*known, small], np.append(quality, 0.647))):
        found = matrix([d.resolve(shape.depth) for d in designs], shape, 0.005)
        mean, _ = Model(found, measured, np.zeros(len(measured)), 0.009).predict(
            matrix([edited.resolve(shape.depth)], shape, 0.005)
        )
        said.append(float(mean[0]))
    assert with_it[0] < without[0] + 0.01
