"""Trials named by what one wants of them, in studies of any objectives; tables and pictures go by them too."""

from pathlib import Path

import pytest

from utuning_search.common.errors import InputError, StudyError
from utuning_search.designs.design import Design
from utuning_search.results.finalists import choose, finalists_of, strongest_presets
from utuning_search.results.pick import pick_trial
from utuning_search.results.pictures.front import draw_front, save_front
from utuning_search.results.tables import front_table, table
from utuning_search.search.objectives.registry import USUAL, Objectives
from utuning_search.search.trials import TrialRecord, front_of
from utuning_search.testing.pretend import SETTING, SHAPE, PretendStudy

THREE = Objectives(("macro_f1", "parameters", "flops"))
SETS = [USUAL, THREE, Objectives(("balanced_accuracy",)), Objectives(("latency", "accuracy", "flops", "parameters"))]
every_set = pytest.mark.parametrize("objectives", SETS, ids=lambda o: "+".join(o.names))


def played(objectives: Objectives) -> list[TrialRecord]:
    return PretendStudy(objectives=objectives).play(30)


@every_set
def test_picks_are_of_the_front(objectives: Objectives) -> None:
    records = played(objectives)
    best, quality = front_of(records, objectives), objectives.quality
    assert pick_trial(records, "best", objectives).values[quality.name] == max(r.values[quality.name] for r in best)
    assert pick_trial(records, "knee", objectives) in best
    assert pick_trial(records, f"trial={best[0].number}", objectives) == best[0]


@every_set
def test_a_limit_on_any_objective_gives_the_best_within(objectives: Objectives) -> None:
    records = played(objectives)
    best = front_of(records, objectives)
    for known in objectives:
        bound = "max" if known.direction == "minimize" else "min"
        values = sorted(r.values[known.name] for r in best)
        limit = values[len(values) // 2]
        text = f"{limit:.0f}" if known.exact else repr(limit)
        found = pick_trial(records, f"{bound}-{known.name}={text}", objectives)
        fitting = [r for r in best if known.gain(r.values[known.name]) >= known.gain(limit)]
        assert found in fitting
        if known.name != objectives.quality.name:
            quality = objectives.quality.name
            assert found.values[quality] == max(r.values[quality] for r in fitting)
        beyond = "max" if bound == "min" else "min"
        with pytest.raises(InputError, match="pick is best, knee"):
            pick_trial(records, f"{beyond}-{known.name}={text}", objectives)


def test_limits_that_nothing_keeps_say_what_there_is() -> None:
    records = played(THREE)
    least = min(r.values["flops"] for r in front_of(records, THREE))
    with pytest.raises(StudyError, match=rf"at most 1000 FLOPs; got the smallest has {least:.0f}"):
        pick_trial(records, "max-flops=1k", THREE)
    with pytest.raises(StudyError, match=r"at least 0\.999 macro_f1"):
        pick_trial(records, "min-macro_f1=0.999", THREE)
    with pytest.raises(InputError, match="max-params"):
        pick_trial(records, "max-size=3", THREE)


@every_set
def test_choices_are_spread_over_the_front(objectives: Objectives) -> None:
    records = played(objectives)
    best = front_of(records, objectives)
    for top in (1, 3, len(best)):
        chosen = choose(records, top, objectives, SETTING)
        assert len(chosen) == min(top, len(best))
        assert [r.number for r in best if r in chosen] == [r.number for r in chosen]
    assert pick_trial(records, "best", objectives) in choose(records, 1, objectives, SETTING)
    known = strongest_presets(records, objectives=objectives)
    assert {r.preset for r in known} == {"linear-probe", "adapter"}


def test_a_known_method_at_another_rate_is_no_design_of_the_search() -> None:
    records, method, own = played(USUAL), Design.preset("ssf", learning_rate=0.02), Design.preset("lora", rank=3)
    found = finalists_of([d.resolve(SHAPE.depth) for d in (method, own)], records, USUAL, SETTING, {})
    assert {f.design.learning_rate: f.preset for f in found} == {0.02: "ssf:learning_rate=0.02", None: ""}


@every_set
def test_tables_have_a_column_an_objective(objectives: Objectives) -> None:
    records = played(objectives)
    frame, best = table(records), front_table(records, SHAPE.depth, objectives)
    for name in objectives.names:
        assert name in frame
        assert list(best[name]) == [r.values[name] for r in front_of(records, objectives)]
    assert list(frame.columns[:7]) == ["trial", "state", "key", "design", "preset", "parameters", "accuracy"]
    assert [c for c in frame.columns if c.startswith("accuracy_epoch_")] == list(frame.columns[-4:])


@every_set
def test_pictures_have_a_panel_an_objective(objectives: Objectives, tmp_path: Path) -> None:
    records = played(objectives)
    figure = draw_front(records, objectives=objectives)
    assert len(figure.axes) == max(len(objectives) - 1, 1)
    for axes, other in zip(figure.axes, [o for o in objectives if o.name != objectives.quality.name], strict=False):
        assert axes.get_xlabel().startswith(other.label)
        assert axes.get_ylabel().startswith(objectives.quality.label)
        assert axes.get_xscale() == ("log" if other.log else "linear")
    save_front(records, tmp_path / "front.png", objectives=objectives)
    assert (tmp_path / "front.png").stat().st_size > 10_000
