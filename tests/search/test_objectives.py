"""Objectives: what each says of a design or a training, and studies of any number of them."""

from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design
from utuning_search.designs.flops import num_flops
from utuning_search.results.confirm import confirm
from utuning_search.search import defaults
from utuning_search.search.budget import Budget
from utuning_search.search.objectives.base import MeasuredObjective
from utuning_search.search.objectives.registry import OBJECTIVES, OURS, USUAL, Objectives, measures, objective
from utuning_search.search.study import Study
from utuning_search.testing.pretend import SETTING, SHAPE, PretendStudy
from utuning_search.training import full as full_training
from utuning_search.training import latency
from utuning_search.training.measurement import Measurement

optuna.logging.set_verbosity(optuna.logging.ERROR)

TASK = """
name = "tiny"
[backbone]
name = "glyph_vit"
[data]
source = "digits"
proxy = 100
validation = 60
[training]
epochs = 2
batch_size = 50
rungs = [1]
"""
SPACE = """
name = "mini"
presets = ["linear-probe"]
[[slots]]
name = "mlp"
operation = "mlp"
tuner = ["none", "adapter", "norm"]
rank = [1, 10]
blocks = ["all", "last 1"]
"""


def measured(seed: int, classes: int, images: int = 60) -> Measurement:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(images, 10, generator=generator)
    labels = torch.randint(classes, (images,), generator=generator)
    logits[torch.arange(images), labels] += 1.0
    return Measurement(logits, labels, lambda: 0.25)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [10, 4])  # of four, six classes are predicted and never there
def test_shares_are_scikit_learns(seed: int, classes: int) -> None:
    given = measured(seed, classes)
    labels, predicted = given.labels.numpy(), given.logits.argmax(1).numpy()

    def value(name: str) -> float:
        known = objective(name)
        assert isinstance(known, MeasuredObjective)
        return known.measure(given)

    assert value("accuracy") == pytest.approx(accuracy_score(labels, predicted))
    assert value("macro_f1") == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0))
    if classes == 10:
        assert value("balanced_accuracy") == pytest.approx(balanced_accuracy_score(labels, predicted))
    recalls = [float((predicted[labels == c] == c).mean()) for c in sorted(set(labels.tolist()))]
    assert value("balanced_accuracy") == pytest.approx(np.mean(recalls))
    assert value("latency") == 0.25


def test_exact_ones_are_closed_forms() -> None:
    design = Design.preset("adapter").resolve(SHAPE.depth)
    values = Objectives(("accuracy", "parameters", "flops")).exact_values(design, SETTING)
    assert values == {
        "parameters": design.num_parameters(SHAPE, SETTING.num_classes),
        "flops": num_flops(design, SHAPE, SETTING.num_classes),
    }


def test_a_linear_probe_has_the_fewest_flops_and_what_merges_none() -> None:
    probe, lora, adapter = (
        Objectives(("accuracy", "flops")).exact_values(d.resolve(6), SETTING)["flops"]
        for d in (Design(), Design.preset("lora"), Design.preset("adapter"))
    )
    assert probe == lora < adapter
    assert objective("flops").goodness([probe], SETTING)[0] == 1


def test_the_worst_number_of_parameters_is_full_fine_tunings() -> None:
    head = torch.nn.Linear(SHAPE.num_features, SETTING.num_classes)
    most = SHAPE.parameters + sum(p.numel() for p in head.parameters())
    assert objective("parameters").goodness([most], SETTING)[0] == 0
    assert objective("parameters").goodness([most - 1], SETTING)[0] > 0


def test_the_help_names_what_is_registered() -> None:
    """`search/defaults.py` has the names without importing anything."""
    assert tuple(o.name for o in OURS) == defaults.NAMES
    assert USUAL.names == defaults.OBJECTIVES


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("accuracy", "parametres"), "'parametres'.*'parameters'"),
        (("accuracy", "accuracy"), "named once"),
        (("parameters", "flops"), "at least one objective is measured"),
        ((), "at least one objective is measured; got none"),
    ],
)
def test_sets_that_make_no_sense_are_refused(names: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Objectives(names)


def test_accuracy_is_measured_in_any_case() -> None:
    assert [m.name for m in measures(Objectives(("macro_f1", "parameters")))] == ["accuracy", "macro_f1"]


def test_quality_and_cost() -> None:
    assert (USUAL.quality.name, USUAL.cost.name) == ("accuracy", "parameters")
    both = Objectives(("parameters", "latency", "macro_f1"))
    assert (both.quality.name, both.cost.name) == ("macro_f1", "parameters")
    measured = Objectives(("latency", "accuracy", "macro_f1"))
    assert (measured.quality.name, measured.cost.name) == ("accuracy", "latency")
    alone = Objectives(("balanced_accuracy",))
    assert alone.quality is alone.cost


@pytest.mark.parametrize("names", [(n,) for n, o in OBJECTIVES.items() if not o.exact] + [tuple(OBJECTIVES)])
def test_studies_of_any_objectives(names: tuple[str, ...]) -> None:
    study = PretendStudy(objectives=Objectives(names))
    records = study.play(15)
    front = study.scheduler.history.front
    assert 1 <= len(front) <= len(records)
    assert all(set(r.values) == set(names) for r in front)
    assert all(r.accuracy is not None for r in front)
    assert study.optuna.directions == [
        optuna.study.StudyDirection[OBJECTIVES[name].direction.upper()] for name in names
    ]


def test_a_real_study_of_five(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_training, "MOST_ROUNDS", 2)
    monkeypatch.setattr(latency, "TURNS", 1)  # no test looks at how precisely
    (tmp_path / "task.toml").write_text(TASK)
    (tmp_path / "mini.toml").write_text(SPACE)
    names = ("balanced_accuracy", "macro_f1", "parameters", "flops", "latency")
    study = Study.create(
        str(tmp_path / "mini.toml"),
        str(tmp_path / "task.toml"),
        studies_dir=tmp_path,
        name="five",
        objectives=names,
        limits={"flops": 50_000_000},
        pruner=None,
    )
    assert study.run(Budget(trials=5), workers=0)
    again = Study.load("five", studies_dir=tmp_path)
    assert again.objectives == Objectives(names)
    assert again.front() == study.front()
    assert 0 < again.hypervolume() < 1
    for record in again.trials():
        assert record.state == "complete"
        assert set(record.values) == set(names)
        assert record.values["parameters"] == record.parameters
        assert record.values["latency"] > 0
        assert record.accuracy is not None
        assert set(record.measured[1]) == {"accuracy", "balanced_accuracy", "macro_f1"}, "latency is not of a rung"
    found = confirm(again, top=1, seeds=1, epochs=1, workers=0)
    for final in found.finals:
        assert set(final.outcomes[0].others) == {"balanced_accuracy", "macro_f1", "latency"}
        assert 0 <= (final.mean_of("macro_f1") or -1.0) <= 1
        assert final.to_dict()["test_macro_f1"] == final.mean_of("macro_f1")
    usual = Study.create(str(tmp_path / "mini.toml"), str(tmp_path / "task.toml"), studies_dir=tmp_path, name="two")
    assert again.spec.digest != usual.spec.digest
