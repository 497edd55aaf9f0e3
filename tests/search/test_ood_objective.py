"""The objective `ood_auroc`: measured against the task's unknown images; finals have others than the search."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import InputError
from utuning_search.data.decoding import Decoding
from utuning_search.data.outliers import load_outliers, task_outliers
from utuning_search.data.spec import DataSpec, data_table
from utuning_search.results.confirm import confirm
from utuning_search.results.trained import final_model, read_source
from utuning_search.search.budget import Budget
from utuning_search.search.objectives.detection import OodAuroc
from utuning_search.search.study import Study
from utuning_search.training import full as full_training
from utuning_search.training.context import SearchContext, load_search
from utuning_search.training.loop import predict
from utuning_search.training.measurement import Measurement
from utuning_search.training.task import Task
from utuning_search.training.weights import CHECK, SEAL

TASK = """
name = "odd"
[backbone]
name = "glyph_vit"
[data]
source = "digits"
shots = 4
validation = 60
ood = "letters"
[training]
epochs = 2
batch_size = 20
rungs = [1]
"""
NAMES = ("accuracy", "ood_auroc", "parameters")
GREY = Preprocessing(8, 1, (0.5,), (0.5,), "bilinear")


def auroc_of(model: TunedModel, context: SearchContext, known: torch.Tensor, unknown: torch.Tensor) -> float:
    """By hand, of uint8 images."""
    normalise = context.preprocessing.normalise
    sure = [predict(model.eval(), normalise(x)).softmax(dim=1).amax(dim=1) for x in (known, unknown)]
    labels = np.repeat([1, 0], (len(known), len(unknown)))
    return float(roc_auc_score(labels, torch.cat(sure).numpy()))


def test_it_is_the_auroc_of_the_largest_probability() -> None:
    logits = torch.tensor([[5.0, 0.0], [2.0, 0.0], [0.5, 0.0]])
    unknown = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    measured = Measurement(logits, torch.zeros(3, dtype=torch.int64), lambda: 0.0, lambda: unknown)
    assert OodAuroc().measure(measured) == pytest.approx(3 / 6)


def test_a_search_is_measured_against_its_half_and_finals_against_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(full_training, "MOST_ROUNDS", 2)
    (tmp_path / "odd.toml").write_text(TASK)
    study = Study.create("smoke", str(tmp_path / "odd.toml"), name="odd", studies_dir=tmp_path, objectives=NAMES)
    assert study.run(Budget(trials=2), workers=0)
    context = load_search(study.spec.task, None)
    letters = load_outliers("letters", context.preprocessing, Decoding()).images
    assert context.outliers is not None
    assert torch.equal(context.outliers, letters[0::2])
    record = next(r for r in study.trials() if r.state == "complete")
    assert record.design is not None
    assert set(record.values) == set(NAMES)
    assert "ood_auroc" in record.measured[1], "at the rung too"
    model = TunedModel(context.backbone, record.design, 10)
    tensors = read_source(study, record)
    model.load_tuner_state_dict({k: v for k, v in tensors.items() if k not in (CHECK, SEAL)})
    wanted = auroc_of(model, context, context.data.validation.images, letters[0::2])
    assert record.values["ood_auroc"] == pytest.approx(wanted, abs=1e-4)
    found = confirm(study, trials=[record.number], seeds=1, epochs=1, workers=0)
    (final,) = found.finals
    assert final.to_dict()["test_ood_auroc"] == final.outcomes[0].others["ood_auroc"]
    trained = final_model(study, record.design, final.outcomes[0], context.backbone)
    assert trained is not None
    assert final.confidences is not None
    sure = predict(trained, context.preprocessing.normalise(letters[1::2])).softmax(dim=1).amax(dim=1).numpy()
    labels = np.repeat([1, 0], (len(final.confidences[0]), len(sure)))
    by_hand = roc_auc_score(labels, np.concatenate([final.confidences[0], sure]))
    assert final.outcomes[0].others["ood_auroc"] == pytest.approx(by_hand, abs=1e-4)


def test_a_study_that_weighs_it_has_unknown_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--objectives ood_auroc: the task has images of other kinds; got none"):
        Study.create("smoke", "digits", name="x", studies_dir=tmp_path, objectives=NAMES)
    assert not list(tmp_path.iterdir())


def test_halves_are_all_and_share_nothing() -> None:
    spec = DataSpec("digits", ood="letters")
    one, other = (task_outliers(spec, GREY, Decoding(), None, finals=finals) for finals in (False, True))
    assert one is not None
    assert other is not None
    whole = load_outliers("letters", GREY, Decoding()).images
    assert torch.equal(torch.stack([one, other], dim=1).flatten(0, 1), whole)
    assert task_outliers(DataSpec("digits"), GREY, Decoding(), None, finals=True) is None


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    for ood, message in (("nowhere", "task data, ood: it exists in the data directory"), ("empty", "task data, ood")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=message):
            task_outliers(DataSpec("digits", ood=ood), GREY, Decoding(), tmp_path, finals=False)


def test_studies_keep_their_unknown_images_and_others_their_digests() -> None:
    """A study is resumed with the same ones only; of a task that names none nothing changes."""
    task = Task.load("digits")
    plain, odd = (load_search(t, None).data.digest for t in (task, task.with_ood("letters")))
    assert plain != odd
    assert "ood" not in data_table(task.data)
    assert data_table(dataclasses.replace(task.data, ood="letters"))["ood"] == "letters"
