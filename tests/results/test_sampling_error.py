"""A front's sampling error: intervals of its accuracies, and who stands within them."""

import json
from pathlib import Path

import pytest

from utuning_search.designs.design import Design
from utuning_search.results.pictures.front import draw_front
from utuning_search.results.sampling_error import interval_of, near_front, validation_images
from utuning_search.results.statistics.wilson import wilson
from utuning_search.results.tables import front_table
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord

DEPTH = 12


def trial(number: int, parameters: int, accuracy: float, state: str = "complete", **values: float) -> TrialRecord:
    design = Design(learning_rate=(number + 1) / 1e4).resolve(DEPTH)
    known = {"accuracy": accuracy, "parameters": float(parameters), **values}
    return TrialRecord(number, state, design.key, design, "", parameters, accuracy, 1, 0.0, {}, None, "", values=known)


# On 400 images 0.90 reaches up to 0.926, 0.80 up to 0.836.
RECORDS = [
    trial(0, 100, 0.80),
    trial(1, 200, 0.90),
    trial(2, 300, 0.88),  # up to 0.908
    trial(3, 300, 0.86),  # up to 0.890: no
    trial(4, 150, 0.77),  # up to 0.808, and nothing as small is better than 0.80
    trial(5, 150, 0.76),  # up to 0.799: no
    trial(6, 300, 0.89, "pruned"),
]


def test_those_whose_interval_reaches_the_front_are_within_its_error() -> None:
    assert [r.number for r in near_front(RECORDS, 400)] == [2, 4]
    for record in RECORDS[2:6]:
        best = 0.90 if record.parameters >= 200 else 0.80
        assert (wilson(record.accuracy or 0, 400)[1] >= best) == (record in near_front(RECORDS, 400))
    assert near_front(RECORDS, 20_000) == []
    assert near_front(RECORDS, None) == []
    assert near_front([*RECORDS, trial(2, 300, 0.88)], 400) == [RECORDS[2], RECORDS[4]], "each design once"


def test_no_larger_means_as_good_in_every_other_objective() -> None:
    three = Objectives(("accuracy", "parameters", "flops"))
    records = [
        trial(0, 100, 0.90, flops=9.0),
        trial(1, 200, 0.89, flops=9.0),
        trial(2, 300, 0.90, flops=1.0),
        trial(3, 100, 0.50, flops=9.0),
    ]
    assert [r.number for r in near_front(records, 400, three)] == [1]
    assert near_front(records, 400, Objectives(("macro_f1", "parameters"))) == []


def test_the_table_of_the_front_has_its_intervals() -> None:
    frame = front_table(RECORDS, DEPTH, images=400)
    columns = list(frame.columns)
    at = columns.index("accuracy")
    assert columns[at + 1 : at + 3] == ["accuracy_low", "accuracy_high"]
    assert frame["accuracy_low"].tolist() == pytest.approx([wilson(0.80, 400)[0], wilson(0.90, 400)[0]])
    assert frame["accuracy_high"].tolist() == pytest.approx([wilson(0.80, 400)[1], wilson(0.90, 400)[1]])
    assert front_table(RECORDS, DEPTH)["accuracy_low"].isna().all()
    assert interval_of(RECORDS[0], None) is None


def test_the_picture_shows_them_lightly() -> None:
    figure = draw_front(RECORDS, images=400)
    (axes,), (legend,) = figure.axes, figure.legends
    said = [text.get_text() for text in legend.get_texts()]
    assert "near the front (2)" in said
    assert "95% over images" in said
    low, high = axes.get_ylim()
    assert high > 100 * wilson(0.90, 400)[1], "whole bars are seen"
    assert low < 100 * wilson(0.80, 400)[0]
    (legend,) = draw_front(RECORDS).legends
    assert not [text for text in legend.get_texts() if "95%" in text.get_text() or "near" in text.get_text()]


def test_validation_images_are_those_that_were_read(tmp_path: Path) -> None:
    study = Study.create("smoke", "digits", name="s", studies_dir=tmp_path)
    path = study.folder / "splits.json"
    index = json.loads(path.read_text())
    assert validation_images(study) == len(index["validation"]["indices"]) == study.spec.task.data.validation
    index["validation"]["indices"] = index["validation"]["indices"][:-7]
    path.write_text(json.dumps(index))
    assert validation_images(study) == study.spec.task.data.validation - 7
    path.unlink()
    assert validation_images(study) == study.spec.task.data.validation
