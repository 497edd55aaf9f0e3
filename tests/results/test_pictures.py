"""Pictures of fronts: a panel an objective, whatever a study weighs, and what is said once."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from utuning_search.designs.presets import title_of
from utuning_search.results.pictures.figure import Look
from utuning_search.results.pictures.front import draw_front
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.trials import TrialRecord, front_of
from utuning_search.testing.pretend import PretendStudy

TITLE = "smoke on digits"
PARAMETERS, FLOPS = "trainable parameters, head included", "FLOPs an image, merged"


def drawn(*names: str) -> tuple[Figure, list[TrialRecord], Objectives]:
    objectives = Objectives(names)
    study = PretendStudy(objectives=objectives)
    study.play(12)
    records = study.scheduler.records()
    return draw_front(records, Look(TITLE), objectives), records, objectives


@pytest.mark.parametrize(
    ("names", "across", "up"),
    [
        (("accuracy", "parameters"), [PARAMETERS], "validation accuracy (%)"),
        (("accuracy", "flops", "parameters"), [FLOPS, PARAMETERS], "validation accuracy (%)"),
        (
            ("parameters", "macro_f1", "latency"),
            [PARAMETERS, "latency (ms an image, merged)"],
            "validation macro F1 (%)",
        ),
        (("accuracy",), ["trial"], "validation accuracy (%)"),
    ],
    ids=["usual", "three", "another quality", "one"],
)
def test_a_panel_for_each_other_objective(names: tuple[str, ...], across: list[str], up: str) -> None:
    figure, records, objectives = drawn(*names)
    assert [a.get_xlabel() for a in figure.axes] == across
    assert {a.get_ylabel() for a in figure.axes} == {up}
    assert [a.get_xscale() for a in figure.axes] == ["linear" if label == "trial" else "log" for label in across]
    said = [figure.get_suptitle(), *(a.get_title() for a in figure.axes)]
    assert [text for text in said if text] == [TITLE]
    (legend,) = figure.legends
    best = front_of(records, objectives)
    assert f"Pareto front ({len(best)})" in [text.get_text() for text in legend.get_texts()]
    heights = [100 * r.values[objectives.quality.name] for r in best]
    for axes in figure.axes:
        drawn_at = np.concatenate([np.asarray(c.get_offsets())[:, 1] for c in axes.collections])
        assert np.isclose(drawn_at[:, None], heights).any(axis=0).all(), "points of the front, in per cent"


def test_names_of_known_methods_stand_in_every_panel() -> None:
    figure, records, _ = drawn("accuracy", "flops", "parameters")
    names = {title_of(r.preset) for r in records if r.preset and r.state == "complete" and r.reused is None}
    assert names
    for axes in figure.axes:
        assert names <= {text.get_text() for text in axes.texts}


def test_a_study_without_trials_is_an_empty_picture() -> None:
    figure = draw_front([], Look(TITLE))
    assert figure.get_suptitle() == TITLE
    assert not figure.legends
