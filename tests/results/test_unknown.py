"""Exports that may answer "unknown": the threshold is chosen on validation images, kept, and used."""

import csv
import io
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utuning_search import load_tuned
from utuning_search.common.errors import InputError, StudyError
from utuning_search.results.classifier import TunedClassifier
from utuning_search.results.exports.tuner import export_trial, load_trial
from utuning_search.results.exports.unknown import threshold_of
from utuning_search.results.threshold import Threshold
from utuning_search.search.trials import TrialRecord
from utuning_search.training.context import load_search

from ..cli.commands import command
from .conftest import Few

RATE = 0.2


def confirmed(few: Few) -> TrialRecord:
    trial = next(f.finalist.trial for f in few.found.finals if f.finalist.trial is not None)
    return next(r for r in few.study.trials() if r.number == trial)


@pytest.fixture(scope="module")
def exported(few: Few, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TunedClassifier]:
    out = tmp_path_factory.mktemp("exports") / "tuner"
    export_trial(few.study, confirmed(few), out, unknown=RATE)
    return out, load_tuned(out)


@pytest.fixture(scope="module")
def digits(few: Few, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validation images as files."""
    folder = tmp_path_factory.mktemp("digits")
    for i, image in enumerate(load_search(few.study.spec.task, few.data_dir).data.validation.images):
        Image.fromarray(image[0].numpy()).save(folder / f"{i:02}.png")
    return folder


def test_a_share_of_the_validation_images_is_below_it(
    few: Few, exported: tuple[Path, TunedClassifier], digits: Path
) -> None:
    out, model = exported
    found = model.predict(sorted(digits.iterdir()))
    assert int((~found.known).sum()) == RATE * 60
    sure = found.probabilities.amax(dim=1)
    assert sure[~found.known].max() < sure[found.known].min()
    table = tomllib.loads((out / "tuner.toml").read_text())["unknown"]
    assert (table["rate"], table["images"], table["trained_on"]) == (RATE, 60, False)
    final = next(f for f in few.found.finals if f.key == confirmed(few).key)
    assert final.confidences is not None
    assert table["test_rate"] == pytest.approx((final.confidences[0] < table["probability"]).mean())
    readme = (out / "README.md").read_text()
    assert f"- An image is unknown below a probability of {table['probability']:.4f}: at most 20% of the 60" in readme
    assert f"; of the test images {100 * table['test_rate']:.1f}%: `model.predict(...).known`" in readme


def test_without_a_threshold_all_is_known(few: Few, tmp_path: Path, digits: Path) -> None:
    export_trial(few.study, confirmed(few), tmp_path / "out")
    assert "unknown" not in tomllib.loads((tmp_path / "out" / "tuner.toml").read_text())
    model = load_tuned(tmp_path / "out")
    assert model.threshold is None
    assert model.predict(sorted(digits.iterdir())).known.all()
    assert len(model.predict([]).known) == 0
    said = command("predict", str(tmp_path / "out"), str(digits), "--unknown")
    assert said.code == 2
    assert (
        "--unknown: the export keeps a threshold for it; got none. Export it again: utuning-search export" in said.err
    )


@pytest.mark.parametrize("rate", [0.001, 0.5, 0.99])
def test_no_more_than_the_rate_is_below_it(few: Few, rate: float) -> None:
    loaded = load_trial(few.study, confirmed(few)).model
    chosen = threshold_of(few.study, confirmed(few), loaded, rate)
    images = load_search(few.study.spec.task, few.data_dir).data.validation.images
    sure = loaded.predict(images).probabilities.amax(dim=1).double()
    assert int((sure < chosen.probability).sum()) == int(rate * 60)


def test_what_cannot_be_a_threshold_is_refused(few: Few, exported: tuple[Path, TunedClassifier]) -> None:
    _, model = exported
    for rate in (0.0, 1.0, -0.1):
        with pytest.raises(InputError, match="--unknown: it is a share above 0 and below 1"):
            threshold_of(few.study, confirmed(few), model, rate)
    odd = TunedClassifier(model.model, model.preprocessing, ("unknown", *model.classes[1:]))
    with pytest.raises(StudyError, match="no class is called 'unknown'; got one is"):
        threshold_of(few.study, confirmed(few), odd, RATE)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("probability = 1.5", "unknown, probability: probability is from 0 to 1; got 1.5"),
        ('probability = "x"', "unknown, probability: this is of type float"),
        ("", "unknown: probability is given; got nothing"),
    ],
)
def test_a_damaged_threshold_is_refused(
    line: str, message: str, exported: tuple[Path, TunedClassifier], tmp_path: Path
) -> None:
    for path in exported[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    text = (tmp_path / "tuner.toml").read_text()
    (old,) = [part for part in text.splitlines() if part.startswith("probability = ")]
    (tmp_path / "tuner.toml").write_text(text.replace(old, line))
    with pytest.raises(InputError, match=message):
        load_tuned(tmp_path)


def test_what_weights_have_seen_is_said() -> None:
    """Validation images that finals train on flatter; what a later version adds does no harm."""
    said = str(Threshold(0.5, 0.05, 100, True))
    assert said == (
        "an image is unknown below a probability of 0.5000: at most 5% of the 100 validation images, which these "
        "weights were trained on, are"
    )
    table = {**Threshold(0.5, 0.05, 100, False, 0.25).to_dict(), "later": 1}
    assert Threshold.from_dict(table, "here").test_rate == 0.25
    assert "test_rate" not in Threshold(0.5, 0.05, 100, False).to_dict()


# Commands


def test_commands_answer_unknown(few: Few, digits: Path, tmp_path: Path) -> None:
    out, picked = tmp_path / "out", f"trial={confirmed(few).number}"
    place = ("--studies-dir", str(few.studies), "--pick", picked, "--out", str(out))
    said = command("export", "few", "--unknown", "0.2", *place)
    assert (said.code, said.err) == (0, "")
    assert "An image is unknown below a probability of" in said.out
    sure = load_tuned(out).predict(sorted(digits.iterdir()))
    odd = {i for i, known in enumerate(sure.known.tolist()) if not known}
    given = ("predict", str(out), str(digits), "--top", "2")
    told = command(*given, "--unknown", "--format", "csv").out
    answers = list(csv.DictReader(io.StringIO(told)))
    assert {i for i, row in enumerate(answers) if row["class"] == "unknown"} == odd
    plain = list(csv.DictReader(io.StringIO(command(*given, "--format", "csv").out)))
    assert [row["class"] for row in plain] == list(sure.names)
    assert [r["probability"] for r in plain] == [r["probability"] for r in answers]
    objects = json.loads(command(*given, "--unknown", "--format", "json").out)
    assert {i for i, found in enumerate(objects) if found["class"] == "unknown" and found["label"] is None} == odd
    assert [found["top"][0]["class"] for found in objects] == list(sure.names)
    assert command(*given, "--unknown").out.count("unknown") == len(odd)


def test_options_are_refused_before_a_study_is_opened() -> None:
    said = command("export", "nowhere", "--unknown", "--format", "torch")
    assert (said.code, "--unknown: it goes with --format tuner or hub; got --format torch" in said.err) == (2, True)
    said = command("export", "nowhere", "--unknown", "5")
    assert (said.code, "it is a share above 0 and below 1; got 5.0" in said.err) == (2, True)


def test_the_hub_format_keeps_it_too(few: Few, tmp_path: Path) -> None:
    hub = pytest.importorskip("utuning_search.results.exports.hub")
    hub.export(few.study, confirmed(few), tmp_path / "hub", unknown=RATE)
    table = tomllib.loads((tmp_path / "hub" / "tuner.toml").read_text())
    assert np.isclose(table["unknown"]["rate"], RATE)
    assert "An image is unknown below a probability" in (tmp_path / "hub" / "README.md").read_text()
