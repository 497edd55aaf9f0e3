"""An export is what was trained, whole, or not there: weights, logits, folder; and it needs no images."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from utuning_search.common.errors import BackboneError, StudyError, UTuningError
from utuning_search.designs.design import Design, Placement
from utuning_search.results.checked import TOLERANCE, difference, tolerance
from utuning_search.results.exports import peft, tuner
from utuning_search.results.exports.tuner import export_trial
from utuning_search.results.load import load_tuned
from utuning_search.search.budget import Budget
from utuning_search.search.layout import named
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord
from utuning_search.training.context import load_search
from utuning_search.training.weights import CHECK, SEAL, check_images, older_check_images, sealed
from utuning_search.tuners import AdapterConfig, LoraConfig

from .test_export import SPACE, TASK, Bench, refusal

ADAPTER = "tuners.block_4.added.mlp.adapter.parallel.up.weight"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def trained(bench: Bench) -> TrialRecord:
    return bench.train(Design((Placement("mlp", AdapterConfig(2)), Placement("q", LoraConfig(1)))))


@pytest.fixture
def record(bench: Bench, trained: TrialRecord) -> TrialRecord:
    """Another trial with the same weights, which a test may spoil."""
    number = 1000 + len(list((bench.study.folder / "weights").iterdir()))
    shutil.copy(bench.study.weights_file(trained.number), bench.study.weights_file(number))
    return replace(trained, number=number)


def weights(bench: Bench, record: TrialRecord) -> Path:
    return bench.study.weights_file(record.number)


def change(path: Path, *, by: float, name: str = "", seal: bool = False) -> None:
    """Add to one weight, the last one of a tensor, and with `seal` say that it was so."""
    tensors = safetensors.torch.load_file(path)
    name = name or next(k for k in tensors if k.startswith("tuners."))
    tensors[name].view(-1)[-1] += by
    safetensors.torch.save_file(sealed(tensors) if seal else tensors, path)


def unsealed(path: Path, images: Callable[[], Tensor]) -> None:
    """As a version wrote it that kept logits of other images, and no seal."""
    tensors = safetensors.torch.load_file(path)
    del tensors[SEAL]
    with torch.no_grad():
        tensors[CHECK] = images()
    safetensors.torch.save_file(tensors, path)


# What was trained


@pytest.mark.parametrize("by", [1.0, 1e-6, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["", "head.bias", CHECK])
def test_weights_that_were_changed_are_not_exported(
    by: float, name: str, bench: Bench, record: TrialRecord, tmp_path: Path
) -> None:
    change(weights(bench, record), by=by, name=name)
    message = refusal(lambda: export_trial(bench.study, record, tmp_path / "out"), StudyError)
    assert f"{record.number:05}.safetensors: it holds the weights that were trained; got others" in message
    assert f"utuning-search confirm {named(bench.study.folder)} --trial {record.number}" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("by", "told"), [(1.0, "a difference of"), (float("nan"), "nan")])
def test_logits_that_differ_are_refused_with_the_tolerance(
    by: float, told: str, bench: Bench, record: TrialRecord, tmp_path: Path
) -> None:
    """Sealed as they are, so that only the comparison can see it."""
    change(weights(bench, record), by=by, name="head.bias", seal=True)
    message = refusal(lambda: export_trial(bench.study, record, tmp_path / "out"), StudyError)
    assert "its logits are those of its training, up to" in message
    assert told in message
    assert not list(tmp_path.iterdir())


def test_a_training_whose_logits_are_not_finite_is_not_exported(
    bench: Bench, record: TrialRecord, tmp_path: Path
) -> None:
    change(weights(bench, record), by=float("nan"), name=CHECK, seal=True)
    only_lora = replace(record, design=Design((Placement("q", LoraConfig(1)),)).resolve(6))
    for write in (
        lambda: export_trial(bench.study, record, tmp_path / "out"),
        lambda: peft.export(bench.study, only_lora, tmp_path / "out"),
    ):
        assert "logits of its training are finite" in refusal(write, StudyError)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"not safetensors"])
def test_weights_that_cannot_be_read_are_told(
    content: bytes, bench: Bench, record: TrialRecord, tmp_path: Path
) -> None:
    weights(bench, record).write_bytes(content)
    assert "confirm" in refusal(lambda: export_trial(bench.study, record, tmp_path / "out"), StudyError)
    assert not list(tmp_path.iterdir())


# What is loaded


@pytest.fixture(scope="module")
def whole(bench: Bench, trained: TrialRecord) -> Path:
    export_trial(bench.study, trained, bench.root / "whole")
    return bench.root / "whole"


@pytest.fixture
def copied(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copied"))


@pytest.mark.parametrize("by", [1.0, 1e-6, float("nan")])
@pytest.mark.parametrize(("seal", "name"), [(False, ""), (True, ""), (False, "head.weight"), (False, CHECK)])
def test_an_export_that_was_changed_is_not_loaded(by: float, seal: bool, name: str, copied: Path) -> None:
    change(copied / "tuner.safetensors", by=by, name=name, seal=seal)
    message = refusal(lambda: load_tuned(copied))
    assert f"exported tuner {copied}" in message
    assert "Export it again." in message


def test_a_backbone_that_computes_something_else_is_not_loaded(copied: Path) -> None:
    """As another version of timm may: same weights, other logits. Here the logits are changed, and all is sealed."""
    change(copied / "tuner.safetensors", by=0.37, name=CHECK, seal=True)  # of the last image
    assert load_tuned(copied).classes
    tensors = safetensors.torch.load_file(copied / "tuner.safetensors")
    tensors[CHECK][1, 2] += 0.37
    safetensors.torch.save_file(sealed(tensors), copied / "tuner.safetensors")
    message = refusal(lambda: load_tuned(copied, merge=True), BackboneError)
    assert "its logits on images of noise are those of its training, up to" in message
    assert "a difference of 3.7e-01" in message


def test_an_export_of_before_digests_is_loaded(copied: Path) -> None:
    text = (copied / "tuner.toml").read_text(encoding="utf-8")
    lines = [line for i, line in enumerate(text.splitlines()) if i > 5 or not line.startswith("digest")]
    (copied / "tuner.toml").write_text("\n".join(lines), encoding="utf-8")
    unsealed(copied / "tuner.safetensors", lambda: torch.zeros(16, 10))
    assert load_tuned(copied).classes


def test_a_choice_of_arithmetic_is_no_fault_of_the_model() -> None:
    """Matrix products in bf16 are off by more than the tolerance, and are not held against it."""

    class Rough(torch.nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.dtype == torch.double else super().forward(x).bfloat16().float()

    model, x = Rough(8, 3).eval().requires_grad_(False), torch.randn(4, 8)
    wanted = torch.nn.functional.linear(x, model.weight, model.bias)
    assert float((model(x) - wanted).abs().max()) > TOLERANCE
    assert difference(model, x, wanted) <= 1e-6
    assert difference(model, x, wanted + 0.1) == pytest.approx(0.1, abs=1e-5)
    assert not difference(model, x, wanted * float("nan")) <= 1
    assert not difference(model, x, wanted[:, :2]) <= 1
    assert tolerance(50 * torch.ones(1)) == pytest.approx(50 * TOLERANCE)


def test_images_of_noise_are_of_no_library(bench: Bench) -> None:
    """The numbers themselves: what was exported with others would be refused."""
    images = check_images(bench.trainer._preprocessing)
    assert images.shape == (16, 1, 8, 8)
    assert images.flatten()[:6].tolist() == [215, 114, 116, 146, 66, 155]
    assert not torch.equal(images, older_check_images(bench.trainer._preprocessing))


# The folder


def test_what_cannot_be_finished_is_not_there(
    bench: Bench, trained: TrialRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes in between; and what a killed export left is removed by the next one."""

    def broken(folder: Path, **others: object) -> None:
        raise KeyboardInterrupt(folder, others)

    with monkeypatch.context() as patch:
        patch.setattr(tuner, "open_tuned", broken)
        with pytest.raises(KeyboardInterrupt):
            export_trial(bench.study, trained, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    (tmp_path / ".out.0123abcd.unfinished").mkdir()
    (tmp_path / ".out.0123abcd.unfinished" / "tuner.toml").write_text("")
    export_trial(bench.study, trained, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_other_files_keeps_them(bench: Bench, trained: TrialRecord, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    export_trial(bench.study, trained, tmp_path / "out")
    assert load_tuned(tmp_path / "out").classes
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "README.md",
        "mine.txt",
        "tuner.safetensors",
        "tuner.toml",
    ]


def test_a_name_that_is_too_long_is_told(bench: Bench, trained: TrialRecord, tmp_path: Path) -> None:
    message = refusal(lambda: export_trial(bench.study, trained, tmp_path / ("n" * 260)), StudyError)
    assert "File name too long. Choose another with" in message


# Images that are gone, or others


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    """A study of two classes of image files, with one trial trained."""
    root = tmp_path_factory.mktemp("photos")
    paint(root / "images", 0)
    (root / "space.toml").write_text(SPACE)
    text = TASK.replace('"digits"', '"imagefolder"\nroot = "images"\nheld_out = 0.2')
    (root / "task.toml").write_text(text.replace("= 60", "= 20").replace("= 40", "= 20"))
    study = Study.create(
        str(root / "space.toml"), str(root / "task.toml"), studies_dir=root / "studies", data_dir=str(root)
    )
    assert study.run(Budget(trials=1), workers=0)
    return study, root


def paint(folder: Path, seed: int) -> None:
    """Thirty images each of two classes, under the same names whatever the seed."""
    random = np.random.default_rng(seed)
    for name in ("dark", "light"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(30):
            pixels = random.integers(0, 128, (8, 8)) + (128 if name == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")


@pytest.mark.parametrize("what", ["gone", "others"])
def test_a_tuner_is_exported_without_its_images(what: str, photos: tuple[Study, Path], tmp_path: Path) -> None:
    study, root = photos
    if what == "gone":
        shutil.rmtree(root / "images", ignore_errors=True)
    else:
        paint(root / "images", 1)
    assert export_trial(study, study.front()[0], tmp_path / "out") <= 1e-6
    assert load_tuned(tmp_path / "out").classes == ("dark", "light")


def test_a_trial_of_an_older_version_is_compared_on_its_images(photos: tuple[Study, Path], tmp_path: Path) -> None:
    """It is refused with others under the same names; with its own it is exported as a new one is."""
    study, root = photos
    path = study.weights_file(study.front()[0].number)
    paint(root / "images", 0)
    export_trial(study, study.front()[0], tmp_path / "first")
    model = load_tuned(tmp_path / "first")
    kept, images = path.read_bytes(), study_images(study, root)
    unsealed(path, lambda: model(model.preprocess(images)))
    try:
        assert export_trial(study, study.front()[0], tmp_path / "second") <= 1e-6
        assert (tmp_path / "second" / "tuner.safetensors").read_bytes() == kept
        paint(root / "images", 1)
        message = refusal(lambda: export_trial(study, study.front()[0], tmp_path / "third"), StudyError)
        assert "a difference of" in message
        assert not (tmp_path / "third").exists()
        shutil.rmtree(root / "images")
        with pytest.raises(UTuningError, match="images"):
            export_trial(study, study.front()[0], tmp_path / "third")
    finally:
        path.write_bytes(kept)


def study_images(study: Study, root: Path) -> Tensor:
    return load_search(study.spec.task, str(root)).data.validation.images[:16]
