"""What finals are compared by: the score is scikit-learn's, and statistics of its parts hold their level."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score

from utuning_search.common.errors import InputError, StudyError
from utuning_search.designs.design import Design
from utuning_search.results import metrics
from utuning_search.results.calibration import BINS, Calibration, calibration
from utuning_search.results.finalists import Finalist
from utuning_search.results.finals import Confirmation, Final, judge
from utuning_search.results.outcomes import Outcome
from utuning_search.results.pictures.calibration import draw_calibration, save_calibration
from utuning_search.results.predictions import keep_confidences, read_confidences
from utuning_search.results.statistics.components import Components
from utuning_search.results.statistics.paired import DOUBT, compare, doubt, intervals
from utuning_search.results.words import compared
from utuning_search.search.defaults import METRICS
from utuning_search.search.objectives.classification import SHARES
from utuning_search.search.objectives.registry import Objectives

Classes = npt.NDArray[np.int64]
UNEQUAL = np.repeat([0, 1, 2], [200, 30, 12])


def answers(draw: np.random.Generator, labels: Classes, recalls: tuple[float, ...], seeds: int = 3) -> Classes:
    """(seeds, images): right with the recall of their class, by how hard an image is; else any class."""
    hard = draw.random(len(labels))
    wrong = draw.integers(0, len(recalls), (seeds, len(labels)))
    luck = 0.15 * draw.standard_normal((seeds, len(labels)))
    found: Classes = np.where(hard + luck < np.array(recalls)[labels], labels, wrong)
    return found


def test_the_help_names_what_there_is() -> None:
    assert tuple(SHARES) == METRICS
    assert metrics.metric_of(Objectives(("macro_f1", "parameters"))) == "macro_f1"
    assert metrics.metric_of(Objectives(("latency",))) == "accuracy"
    with pytest.raises(InputError, match=r"--metric: it is one of .*; got 'macro-f1'. Did you mean 'macro_f1'"):
        metrics.checked("macro-f1")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("absent", [False, True], ids=["", "a class is answered that is not there"])
def test_what_answers_add_is_the_score(metric: str, absent: bool) -> None:
    predictions = answers(np.random.default_rng(0), UNEQUAL, (0.9, 0.6, 0.4, 0.5) if absent else (0.9, 0.6, 0.4))
    added, strata = metrics.added(metric, UNEQUAL, predictions), metrics.strata(metric, UNEQUAL)
    groups = [np.ones(len(UNEQUAL), dtype=bool)] if strata is None else [strata == s for s in np.unique(strata)]
    for row, given in zip(added, predictions, strict=True):
        score = metrics.score(metric, UNEQUAL, given)
        assert np.mean([row[rows].mean() for rows in groups]) == pytest.approx(score)
    scores = [metrics.score(metric, UNEQUAL, given) for given in predictions]
    assert Components([added], strata).means[0] == pytest.approx(np.mean(scores))


def test_an_answer_adds_to_f1_what_its_weight_changes() -> None:
    (given,) = answers(np.random.default_rng(1), UNEQUAL, (0.9, 0.5, 0.4), seeds=1)
    (added,) = metrics.added("macro_f1", UNEQUAL, given[None])
    score, images = metrics.score("macro_f1", UNEQUAL, given), len(UNEQUAL)
    for i in (0, 5, 199, 210, 240, 241):
        weights = np.ones(images)
        weights[i] += 1e-4
        change = (f1_score(UNEQUAL, given, average="macro", sample_weight=weights) - score) / 1e-4
        size = (UNEQUAL[i] == UNEQUAL).sum()
        assert added[i] == pytest.approx(3 * size / images * (score + images * change), abs=1e-3)


# Statistics


def test_one_stratum_is_none() -> None:
    draw = np.random.default_rng(2)
    found = [draw.random((3, 50)) < share for share in (0.8, 0.7)]
    plain, one = Components(found), Components(found, np.zeros(50, dtype=np.int64))
    assert plain.pair(0, 1) == one.pair(0, 1)
    assert plain.single(0) == one.single(0)


def test_variances_of_strata_are_those_by_hand() -> None:
    """Of two designs with one seed each: four images of a class, three of another, one of a third."""
    labels = np.repeat([0, 1, 2], [4, 3, 1])
    a = np.array([[1, 1, 0, 1, 1, 0, 1, 1]], dtype=bool)
    b = np.array([[1, 0, 0, 0, 1, 1, 1, 1]], dtype=bool)
    made = Components([a, b], labels)
    assert made.means.tolist() == pytest.approx([(3 / 4 + 2 / 3 + 1) / 3, (1 / 4 + 1 + 1) / 3])
    apart = a[0].astype(float) - b[0]
    parts = np.array(
        [(apart[:4].var(ddof=1) + 1 / 3) / 4, (apart[4:7].var(ddof=1) + 1 / 2) / 3, 1.0]  # of one image all is open
    )
    variance, freedom = made.pair(0, 1)
    assert variance == pytest.approx(parts.sum() / 9)
    assert freedom == pytest.approx((parts.sum() / 9) ** 2 / ((parts / 9) ** 2 / [3, 2, 1]).sum())


def test_classes_of_one_image_tell_nothing() -> None:
    """However many a large class has."""
    labels = np.repeat([0, 1, 2], [2000, 1, 1])
    good = np.tile(labels, (3, 1))
    bad = good.copy()
    bad[:, -2:] = 0
    (found,) = compare({"a": good == labels, "b": bad == labels}, labels)
    assert found.difference == pytest.approx(2 / 3)
    assert found.verdict == "cannot be told apart"


@pytest.mark.parametrize("metric", METRICS[1:])
def test_equal_designs_are_told_apart_in_one_family_of_twenty_at_most(metric: str) -> None:
    """Six designs with three seeds each on unbalanced images."""
    draw, strata = np.random.default_rng(5), metrics.strata(metric, UNEQUAL)
    repeats, alarms = 150, 0
    for _ in range(repeats):
        family = [metrics.added(metric, UNEQUAL, answers(draw, UNEQUAL, (0.9, 0.6, 0.5))) for _ in range(6)]
        made = Components(family, strata)
        for i, j in combinations(range(6), 2):
            variance, freedom = made.pair(i, j)
            ratio = abs(made.means[i] - made.means[j]) / variance**0.5
            if ratio > 2.7 and doubt(ratio, 6, freedom) < DOUBT:
                alarms += 1
                break
    assert alarms / repeats <= 0.05 + 2 * (0.05 * 0.95 / repeats) ** 0.5


def test_a_better_design_is_seen() -> None:
    draw = np.random.default_rng(6)
    for metric in METRICS:
        pair = {name: answers(draw, UNEQUAL, recalls) for name, recalls in (("a", (0.99,) * 3), ("b", (0.7, 0.3, 0.1)))}
        strata = metrics.strata(metric, UNEQUAL)
        (found,) = compare({k: metrics.added(metric, UNEQUAL, v) for k, v in pair.items()}, strata)
        assert found.verdict == "better", metric


# Finals


def final(parameters: int, predictions: Classes, labels: Classes, confidences: npt.NDArray[np.float64]) -> Final:
    design = Design(learning_rate=parameters / 1e6)
    who = Finalist(design, parameters, parameters, "", "", 0.5, parameters, True)
    made = tuple(
        Outcome(design.key, {}, i, 1, True, "", len(labels), "cpu", "fp32", float((row == labels).mean()))
        for i, row in enumerate(predictions)
    )
    return Final(who, made, predictions, labels, confidences)


def test_verdicts_are_of_the_metric_that_is_asked_for() -> None:
    """One answers the large class always, the other knows the small one and is wrong a little more often."""
    labels = np.repeat([0, 1], [900, 60])
    large, fair = np.zeros((2, 960), dtype=np.int64), np.tile(labels, (2, 1))
    fair[:, :150] = 1
    sure = np.full((2, 960), 0.9)
    given = [final(100, large, labels, sure), final(200, fair, labels, sure)]
    found = {}
    for metric in METRICS:
        judged, pairs = judge(given, metric)
        found[metric] = Confirmation(judged, 1, True, 960, ("a", "b"), pairs, metric=metric)
        for own in judged:
            assert own.predictions is not None
            assert own.mean == pytest.approx(metrics.score(metric, labels, own.predictions[0]))
            assert (own.interval or (1, 0))[0] <= (own.mean or 0) <= (own.interval or (1, 0))[1]
    assert found["accuracy"].finals[1].beaten_by
    assert not found["balanced_accuracy"].finals[1].beaten_by
    (pair,) = found["balanced_accuracy"].comparisons
    assert pair.seen_from(found["accuracy"].finals[1].key).verdict == "better"
    assert "by 41.7 points of balanced accuracy (95%: " in compared(pair.seen_from(pair.b), "it")
    assert "points (95%" in compared(found["accuracy"].comparisons[0], "it")
    row = found["balanced_accuracy"].finals[0].to_dict()
    assert (row["metric"], row["test_mean"], row["test_accuracy"]) == ("balanced_accuracy", 0.5, 900 / 960)
    assert "test_accuracy" not in found["accuracy"].finals[0].to_dict()


def test_without_predictions_what_was_measured_counts() -> None:
    labels = np.zeros(4, dtype=np.int64)
    made = final(100, np.zeros((2, 4), dtype=np.int64), labels, np.ones((2, 4)))
    old = replace(made, predictions=None, metric="macro_f1")
    assert old.mean is None, "nobody kept it"
    outcomes = tuple(replace(o, others={"macro_f1": 0.25}) for o in old.outcomes)
    assert replace(old, outcomes=outcomes).mean == 0.25


# Calibration


def test_the_error_is_by_hand() -> None:
    """Two answers at 0.95 of which one is right, two at 0.55 of which both are."""
    found = calibration(np.array([[0.95, 0.95, 0.55, 0.55]]), np.array([[True, False, True, True]]))
    assert found.error == pytest.approx((2 * 0.45 + 2 * 0.45) / 4)
    assert found.answers.sum() == 4
    assert found.answers[-1] == 2, "0.95 is in the last of 15"
    two = calibration(np.array([[1.0, 1.0], [0.0, 0.0]]), np.array([[True, True], [True, True]]))
    assert two.error == pytest.approx(0.5), "of each seed"
    assert two.answers[[0, -1]].tolist() == [2, 2]


def test_bins_are_scikit_learns() -> None:
    draw = np.random.default_rng(4)
    sure = draw.random((3, 500))
    right = draw.random((3, 500)) < sure
    found = calibration(sure, right)
    shares, means = calibration_curve(right.ravel(), sure.ravel(), n_bins=BINS)
    assert found.accuracy.tolist() == pytest.approx(shares.tolist())
    assert found.confidence.tolist() == pytest.approx(means.tolist())
    assert found.error < calibration(sure, draw.random((3, 500)) < sure**3).error


def test_the_diagram_shows_bins_with_answers(tmp_path: Path) -> None:
    found = calibration(np.array([[0.95, 0.9, 0.3]]), np.array([[True, False, True]]))
    figure = draw_calibration(found, "a design")
    axes, below = figure.axes
    assert len(axes.patches) == 3
    assert sum(bar.get_height() for bar in below.patches) == pytest.approx(100)  # type: ignore[attr-defined]  # bars
    assert "error 55.0 points" in axes.get_title()  # 0.05 and 0.9 off, and 0.7
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert not legend.get_window_extent().overlaps(axes.get_window_extent()), "no bar can be where the key is"
    nothing = Calibration(found.edges, 0 * found.answers, 0 * found.confidence, 0 * found.accuracy, 0.0)
    save_calibration(nothing, "nothing", tmp_path / "nothing.png")
    assert (tmp_path / "nothing.png").read_bytes().startswith(b"\x89PNG")


def test_confidences_are_kept_beside_their_outcome(tmp_path: Path) -> None:
    (tmp_path / "finals").mkdir()
    outcome = Outcome("k", {}, 0, 2, True, "", 3, "cpu", "fp32", 0.5)
    assert read_confidences(tmp_path, [outcome]) is None, "of an older version"
    keep_confidences(tmp_path, outcome, np.array([0.5, 1.0, 0.25], dtype=np.float32))
    found = read_confidences(tmp_path, [outcome])
    assert found is not None
    assert found.tolist() == [[0.5, 1.0, 0.25]]
    (path,) = (tmp_path / "finals").iterdir()
    for spoilt in (b"nothing", np.array([0.5], dtype=np.float32), np.array([2, 0, 0], dtype=np.float32)):
        path.write_bytes(spoilt) if isinstance(spoilt, bytes) else np.save(path, spoilt)
        with pytest.raises(StudyError, match=r"it holds a probability for each test image; got .* Remove it"):
            read_confidences(tmp_path, [outcome])


def test_intervals_of_strata_are_within_bounds() -> None:
    labels = np.repeat([0, 1], [5, 1])
    ((low, high),) = intervals({"a": np.ones((2, 6), dtype=bool)}, labels).values()
    assert 0 <= low < high == 1
