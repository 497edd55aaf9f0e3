"""Finals: functions of (spec, design, seed), never lost, and the test split read nowhere else."""

import contextlib
import csv
import importlib
import io
import json
import math
import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from PIL import Image
from rich.console import Console
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score

from utuning_search import confirm
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.cli.main import main
from utuning_search.common.errors import DataError, StudyError
from utuning_search.common.seeds import derive_seed
from utuning_search.data.decoded import FinalData
from utuning_search.data.digits import TEST as DIGITS_TEST
from utuning_search.designs.design import Design
from utuning_search.designs.presets import title_of
from utuning_search.results.confirm import Progress
from utuning_search.results.exports.tuner import export_trial
from utuning_search.results.finalists import Finalist, choose, strongest_presets
from utuning_search.results.finals import Confirmation, Final, judge
from utuning_search.results.outcomes import Outcome, confirmed_metrics, read_outcome
from utuning_search.results.pictures.confusion import draw_confusion, save_confusion
from utuning_search.results.pictures.finals import draw_finals, save_finals
from utuning_search.results.predictions import read_labels
from utuning_search.results.remeasure import Again, flattery, remeasure
from utuning_search.results.statistics.paired import Comparison
from utuning_search.results.tables import finals_table, write_finals
from utuning_search.results.verdicts import kept_advice
from utuning_search.results.words import advice, against, compared, readings, resolution, rival, smallest_equal
from utuning_search.search.budget import Budget
from utuning_search.search.callbacks.base import Callback, FinalRecord, Started
from utuning_search.search.layout import IMAGES
from utuning_search.search.objectives.base import Setting
from utuning_search.search.objectives.registry import USUAL
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord
from utuning_search.testing.pretend import SHAPE
from utuning_search.training import full as full_training
from utuning_search.training import trainer
from utuning_search.training.workers import Lost

optuna.logging.set_verbosity(optuna.logging.ERROR)

PACKAGE = Path(__file__).parents[2] / "utuning_search"
CLASSES, TRAIN, TEST = (0, 1, 3), 20, 12  # images a class
TASK = """
name = "tiny"
[backbone]
name = "glyph_vit"
[data]
source = "imagefolder"
root = "photos"
proxy = 30
validation = 20
[training]
epochs = 2
batch_size = 20
"""
SPACE = """
name = "mini"
presets = ["linear-probe"]
[[slots]]
name = "mlp"
operation = "mlp"
tuner = ["none", "norm", "adapter"]
form = "parallel"
rank = [1, 2]
blocks = ["all", "last 1"]
"""
PRESET = "lora:rank=1"
COLUMNS = [
    "key",
    "design",
    "preset",
    "nearest",
    "parameters",
    "tuner_parameters",
    "test_mean",
    "test_sd",
    "test_se",
    "test_low",
    "test_high",
    "seeds",
    "validation",
    "test_minus_validation",
    "validation_again",
    "seconds",
    "memory_mb",
    "inference_ratio",
    "survives",
    "beaten_by",
]


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """Inference is timed over fewer turns: no test looks at how precisely."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_training, "MOST_ROUNDS", 2)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, a task and a space, and a study on them; tests copy it before they change it."""
    root = tmp_path_factory.mktemp("confirm")
    digits = load_digits()
    for label in CLASSES:
        found = digits.images[digits.target == label][: TRAIN + TEST]
        for i, pixels in enumerate(found):
            path = root / "photos" / ("train" if i < TRAIN else "test") / str(label) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pixels * 15).astype("uint8")).save(path)
    (root / "task.toml").write_text(TASK)
    (root / "space.toml").write_text(SPACE)
    study = Study.create(
        str(root / "space.toml"),
        str(root / "task.toml"),
        name="s",
        studies_dir=root / "studies",
        data_dir=str(root),
        presets=["adapter-plus:rank=1"],
    )
    assert study.run(Budget(trials=7), workers=0)
    return root


@pytest.fixture
def own(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place, tmp_path / "own"))


def load(root: Path) -> Study:
    """The study of a copy, with that copy's images."""
    study = Study.load("s", studies_dir=root / "studies")
    study.remember(data_dir=str(root))
    return study


def measured(outcomes: Path) -> dict[str, dict[str, object]]:
    """What is kept, but for what a clock or the system says."""
    kept = {p.name: json.loads(p.read_text()) for p in (outcomes / "finals").glob("*.json")}
    return {
        name: {k: v for k, v in table.items() if k not in ("seconds", "memory_mb", "inference_ratio", "merged_ratio")}
        for name, table in kept.items()
    }


def stop_after(count: int) -> Callable[[Progress], None]:
    """A user who presses Ctrl-C once `count` trainings of this call are finished."""
    left = [count]

    def on_progress(progress: Progress, **_: Console) -> None:
        del progress
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    return on_progress


@pytest.fixture(scope="module")
def whole(place: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Confirmation]:
    """A confirmation that was never stopped; tests read it only."""
    study = load(Path(shutil.copytree(place, tmp_path_factory.mktemp("whole") / "own")))
    return study, confirm(study, top=3, seeds=2, presets=[PRESET], workers=0)


# A function of (spec, design, seed)


@pytest.mark.usefixtures("warm_processes")
def test_finals_are_a_function_of_spec_design_and_seed(whole: tuple[Study, Confirmation], own: Path) -> None:
    """Neither what else is trained, nor in which order or process, nor the caller's random state decides."""
    study = load(own)
    wanted = measured(whole[0].folder)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    confirm(study, top=1, seeds=1, workers=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    alone = measured(study.folder)
    assert alone
    assert alone.items() <= wanted.items()
    next((study.folder / "finals").glob("*.json")).unlink()
    said: list[Progress] = []
    confirm(study, top=1, seeds=1, workers=1, on_progress=said.append)  # that one again, in another process
    assert len(said) == 1
    assert measured(study.folder) == alone


def test_seeds_matter(whole: tuple[Study, Confirmation]) -> None:
    _, found = whole
    assert any(len({o.accuracy for o in f.outcomes}) > 1 for f in found.finals)
    assert [o.seed for f in found.finals for o in f.outcomes] == [0, 1] * len(found.finals)


def test_finals_are_trained_on_all_training_images_and_tested_on_the_test_split(own: Path) -> None:
    """On the embedded task: 1,347 digits, of which the search saw 160, and the 450 that no search sees."""
    task = TASK.replace('"imagefolder"\nroot = "photos"', '"digits"').replace("30", "100").replace("20", "60", 1)
    (own / "digits.toml").write_text(task.replace("batch_size = 20", "batch_size = 200"))
    study = Study.create(str(own / "space.toml"), str(own / "digits.toml"), name="d", studies_dir=own / "studies")
    assert study.run(Budget(trials=1), workers=0)
    seen: list[int] = []
    real = trainer.Training

    def train(
        forward: object, parameters: object, views: list[torch.Tensor], *rest: object, **options: object
    ) -> object:
        seen.append(len(views[0].labels))  # type: ignore[attr-defined]  # they are examples
        return real(forward, parameters, views, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "Training", train)
        found = confirm(study, top=1, seeds=1, epochs=1, workers=0)
    assert (found.test_images, found.epochs, seen) == (DIGITS_TEST, 1, [1797 - DIGITS_TEST])
    assert found.finals[0].mean is not None
    assert found.finals[0].mean > 0.2  # one epoch, ten classes
    (outcome,) = found.finals[0].outcomes
    assert outcome.accuracy == pytest.approx(round((outcome.accuracy or 0) * DIGITS_TEST) / DIGITS_TEST)


def test_costs_are_measured(whole: tuple[Study, Confirmation]) -> None:
    study, found = whole
    by_preset = {f.finalist.preset: f for f in found.finals}
    assert {"linear-probe", PRESET, "adapter-plus:rank=1"} <= set(by_preset)
    for final in found.finals:
        assert final.finalist.parameters == final.finalist.tuner_parameters + (study.shape.dim + 1) * len(CLASSES)
        for name in ("seconds", "inference_ratio", "merged_ratio"):
            assert (final.middle(name) or 0) > 0
    assert by_preset["linear-probe"].finalist.tuner_parameters == 0
    assert by_preset[PRESET].finalist.validation is None  # the search did not try it
    assert by_preset[PRESET].test_minus_validation is None
    assert by_preset["adapter-plus:rank=1"].finalist.validation is not None


def test_methods_of_every_make_are_confirmed(own: Path) -> None:
    """A stream of random numbers of its own, shared parameters, a side network, tokens in the sequence."""
    wanted = ["mlae:rank=1", "fact:rank=1", "res-tuning-bypass:rank=1", "vpt-deep:length=1"]
    found = confirm(load(own), top=1, seeds=1, epochs=1, presets=wanted, workers=0)
    by_preset = {f.finalist.preset: f for f in found.finals}
    assert all(by_preset[name].mean is not None for name in wanted)


# Augmentation


def test_without_augmentation_other_finals_are_kept_beside_the_first(own: Path) -> None:
    study = load(own)
    augmented = confirm(study, top=1, seeds=1, workers=0)
    plain = confirm(study, top=1, seeds=1, workers=0, augment=False)
    assert (augmented.augmented, plain.augmented) == (True, False)
    assert len(measured(study.folder)) == 2 * len(plain.finals)
    exported = confirmed_metrics(study.folder, plain.finals[0].finalist.design.key)
    assert exported == {"test_accuracy_mean": augmented.finals[0].mean, "test_seeds": 1}


# Stopped at any moment


@pytest.mark.parametrize("stops", [(1,), (2, 3), (1, 1, 1)])
def test_interrupted_and_resumed_equals_uninterrupted(
    stops: tuple[int, ...], whole: tuple[Study, Confirmation], own: Path
) -> None:
    study = load(own)
    options = {"top": 3, "seeds": 2, "presets": [PRESET], "workers": 0}
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            confirm(study, on_progress=stop_after(stop), **options)  # type: ignore[arg-type]  # each fits
        assert not list((study.folder / "finals").glob(".*json"))
    (study.folder / "finals" / ".half.json").write_text("{")  # what a kill in the middle of a write leaves
    said: list[Progress] = []
    found = confirm(study, on_progress=said.append, **options)  # type: ignore[arg-type]  # each fits
    _, wanted = whole
    total = 2 * len(wanted.finals)
    assert [p.done for p in said] == list(range(sum(stops) + 1, total + 1)), "what was finished was trained again"
    assert {p.total for p in said} == {total}
    for mine, theirs in zip(found.finals, wanted.finals, strict=True):
        assert (mine.finalist, mine.mean, mine.sd, mine.survives) == (
            theirs.finalist,
            theirs.mean,
            theirs.sd,
            theirs.survives,
        )
    (study.folder / "finals" / ".half.json").unlink()
    assert measured(study.folder) == measured(whole[0].folder)


def test_lost_trainings_are_refused_and_the_others_kept(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = load(own)
    module = importlib.import_module("utuning_search.results.confirm")
    real = module.run_each

    def run(work: object, items: Iterator[object], workers: int) -> object:
        _, *rest = items
        yield 0, Lost("its worker process was killed by SIGKILL (out of memory?)")
        yield from ((i + 1, found) for i, found in real(work, rest, workers))

    monkeypatch.setattr(module, "run_each", run)
    with pytest.raises(StudyError, match=r"1 not; .*SIGKILL.*fewer --workers"):
        confirm(study, top=2, seeds=1, workers=0)
    kept = measured(study.folder)
    assert kept
    monkeypatch.setattr(module, "run_each", real)
    said: list[Progress] = []
    confirm(study, top=2, seeds=1, workers=0, on_progress=said.append)
    assert len(said) == 1
    assert kept.items() < measured(study.folder).items()


# What each training answered


def test_predictions_are_those_of_the_accuracies_and_lie_beside_them(whole: tuple[Study, Confirmation]) -> None:
    study, found = whole
    labels = read_labels(study.folder)
    assert labels is not None
    assert np.bincount(labels).tolist() == [TEST] * len(CLASSES)
    for final_ in found.finals:
        correct = final_.correct
        assert correct is not None
        assert correct.mean(axis=1).tolist() == pytest.approx([o.accuracy for o in final_.outcomes])
        assert (final_.interval or (1, 0))[0] <= (final_.mean or 0) <= (final_.interval or (1, 0))[1]
    kept = sorted((study.folder / "finals").glob("*_seed[0-9].npy"))
    assert [p.with_suffix(".json").exists() for p in kept] == [True] * 2 * len(found.finals)
    assert {np.load(p, allow_pickle=False).dtype for p in kept} == {np.dtype("uint16")}
    sizes = dict(combinations_of(found))
    assert {frozenset((c.a, c.b)) for c in found.comparisons} == sizes.keys()


def combinations_of(found: Confirmation) -> Iterator[tuple[frozenset[str], int]]:
    for i, a in enumerate(found.finals):
        for b in found.finals[i + 1 :]:
            yield frozenset((a.key, b.key)), 1


def test_no_outcome_is_kept_without_its_predictions(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed between the two leaves predictions, never an outcome alone."""
    study = load(own)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("utuning_search.results.prepared"), "keep_outcome", killed)
    with pytest.raises(KeyboardInterrupt):
        confirm(study, top=1, seeds=1, workers=0)
    finals = study.folder / "finals"
    assert len(list(finals.glob("*_seed0.npy"))) == 1
    assert not list(finals.glob("*.json"))
    assert (finals / "test_labels.npy").exists()


def test_finals_of_older_versions_are_read_and_not_compared(own: Path) -> None:
    study = load(own)
    before = confirm(study, top=3, seeds=2, workers=0)
    for path in (study.folder / "finals").glob("*.npy"):
        path.unlink()
    said: list[Progress] = []
    found = confirm(study, top=3, seeds=2, workers=0, on_progress=said.append)
    assert not said
    assert [f.mean for f in found.finals] == [f.mean for f in before.finals]
    assert before.comparisons
    assert found.comparisons == ()
    assert all(f.survives and f.correct is None for f in found.finals)
    write_finals(study, found)
    assert "test_low" in (study.folder / "finals.csv").read_text()
    assert (study.folder / "finals" / "comparisons.csv").read_text().splitlines() == [
        "a,b,difference,low,high,p,p_corrected,verdict,a_key,b_key,metric"
    ]
    first = found.finals[0]
    for path in (study.folder / "finals").glob(f"{first.key}_*.json"):
        path.unlink()  # as it says
    again = confirm(study, top=3, seeds=2, workers=0)
    assert again.named(first.key).correct is not None


@pytest.mark.parametrize(
    "spoilt", [b"no array", np.zeros(4, dtype=np.float64), np.zeros(5, dtype=np.uint16), np.array([{}], dtype=object)]
)
def test_damaged_predictions_are_refused(spoilt: object, own: Path) -> None:
    study = load(own)
    confirm(study, top=1, seeds=1, workers=0)
    path = next((study.folder / "finals").glob("*_seed0.npy"))
    if isinstance(spoilt, bytes):
        path.write_bytes(spoilt)
    else:
        np.save(path, spoilt, allow_pickle=True)  # type: ignore[arg-type]  # arrays
    with pytest.raises(StudyError, match=r"file .*_seed0\.npy: it holds the number of a class .* Remove it and the"):
        confirm(study, top=1, seeds=1, workers=0)


def test_tables_say_which_classes_are_confused(whole: tuple[Study, Confirmation], tmp_path: Path) -> None:
    study, found = whole
    write_finals(study, found)
    finals = study.folder / "finals"
    for final_ in found.finals:
        each = pd.read_csv(finals / f"{final_.key}_classes.csv")
        assert each["class"].astype(str).tolist() == [str(c) for c in CLASSES]
        assert each["support"].tolist() == [TEST] * len(CLASSES)
        assert each["recall"].mean() == pytest.approx(final_.mean)  # classes are of one size
        confusion = pd.read_csv(finals / f"{final_.key}_confusion.csv", index_col=0).to_numpy()
        assert confusion.sum(axis=1).tolist() == [2 * TEST] * len(CLASSES)  # of both seeds
        assert np.trace(confusion) / confusion.sum() == pytest.approx(final_.mean)
        precision = np.diag(confusion) / np.maximum(confusion.sum(axis=0), 1)
        assert each["precision"].tolist() == pytest.approx(precision.tolist())
    figure = draw_confusion(confusion, list(map(str, CLASSES)), "a design")
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == [str(c) for c in CLASSES]
    save_confusion(np.eye(100, dtype=np.int64), [f"class {i}" for i in range(100)], "many", tmp_path / "many.png")
    assert (tmp_path / "many.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_of_comparisons_is_what_was_compared(whole: tuple[Study, Confirmation]) -> None:
    study, found = whole
    write_finals(study, found)
    frame = pd.read_csv(study.folder / "finals" / "comparisons.csv", keep_default_na=False)
    assert len(frame) == len(found.comparisons) == len(found.finals) * (len(found.finals) - 1) // 2
    sizes = {f.key: f.finalist.parameters for f in found.finals}
    for row, comparison in zip(frame.to_dict("records"), found.comparisons, strict=True):
        assert (row["a_key"], row["b_key"], row["verdict"]) == (comparison.a, comparison.b, comparison.verdict)
        assert row["difference"] == pytest.approx(comparison.difference)
        assert row["a"] == found.named(comparison.a).finalist.name
        assert sizes[row["a_key"]] <= sizes[row["b_key"]]


# Selection, measured


class Told(Callback):
    """What it is told of fresh trainings, in order: how many there were, each new one, the end."""

    def __init__(self) -> None:
        self.events: list[int | str | FinalRecord] = []

    def on_start(self, started: Started) -> None:
        self.events.append(len(started.remeasured))

    def on_remeasured(self, fresh: FinalRecord) -> None:
        self.events.append(fresh)

    def on_end(self) -> None:
        self.events.append("end")


@pytest.mark.usefixtures("warm_processes")
def test_selection_bias_is_measured_by_fresh_trainings_on_the_proxy_split(own: Path) -> None:
    study = load(own)
    found = confirm(study, top=2, seeds=1, presets=[PRESET], workers=0)
    for path in (own / "photos" / "test").rglob("*.png"):
        path.write_bytes(b"no image")  # it reads none
    said, told = list[float | None](), Told()

    def stop(_: Finalist, again: Again) -> None:
        said.append(again.validation)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remeasure(study, found, 2, workers=0, on_progress=stop, callbacks=[told])
    more = {"on_progress": lambda _, again: said.append(again.validation), "callbacks": [told]}
    measured_ = remeasure(study, found, 2, workers=0, **more)  # type: ignore[arg-type]  # of both options together
    assert told.events.count("end") == 2
    assert [event for event in told.events if isinstance(event, int)] == [0, 1], "the second is told what the first did"
    fresh = [event for event in told.events if isinstance(event, FinalRecord)]
    assert [record.values["accuracy"] for record in fresh] == said
    assert len({(record.key, record.seed) for record in fresh}) == len(fresh)
    tried = [f for f in measured_.finals if f.finalist.validation is not None]
    assert len(said) == 2 * len(tried), "what was finished was trained again"
    assert [f.remeasured for f in measured_.finals if f.finalist.preset == PRESET] == [()]
    assert {len(f.remeasured) for f in tried} == {2}
    assert sorted(v for f in tried for v in f.remeasured) == sorted(said)  # type: ignore[type-var]
    by_hand = [f.finalist.validation - sum(f.remeasured) / 2 for f in tried]  # type: ignore[operator]
    assert flattery(measured_.finals) == pytest.approx(sum(by_hand) / len(by_hand))
    assert flattery(found.finals) is None
    one = tried[0]
    for path in (study.folder / "finals").glob("validation_*.json"):
        if one.key in path.name:
            path.unlink()
    elsewhere = remeasure(study, found, 2, workers=1)  # in another process
    assert elsewhere.named(one.key).remeasured == one.remeasured
    assert finals_table(measured_)["validation_again"].notna().sum() == len(tried)
    assert len(confirm_files(study)) == len(found.finals), "they are no outcomes of finals"


def confirm_files(study: Study) -> list[Outcome]:
    return [read_outcome(p) for p in (study.folder / "finals").glob("*_seed*.json") if "validation" not in p.name]


def test_a_fresh_training_is_none_of_the_trial(own: Path) -> None:
    """But for its seed it is the same: with the trial's own seed it gives the trial's accuracy."""
    study = load(own)
    found = confirm(study, trials=[study.front()[-1].number], seeds=1, workers=0)
    module = importlib.import_module("utuning_search.results.remeasure")
    with pytest.MonkeyPatch.context() as patch:
        key = found.finals[0].key
        patch.setattr(module, "derive_seed", lambda seed, _: derive_seed(seed, f"training {key}"))
        (same,) = remeasure(study, found, 1, workers=0).finals
    assert same.remeasured == (found.finals[0].finalist.validation,)
    assert same.flattered == 0


def test_the_command_reports_selection_bias_only_where_it_was_measured(own: Path) -> None:
    load(own)
    options = ("--top", "2", "--seeds", "1", "--epochs", "1", "--workers", "0", "--studies-dir", str(own / "studies"))
    code, out, err = command("confirm", "s", "--remeasure", "2", *options)
    assert (code, err) == (0, "")
    assert re.search(
        r"Selection bias on validation: [+-]\d+\.\d points on average \(\d designs? of the front x 2 ", out
    )
    assert "fresh seed 1" in out
    assert "--remeasure 2" in out.splitlines()[-1]
    code, out, _ = command("confirm", "s", *options)
    assert code == 0
    assert "Selection bias" not in out


# Short memory


def test_finals_that_did_not_fit_at_once_are_told_and_count(
    whole: tuple[Study, Confirmation], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of 20, of which 8 images fit; a finalist whose every image is too large ends as one that was killed."""
    study, real, rows = load(own), TunedModel.forward_from, [8]

    def forward_from(self: TunedModel, images: torch.Tensor, *others: Any, **named: Any) -> torch.Tensor:
        if self.training and len(images) > rows[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nA second line.")
        return real(self, images, *others, **named)

    monkeypatch.setattr(TunedModel, "forward_from", forward_from)
    found = confirm(study, top=3, seeds=2, presets=[PRESET], workers=0)
    said = "out of memory: batches of 20 were taken in 4 parts"
    for mine, theirs in zip(found.finals, whole[1].finals, strict=True):
        assert mine.reason == said
        assert [o.accumulation for o in mine.outcomes] == [4, 4]
        assert mine.mean == pytest.approx(theirs.mean, abs=1.01 / (TEST * len(CLASSES)))
        assert theirs.reason == ""
    assert set(finals_table(found)["reason"]) == {said}
    assert {(t["accumulation"], t["reason"]) for t in measured(study.folder).values()} == {(4, said)}
    failed = replace(found.finals[0].outcomes[1], accuracy=None, reason="not finite")
    assert replace(found.finals[0], outcomes=(found.finals[0].outcomes[0], failed)).reason == "not finite"
    rows[0] = 0
    with pytest.raises(StudyError, match=r"out of memory: CUDA out of memory\. .* --workers") as caught:
        confirm(study, top=3, seeds=3, presets=[PRESET], workers=0)
    assert len(str(caught.value).splitlines()) == 1


def test_outcomes_of_earlier_versions_are_read(whole: tuple[Study, Confirmation], tmp_path: Path) -> None:
    path = next((whole[0].folder / "finals").glob("*.json"))
    kept = json.loads(path.read_text())
    assert kept.pop("accumulation") == 1
    (tmp_path / path.name).write_text(json.dumps(kept))
    assert read_outcome(tmp_path / path.name) == read_outcome(path)


# What the numbers say


def final(
    parameters: int, *accuracies: float | None, validation: float | None = None, front: bool = True, preset: str = ""
) -> Final:
    design = Design(learning_rate=parameters / 1e6)
    who = Finalist(design, parameters, parameters - 30, preset, "", validation, parameters, front)
    made = tuple(
        Outcome(design.key, {}, i, 1, True, "", 10, "cpu", "fp32", a, reason="" if a is not None else "not finite")
        for i, a in enumerate(accuracies)
    )
    return Final(who, made)


IMAGES_TESTED = 1000


def answered(parameters: int, *wrong: range, preset: str = "", validation: float | None = None) -> Final:
    """A final that gets all of 1,000 images right but some, one range of them a seed."""
    predictions = np.zeros((len(wrong), IMAGES_TESTED), dtype=np.int64)
    for row, missed in zip(predictions, wrong, strict=True):
        row[list(missed)] = 1
    accuracies = (1 - predictions.mean(axis=1)).tolist()
    made = final(parameters, *accuracies, preset=preset, validation=validation)
    return replace(made, predictions=predictions, labels=np.zeros(IMAGES_TESTED, dtype=np.int64))


def confirmation(*finals: Final) -> Confirmation:
    judged, comparisons = judge(finals)
    return Confirmation(judged, 1, True, IMAGES_TESTED, ("right", "wrong"), comparisons)


def test_statistics_equal_those_by_hand() -> None:
    one = final(100, 0.90, 0.92, 0.94, validation=0.95)
    assert one.mean == pytest.approx(0.92)
    assert one.sd == pytest.approx(0.02)  # sqrt((0.02² + 0 + 0.02²) / 2)
    assert one.se == pytest.approx(0.02 / math.sqrt(3))
    assert one.test_minus_validation == pytest.approx(-0.03)
    assert one.bar == pytest.approx((0.02, 0.02)), "a standard deviation, where it has no interval"
    assert replace(one, interval=(0.91, 0.96)).bar == pytest.approx((0.01, 0.04))
    alone = final(100, 0.9)
    assert (alone.mean, alone.sd, alone.se, alone.test_minus_validation) == (0.9, None, None, None)
    grown = replace(
        one, outcomes=tuple(replace(o, memory_mb=m) for o, m in zip(one.outcomes, (60.0, None, 9.0), strict=True))
    )
    assert (one.memory_mb, grown.memory_mb) == (None, 60.0)
    failed = final(100, 0.9, None, validation=0.9)
    assert (failed.mean, failed.sd, failed.test_minus_validation, failed.reason) == (None, None, None, "not finite")


def test_of_designs_of_one_size_the_best_stands_first_and_a_failed_one_last() -> None:
    one, failed, best = (
        replace(f, finalist=replace(f.finalist, parameters=100))
        for f in (final(100, 0.9), final(101, None), final(102, 0.95))
    )
    assert [f.key for f in judge((one, failed, best))[0]] == [best.key, one.key, failed.key]


def test_a_design_survives_unless_one_no_larger_is_better_beyond_doubt() -> None:
    """Of seeds that differ by 2 images: whoever is larger and 10 points worse is beaten."""
    a, b = (answered(n, range(100), range(102)) for n in (300, 200))
    found = confirmation(
        answered(100, range(200), range(202)),
        a,
        b,
        answered(400, range(201), range(203)),
        final(600, 0.99, None),
    )
    assert [f.finalist.parameters for f in found.finals] == [100, 200, 300, 400, 600]
    assert [f.survives for f in found.finals] == [True, True, True, False, False]
    assert found.finals[3].beaten_by == (b.key, a.key), "the smallest is not better"
    assert [f.finalist.parameters for f in found.survivors] == [100, 200, 300]
    assert len(found.comparisons) == 6
    assert advice(found, found.finals[3]).startswith("it is worse than trial 200 by 10.1 points (95%: ")
    assert advice(found, found.finals[3]).endswith("), which is smaller: rather take that")
    assert advice(found, found.finals[2]) == ""
    assert smallest_equal(found, found.named(a.key)).key == b.key
    frame = finals_table(found)
    assert list(frame.columns)[: len(COLUMNS)] == COLUMNS
    assert frame["beaten_by"].tolist() == ["", "", "", "trial 200; trial 300", ""]
    assert frame["seeds"].tolist() == [2, 2, 2, 2, 1]
    assert frame["test_mean"].isna().tolist() == [False, False, False, False, True]
    assert (frame["test_low"] < frame["test_mean"]).tolist() == [True, True, True, True, False]


def test_small_differences_are_no_verdict() -> None:
    """Half a point between seeds that differ by two."""
    found = confirmation(answered(100, range(100), range(120)), answered(200, range(105), range(125)))
    assert all(f.survives for f in found.finals)
    assert {c.verdict for c in found.comparisons} == {"cannot be told apart"}


def test_the_resolution_is_half_the_median_width() -> None:
    """Of intervals that were tested: 1, 3 and 8 points wide."""
    tested = [Comparison("a", "b", 0.0, -low, low, 0.5, 0.5, "cannot be told apart") for low in (0.04, 0.005, 0.015)]
    unknown = Comparison("a", "b", 0.0, -0.4, 0.4, None, None, "training noise unknown")
    assert resolution([*tested, unknown]) == pytest.approx(0.015)


def test_with_one_seed_nothing_is_beaten_and_it_says_why() -> None:
    found = confirmation(answered(100, range(100)), answered(200, range(700)), answered(300, range(700), preset="ssf"))
    assert all(f.survives for f in found.finals)
    assert {(c.verdict, c.p, c.corrected) for c in found.comparisons} == {("training noise unknown", None, None)}
    own_, said = readings(found)
    assert own_.startswith("trial 200 is not compared with trial 100: "), "there is no known method so small"
    assert said.startswith("ssf is not compared with trial 100: with one seed each, training noise is not counted (")
    assert resolution(found.comparisons) is None


def test_what_kept_no_predictions_is_not_compared_and_it_says_so() -> None:
    found = confirmation(answered(100, range(10), range(12)), final(200, 0.3, 0.3, preset="old"), final(300, 0.3, None))
    assert [f.survives for f in found.finals] == [True, True, False]
    assert found.comparisons == ()
    assert found.finals[1].interval is None
    assert against(found, found.finals[1], found.finals[0]) == (
        "not compared with trial 100: of old no predictions kept: remove its .json files in finals and confirm again "
        "to compare"
    )
    assert against(found, found.finals[2], found.finals[0]) == (
        "not compared with trial 100: a training of trial 300 failed"
    )
    assert finals_table(found)["test_low"].isna().tolist() == [False, True, True]


def test_finals_are_read_against_the_best_of_the_other_kind_that_is_no_larger() -> None:
    small, ssf, lora, bias, own, large = (
        answered(100, range(400), range(404)),
        answered(200, range(200), range(204), preset="ssf"),
        answered(300, range(150), range(154), preset="lora"),
        answered(350, range(250), range(254), preset="bias"),
        answered(400, range(100), range(104)),
        answered(500, range(50), range(54)),
    )
    found = confirmation(small, ssf, lora, bias, own, large)
    first, *_ = finals = found.finals
    assert rival(found, first) is None
    assert [rival(found, f).finalist.name for f in finals[1:]] == [*["trial 100"] * 3, "lora", "lora"]  # type: ignore[union-attr]
    said = list(readings(found))
    assert len(said) == 5
    assert re.fullmatch(r"ssf is better than trial 100 by 20\.0 points \(95%: 1\d\.\d to 2\d\.\d\)", said[0])


def test_words_are_signed_and_turned_with_their_verdict() -> None:
    comparison = Comparison("a", "b", -0.012, -0.0204, -0.0036, 0.001, 0.01, "worse")
    assert compared(comparison, "ssf") == "worse than ssf by 1.2 points (95%: 0.4 to 2.0)"
    assert compared(comparison.seen_from("b"), "own") == "better than own by 1.2 points (95%: 0.4 to 2.0)"
    open_ = Comparison("a", "b", 0.003, -0.006, 0.012, 0.3, 0.9, "cannot be told apart")
    assert compared(open_, "ln-tuning") == (
        "cannot be told apart from ln-tuning (difference 0.3 points, 95%: -0.6 to 1.2)"
    )
    assert (
        compared(open_.seen_from("b"), "x") == "cannot be told apart from x (difference -0.3 points, 95%: -1.2 to 0.6)"
    )
    nearly = replace(open_, difference=-0.0004)
    assert "difference 0.0 points" in compared(nearly, "x")


def trial(number: int, parameters: int, accuracy: float, preset: str = "") -> TrialRecord:
    design = Design(learning_rate=(number + 1) / 1e4)
    return TrialRecord(number, "complete", design.key, design, preset, parameters, accuracy, 1, 0.0, {}, None, "")


def test_finalists_are_spread_over_the_front() -> None:
    """Of a step at 10^3 and a slow rise: ends and knee first, then what adds most area on the log axis."""
    sizes = {100: 0.50, 1_000: 0.90, 1_100: 0.901, 3_000: 0.93, 10_000: 0.95, 11_000: 0.951}
    records = [trial(i, n, a) for i, (n, a) in enumerate(sizes.items())] + [trial(9, 2_000, 0.6)]
    setting = Setting(replace(SHAPE, parameters=10**6), 0)
    chosen = {top: [r.parameters for r in choose(records, top, USUAL, setting)] for top in range(1, 8)}
    assert chosen[1] == [11_000]  # the most accurate
    assert chosen[2] == [1_000, 11_000]  # the knee
    assert chosen[3] == [100, 1_000, 11_000]  # the smallest
    # 3,000 adds log10(11,000 / 3,000) x (.93 - .90) = .0169; 10,000 adds .0414 x .05; 1,100 adds 1 x .001
    assert chosen[4] == [100, 1_000, 3_000, 11_000]
    # 10,000 adds .0414 x .02 = .0008; 1,100 adds log10(3,000 / 1,100) x .001 = .0004
    assert chosen[5] == [100, 1_000, 3_000, 10_000, 11_000]
    assert chosen[6] == chosen[7] == sorted(sizes)


def test_the_strongest_presets_are_confirmed_once_each() -> None:
    records = [
        trial(i, 100 + i, a, name) for i, (a, name) in enumerate([(0.5, "a"), (0.9, "b"), (0.7, ""), (0.7, "c")])
    ]
    again = replace(records[1], number=7, reused=1)
    pruned = replace(trial(8, 100, 0.99, "d"), state="pruned")
    assert [r.preset for r in strongest_presets([*records, again, pruned], 2)] == ["b", "c"]


# The test split is read only here


def test_a_search_does_not_open_a_test_image(own: Path) -> None:
    for path in (own / "photos" / "test").rglob("*.png"):
        path.write_bytes(b"no image")
    study = Study.create(
        str(own / "space.toml"), str(own / "task.toml"), name="n", studies_dir=own / "studies", data_dir=str(own)
    )
    assert study.run(Budget(trials=2), workers=0)
    export_trial(study, study.front()[-1], own / "out")
    with pytest.raises(DataError, match=r"at most 5% of the images cannot be read; got 36 of 36: test/0/"):
        confirm(study, workers=0)
    assert not (study.folder / "finals").exists()


# What is refused


def command(*arguments: str) -> tuple[int | str | None, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: int | str | None = main(list(arguments))
        except SystemExit as error:
            code = error.code
    return code, out.getvalue(), err.getvalue()


def tree(root: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in root.rglob("*") if p.is_file() and p.suffix != ".lock"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing",), "study 'nothing': it lies in .* no such study. Known: "),
        (("s", "--seeds", "0"), "--seeds: it is at least 1; got 0."),
        (("s", "--top", "0"), "--top: it is at least 1; got 0."),
        (("s", "--epochs", "0"), "--epochs: it is at least 1; got 0."),
        (("s", "--remeasure", "0"), "--remeasure: it is at least 1; got 0."),
        (("s", "--workers", "-1"), "--workers: it is at least 1, or 0 .* got -1."),
        (("s", "--preset", "adaptr"), "preset: .*'adaptr'.* Did you mean 'adapter'"),
        (("s", "--device", "tpu"), "--device: .*'tpu'"),
        (("s", "--data-dir", "nowhere"), "'photos' in none of nowhere"),
        (("empty",), "study 'empty': it has a complete trial to confirm; got none. .*utuning-search resume empty"),
    ],
    ids=lambda a: " ".join(a) if isinstance(a, tuple) else "",
)
def test_refused_in_one_line(arguments: tuple[str, ...], said: str, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "empty" in arguments:
        Study.create(str(own / "space.toml"), "digits", name="empty", studies_dir=own / "studies")
    load(own)
    monkeypatch.chdir(own / "studies")  # where there are no photos
    before = tree(own)
    code, out, err = command("confirm", *arguments, "--studies-dir", str(own / "studies"))
    assert (code, out) == (2, "")
    assert re.fullmatch(r"utuning-search: error: [^\n]+\n", err)
    assert re.search(said, err), err
    assert tree(own) == before


def spoil(path: Path) -> None:
    Image.new("L", (8, 8), 77).save(path)


def test_changed_training_images_are_refused(own: Path) -> None:
    for i in range(TRAIN):
        spoil(own / "photos" / "train" / "0" / f"{i}.png")
    study = load(own)
    with pytest.raises(StudyError, match=f"study 's', data: its digest is {study.spec.data}"):
        confirm(study, workers=0)
    assert not (study.folder / "finals").exists()


def test_changed_test_images_are_refused_once_finalists_were_tested(own: Path) -> None:
    study = load(own)
    confirm(study, top=1, seeds=1, workers=0)
    kept = tree(study.folder / "finals")
    spoil(own / "photos" / "test" / "0" / f"{TRAIN}.png")
    with pytest.raises(StudyError, match=r"digest of training and test images is .*; got .*\. Put the images back"):
        confirm(study, top=1, seeds=1, workers=0)
    assert tree(study.folder / "finals") == kept


def test_damaged_outcomes_and_missing_test_images_are_refused(own: Path) -> None:
    study = load(own)
    confirm(study, top=1, seeds=1, workers=0)
    for path in (study.folder / "finals").glob("*.json"):
        path.write_text("{")
    with pytest.raises(StudyError, match=r"file .*: it is a finalist's outcome; .* Remove it"):
        confirm(study, top=1, seeds=1, workers=0)
    shutil.rmtree(own / "photos" / "test")
    with pytest.raises(DataError, match=r"photos/test: every class has a folder with images.*test/<class>/<image>"):
        confirm(study, top=1, seeds=1, workers=0)


# What the user gets


def test_the_command_prints_json_and_nothing_else(own: Path) -> None:
    study = load(own)
    options = ("--top", "2", "--seeds", "2", "--epochs", "1", "--workers", "0", "--studies-dir", str(own / "studies"))
    code, out, err = command("confirm", "s", *options, "--format", "json")
    assert code == 0
    assert out.isascii()
    said = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    trainings = 2 * len(said["finals"])
    assert re.findall(r"^\[(\d+)/\d+\] .* on test", err, flags=re.MULTILINE) == [
        str(n) for n in range(1, trainings + 1)
    ]
    with (study.folder / "finals.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for final, row in zip(said["finals"], rows, strict=True):
        assert set(final) == set(row)
        assert Design.from_dict(final["design"]).key == row["key"]
        assert final["test_mean"] == pytest.approx(float(row["test_mean"]))
    assert len(said["comparisons"]) == len(rows) * (len(rows) - 1) // 2
    section = (
        (Path(__file__).parents[2] / "docs" / "reference" / "json.md")
        .read_text(encoding="utf-8")
        .split("\n## confirm\n")[1]
    )
    assert not [key for key in said if f"`{key}`" not in section]


def test_the_command_writes_a_table_a_picture_and_the_next_commands(own: Path) -> None:
    studies = str(own / "studies")
    load(own)
    options = ("--top", "2", "--seeds", "2", "--epochs", "1", "--workers", "0", "--studies-dir", studies)
    code, out, err = command("confirm", "s", *options)
    assert (code, err) == (0, "")
    study = load(own)
    rows = (study.folder / "finals.csv").read_text().splitlines()
    assert rows[0].split(",")[: len(COLUMNS)] == COLUMNS
    keys = {read_outcome(p).key for p in (study.folder / "finals").glob("*.json")}
    assert {row.split(",")[0] for row in rows[1:]} == keys
    assert (study.folder / "finals.png").read_bytes().startswith(b"\x89PNG")
    assert "luck" not in out
    assert "Selection bias" not in out
    assert f"of {min(2, len(study.front()))} designs of the search's front survive" in out
    assert re.search(r"36 images and 2 seeds tell differences of about \d+\.\d points", out)
    assert re.search(r"(is (better|worse) than|cannot be told apart from) \S+.*\(.*95%: ", out.replace("\n", " "))
    pictures = {p.name.split("_")[1] for p in (study.folder / "finals").glob("*.png")}
    assert pictures == {"confusion.png", "calibration.png"}
    assert (study.folder / "finals" / "comparisons.csv").exists()
    assert f"[{2 * len(keys)}/{2 * len(keys)}] " in out
    again = [line.strip() for line in out.splitlines() if line.strip().startswith("utuning-search ")]
    more = f"utuning-search confirm s --top 2 --seeds 4 --epochs 1 --workers 0 --studies-dir {studies}"
    assert again[-1] == more
    assert re.fullmatch(rf"utuning-search export s --pick trial=\d+ --studies-dir {re.escape(studies)}", again[0])
    code, out, err = command(*again[0].split()[1:])
    assert (code, err) == (0, "")
    code, out, err = command("confirm", "s", *options, "-q")
    assert (code, err) == (0, "")
    assert not out.startswith("[")
    code, out, err = command("confirm", "s", *options, "--metric", "macro_f1")
    assert (code, err) == (0, "")
    assert not out.startswith("["), "what was trained is judged by anything"
    assert "Finals: macro F1 on 36 test images" in out
    assert f"--epochs 1 --metric macro_f1 --workers 0 --studies-dir {studies}" in out
    labels = read_labels(study.folder)
    assert labels is not None
    for row in csv.DictReader((study.folder / "finals.csv").read_text().splitlines()):
        answers = [np.load(p) for p in (study.folder / "finals").glob(f"{row['key']}_*_seed[0-9].npy")]
        wanted = [f1_score(labels, a, average="macro", zero_division=0) for a in answers]
        assert (row["metric"], float(row["test_mean"])) == ("macro_f1", pytest.approx(np.mean(wanted)))
        assert float(row["test_accuracy"]) == pytest.approx(np.mean([(labels == a).mean() for a in answers]))
        assert row["validation"] == "", "the search did not measure it"
        sure = pd.read_csv(study.folder / "finals" / f"{row['key']}_calibration.csv")
        assert sure["answers"].sum() == 2 * 36
        assert 0 <= float(row["test_ece"]) <= 1
    compared_by = csv.DictReader((study.folder / "finals" / "comparisons.csv").read_text().splitlines())
    assert {row["metric"] for row in compared_by} == {"macro_f1"}


@pytest.mark.parametrize("form", [(), ("--format", "json")])
def test_ctrl_c_ends_in_the_command_that_goes_on(
    form: tuple[str, ...], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(own)
    monkeypatch.setattr(importlib.import_module("utuning_search.cli.confirm"), "say_progress", stop_after(1))
    options = (
        "--top",
        "1",
        "--seeds",
        "1",
        "--workers",
        "0",
        "--preset",
        PRESET,
        "--studies-dir",
        str(own / "studies"),
    )
    code, out, err = command("confirm", "s", *options, *form)
    assert code == 130
    again = ("--top", "1", "--seeds", "1", "--workers", "0", *form, *options[6:])
    assert f"  utuning-search confirm s {' '.join(again)}\n" in (err if form else out)
    assert (out == "") == bool(form)


def test_an_export_carries_its_finals(own: Path) -> None:
    study = load(own)
    records = study.front()
    export_trial(study, records[-1], own / "before")
    assert "test_seeds" not in tomllib.loads((own / "before" / "tuner.toml").read_text())["metrics"]
    assert "Test accuracy" not in (own / "before" / "README.md").read_text()
    found = confirm(study, trials=[records[-1].number], seeds=2, workers=0)
    (mine,) = found.finals
    assert export_trial(study, records[-1], own / "after") <= 1e-6
    metrics = tomllib.loads((own / "after" / "tuner.toml").read_text())["metrics"]
    assert (metrics["test_accuracy_mean"], metrics["test_accuracy_sd"], metrics["test_seeds"]) == (
        mine.mean,
        mine.sd,
        2,
    )
    assert metrics["validation_accuracy"] == records[-1].accuracy
    readme = (own / "after" / "README.md").read_text()
    assert f"{mine.mean:.4f} ± {mine.sd:.4f}, trained on all training images with 2 seeds" in readme
    assert "the weights here are those of the first seed" in readme
    kept, _ = sorted((study.folder / "finals").glob("*.safetensors"))
    assert kept.name == f"{records[-1].key}_2epochs_seed0.safetensors"
    assert (own / "after" / "tuner.safetensors").read_bytes() == kept.read_bytes()
    assert kept.read_bytes() != study.weights_file(records[-1].number).read_bytes()


def test_an_export_says_what_is_better_and_no_larger(own: Path) -> None:
    study = load(own)
    best = study.front()[-1]
    assert best.design is not None
    assert kept_advice(study.folder, best.key) == "", "before finals"
    beaten = answered(900, range(400), range(404))
    beaten = replace(beaten, finalist=replace(beaten.finalist, design=best.design))
    found = confirmation(answered(100, range(200), range(204), preset="ssf"), beaten, answered(950, range(9), range(9)))
    (study.folder / "finals").mkdir()
    write_finals(study, found)
    said = kept_advice(study.folder, best.key)
    assert re.fullmatch(
        r"it is worse than ssf by 20\.0 points \(95%: 1\d\.\d to 2\d\.\d\), which is no larger: rather take that", said
    )
    assert kept_advice(study.folder, found.finals[0].key) == "", "what beats it is larger"
    place = ("--studies-dir", str(own / "studies"), "--out", str(own / "out"))
    code, out, _ = command("export", "s", "--pick", f"trial={best.number}", *place)
    assert code == 0
    assert f"Note: on the test images {said}." in out
    assert f"- On the test images {said}\n" in (own / "out" / "README.md").read_text()
    (study.folder / "finals.csv").write_text(f"key,luck\n{best.key},0.1\n")
    assert kept_advice(study.folder, best.key) == "", "of an older version"


def test_finals_without_weights_leave_the_trial_s_to_the_export(own: Path) -> None:
    """As those of older versions are."""
    study = load(own)
    best = study.front()[-1]
    confirm(study, trials=[best.number], seeds=1, workers=0)
    for kept in (study.folder / "finals").glob("*.safetensors"):
        kept.unlink()
    assert export_trial(study, best, own / "after") <= 1e-6
    assert "the weights here are not those, but the trial's" in (own / "after" / "README.md").read_text()
    assert (own / "after" / "tuner.safetensors").read_bytes() == study.weights_file(best.number).read_bytes()


def test_trials_are_confirmed_by_number(own: Path) -> None:
    study = load(own)
    numbers = [t.number for t in study.trials() if t.state == "complete"][:2]
    place = ("--studies-dir", str(own / "studies"), "--seeds", "1", "--workers", "0")
    code, _, _ = command("confirm", "s", "--trial", f"{numbers[0]},{numbers[1]}", *place)
    assert code == 0
    keys = {t.key for t in study.trials() if t.number in numbers}
    rows = csv.DictReader((study.folder / "finals.csv").read_text().splitlines())
    assert {row["key"] for row in rows} == keys
    for given, got in (("99", "99"), ("best", "'best'"), ("9" * 5000, f"'{'9' * 5000}'")):
        code, _, error = command("confirm", "s", "--trial", given, *place)
        assert code == 2
        assert f"--trial: it is the number of a complete trial in the study; got {got}." in error


@pytest.mark.usefixtures("warm_processes")
def test_decoded_test_images_take_the_permit_too(own: Path) -> None:
    study = load(own)
    decoded: list[Path] = []

    def look(progress: Progress) -> None:
        del progress
        decoded.extend(p for p in (study.folder / "finals").glob(f"{IMAGES}*") if p.is_dir())
        shutil.copytree(decoded[0], own / "copy", dirs_exist_ok=True)

    confirm(study, trials=[study.front()[0].number], seeds=1, epochs=1, workers=1, on_progress=look)
    assert decoded
    assert not decoded[0].exists()  # they are for the processes of one run
    with pytest.raises(DataError, match="TestPermit"):
        FinalData.restore(own / "copy")


def test_pictures_and_tables_show_failed_and_unmeasured_designs(
    whole: tuple[Study, Confirmation], tmp_path: Path
) -> None:
    study, found = whole
    judged, _ = judge([*found.finals, final(9_000, None, None), final(5_000, 0.1)])
    mixed = replace(found, finals=judged)
    (axes,) = draw_finals(mixed).axes
    names = {text.get_text() for text in axes.texts}
    assert {"Linear probe", title_of(PRESET)} <= names
    assert axes.get_xscale() == "log"
    means = [f.mean or 0 for f in mixed.survivors]
    rising = [f for i, f in enumerate(mixed.survivors) if means[i] > max(means[:i], default=-1)]
    assert rising
    (line,) = [x for x in axes.lines if x.get_linestyle() == "-" and x.get_linewidth() == 1.0]
    assert list(line.get_xdata()) == [f.finalist.parameters for f in rising]  # type: ignore[arg-type]
    save_finals(replace(found, finals=()), tmp_path / "none.png")
    write_finals(study, mixed)
    assert len((study.folder / "finals.csv").read_text().splitlines()) == len(mixed.finals) + 1
