"""An export predicts from files alone what its training predicted, bit for bit; and of any picture."""

import contextlib
import csv
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

from utuning_search import load_tuned
from utuning_search.backbones.loading import preprocessing_of
from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.cli.main import main
from utuning_search.common.errors import InputError
from utuning_search.common.seeds import derive_seed
from utuning_search.data import pixels
from utuning_search.data.decoding import Decoding
from utuning_search.data.loading import load_search_data
from utuning_search.data.pictures import read_pictures
from utuning_search.results import predict as predicting
from utuning_search.results.classifier import TunedClassifier
from utuning_search.results.confirm import confirm
from utuning_search.results.exports.tuner import export_trial
from utuning_search.results.predictions import read_predictions
from utuning_search.search.budget import Budget
from utuning_search.search.study import Study
from utuning_search.training import full as full_training
from utuning_search.training.context import load_search
from utuning_search.training.measurement import Measurement
from utuning_search.training.proxy import ProxyTrainer
from utuning_search.training.runtime import Runtime
from utuning_search.training.task import Task

from ..cli.commands import command, refused, succeeded
from ..helpers import tiny_vit

optuna.logging.set_verbosity(optuna.logging.ERROR)

CLASSES, TRAIN, TEST = (0, 1, 3), 14, 6
TASK = """
name = "odd"
[backbone]
name = "glyph_vit"
crop = 0.8
[data]
source = "imagefolder"
root = "photos"
proxy = 24
validation = 12
[training]
epochs = 2
batch_size = 12
"""
SPACE = """
name = "one"
[[slots]]
name = "mlp"
operation = "mlp"
tuner = "adapter"
rank = 2
form = "sequential"
"""
TURNED = 0x0112


def save(pixels: np.ndarray[Any, Any], i: int, folder: Path) -> None:
    """A digit as one of the odd kinds of pictures that a data set has to settle how to read."""
    large = np.kron(pixels.astype("uint8"), np.ones((5, 3), dtype="uint8"))
    grey = Image.fromarray((large * 15).astype("uint8"))
    folder.mkdir(parents=True, exist_ok=True)
    match i % 4:
        case 0:
            exif = Image.Exif()
            exif[TURNED] = 6
            grey.save(folder / f"{i}.jpg", exif=exif)
        case 1:
            shape = Image.new("RGBA", grey.size)
            shape.putalpha(grey)  # a black figure on nothing
            shape.save(folder / f"{i}.png")
        case 2:
            Image.fromarray(large.astype("uint16") * 60).save(folder / f"{i}.png")  # 10 bits
        case _:
            grey.convert("P").save(folder / f"{i}.gif")


@dataclass(frozen=True)
class Spy:
    """A measure that keeps the logits it is asked about."""

    seen: list[Tensor] = field(default_factory=list)
    name: str = "spy"
    at_rungs: bool = False

    def measure(self, measured: Measurement) -> float:
        self.seen.append(measured.logits)
        return 0.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with odd pictures, a study `s` of one design on them, its trial's export and that of its final."""
    root, digits = tmp_path_factory.mktemp("predict"), load_digits()
    for label in CLASSES:
        for i, digit in enumerate(digits.images[digits.target == label][: TRAIN + TEST]):
            save(digit, i, root / "photos" / ("train" if i < TRAIN else "test") / str(label))
    (root / "task.toml").write_text(TASK)
    (root / "space.toml").write_text(SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(full_training, "MOST_ROUNDS", 2)
        study = Study.create(
            str(root / "space.toml"), str(root / "task.toml"), name="s", studies_dir=root, data_dir=str(root)
        )
        assert study.run(Budget(trials=1), workers=0)
        export_trial(study, study.front()[0], root / "trial")
        confirm(study, trials=[0], seeds=1, workers=0)
        export_trial(study, study.front()[0], root / "final")
        yield root


@pytest.fixture(scope="module")
def tuner(place: Path) -> TunedClassifier:
    return load_tuned(place / "final")


@pytest.fixture
def files(place: Path) -> list[Path]:
    """Of the test, in the order of their classes."""
    return [p for c in CLASSES for p in sorted((place / "photos" / "test" / str(c)).iterdir())]


# The training's own


def test_a_trial_s_logits_are_those_of_its_files_bit_for_bit(place: Path) -> None:
    study, spy = Study.load("s", studies_dir=place), Spy()
    (record,) = study.front()
    assert record.design is not None
    context = load_search(study.spec.task, str(place))
    trainer = ProxyTrainer(study.spec.task, Runtime(data_dir=str(place)), context, [spy])
    *_, last = trainer.evaluate(record.design, derive_seed(study.spec.seed, f"training {record.key}"))
    assert last.accuracy == record.accuracy
    assert context.preprocessing.resized == 10, "the crop counts"
    (logits,) = spy.seen
    model = load_tuned(place / "trial")
    files = [place / "photos" / name for name in context.data.validation.names]
    assert {p.suffix for p in files} == {".jpg", ".png", ".gif"}
    assert torch.equal(read_pictures(files, model.preprocessing, model.decoding), context.data.validation.images)
    with torch.no_grad():
        assert torch.equal(model(model.preprocess(files)), logits)
    found = model.predict(files)
    assert torch.equal(found.probabilities, logits.softmax(1))
    assert found.labels.tolist() == logits.argmax(1).tolist()
    assert found.names == tuple(str(CLASSES[i]) for i in found.labels.tolist())


def test_a_final_s_answers_are_those_of_its_files(place: Path, tuner: TunedClassifier, files: list[Path]) -> None:
    from utuning_search.results.outcomes import read_outcome

    (kept,) = (place / "s" / "finals").glob("*_seed0.json")
    answers = read_predictions(place / "s", [read_outcome(kept)])
    assert answers is not None
    for size in (1, 7, 64):
        assert tuner.predict(files, batch_size=size).labels.tolist() == answers[0].tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_final_reads_pictures_as_it_was_trained_on_them_all(workers: int, place: Path, tmp_path: Path) -> None:
    """Of which a search has drawn some only, and none that is transparent."""
    spec = replace(Task.load(str(place / "task.toml")).data, proxy=4, validation=4)
    for i in range(2 * TRAIN):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        path = tmp_path / "photos" / ("train" if i < TRAIN else "test") / "ab"[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    drawn = load_search_data(spec, Preprocessing(8, 1, (0.5,), (0.5,), "bicubic"), tmp_path)
    left = sorted(
        {f"train/{'ab'[i % 2]}/{i:02d}.png" for i in range(TRAIN)} - {*drawn.proxy.names, *drawn.validation.names}
    )
    icon = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    icon.paste((255, 255, 255, 255), (2, 0, 4, 8))  # white, which cannot be seen on the usual ground
    for name in (left[0], "test/a/14.png"):
        icon.save(tmp_path / "photos" / name)
    (tmp_path / "task.toml").write_text(TASK.replace("= 24", "= 4").replace("validation = 12", "validation = 4"))
    study = Study.create(
        str(place / "space.toml"), str(tmp_path / "task.toml"), name="s", studies_dir=tmp_path, data_dir=str(tmp_path)
    )
    assert study.run(Budget(trials=1), workers=0)
    assert study.decoding == Decoding()
    confirm(study, trials=[0], seeds=1, workers=workers)
    export_trial(study, study.front()[0], tmp_path / "final")
    assert load_tuned(tmp_path / "final").decoding == Decoding(0)


def test_no_study_and_no_other_picture_is_needed(place: Path, files: list[Path], tmp_path: Path) -> None:
    shutil.copytree(place / "final", tmp_path / "moved")
    for path in files[:4]:
        shutil.copy(path, tmp_path)
    alone = load_tuned(tmp_path / "moved").predict([tmp_path / p.name for p in files[:4]], batch_size=1)
    for i, path in enumerate(files[:4]):
        assert torch.equal(alone.probabilities[i : i + 1], load_tuned(place / "final").predict(path).probabilities)


def test_the_mode_of_the_module_stays(tuner: TunedClassifier, files: list[Path]) -> None:
    wanted = tuner.predict(files).probabilities
    tuner.train()
    assert torch.equal(tuner.predict(files).probabilities, wanted)
    assert tuner.training
    tuner.eval()


# Any picture


def test_files_pictures_arrays_and_tensors_are_one(tuner: TunedClassifier, files: list[Path]) -> None:
    chosen = [p for p in files if p.suffix == ".png"]
    wanted = tuner.predict(chosen).probabilities
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(Image.open(p)) for p in chosen]
        arrays = [np.asarray(picture) for picture in opened]
        for given in (map(str, chosen), opened, arrays, iter(chosen)):
            assert torch.equal(tuner.predict(given).probabilities, wanted)
    colours = np.asarray(Image.fromarray(arrays[0]).convert("RGB"))
    grey = np.asarray(Image.fromarray(colours).convert("L"))
    pixels = tuner.preprocess(grey)
    tensor = torch.from_numpy(grey.copy())[None]
    for given in (colours, Image.fromarray(colours), colours[None], grey[..., None], tensor):
        assert torch.equal(tuner.preprocess(given), pixels)
    several = tensor[None].repeat(3, 1, 1, 1)
    assert torch.equal(tuner.preprocess(several), pixels.repeat(3, 1, 1, 1))
    assert tuner.predict(np.stack([colours, colours])).rows == (0, 1)


def test_a_tensor_of_the_backbone_s_size_is_taken_as_it_is(tuner: TunedClassifier) -> None:
    pixels = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8)
    assert tuner.preprocessing.resized > 8, "others are cropped"
    wanted = tuner.preprocessing.normalise(pixels[None])
    for given in (pixels, pixels[None], [pixels]):
        assert torch.equal(tuner.preprocess(given), wanted)
        assert torch.equal(tuner.predict(given).probabilities, tuner(wanted).softmax(dim=1))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.zeros(3, 1, 8, 8), "tensors are uint8 of .*; got torch.float32 of"),
        (torch.zeros(3, 9, 9, dtype=torch.uint8), "tensors are uint8"),
        ([np.zeros((4, 4, 2), dtype=np.uint8)], "arrays are uint8 of"),
        ([np.zeros((4, 4, 3), dtype=np.float32)], r"arrays are uint8 .*255 \* array"),
        ([np.zeros((0, 4), dtype=np.uint8)], "picture 0: it can be read; got no pixels"),
        ([7], "each is a file, a picture of Pillow's, an array or a tensor; got int"),
    ],
)
def test_what_is_no_picture_is_refused(given: Any, said: str, tuner: TunedClassifier) -> None:
    with pytest.raises(InputError, match=said):
        tuner.predict(given)
    with pytest.raises(InputError, match=said):
        tuner.preprocess(given)


def test_batches_are_read_when_they_are_asked_for(tuner: TunedClassifier, files: list[Path]) -> None:
    """So a folder of any size is never in memory at once."""
    read: list[int] = []

    def endless() -> Iterator[Path]:
        for i in range(1_000_000):
            read.append(i)
            yield files[i % len(files)]

    batches = tuner.predict_each(endless(), batch_size=5)
    assert [len(next(batches)), len(read)] == [5, 5]
    assert [next(batches).rows, len(read)] == [(5, 6, 7, 8, 9), 10]


def test_top_is_sorted_and_none_gives_none(tuner: TunedClassifier, files: list[Path]) -> None:
    found = tuner.predict(files)
    for own, shares in zip(found.top(2), found.probabilities, strict=True):
        assert [share for _, share in own] == shares.sort(descending=True).values[:2].tolist()
        assert own[0][0] == tuner.classes[int(shares.argmax())]
    assert torch.allclose(found.probabilities.sum(1), torch.ones(len(files)))
    nothing = tuner.predict([])
    assert (len(nothing), nothing.names, nothing.probabilities.shape) == (0, (), (0, len(CLASSES)))
    with pytest.raises(InputError, match="batch_size: it is at least 1; got 0"):
        tuner.predict(files, batch_size=0)


def test_pictures_of_a_kind_that_was_not_trained_on_are_said(
    tuner: TunedClassifier, place: Path, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes: list[str] = []
    list(tuner.predict_each(files, noted=notes.append))
    assert notes == [], "of transparent, 10-bit and turned ones there were some"
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "float.tif")
    page = Image.new("L", (8, 8))
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page])
    odd = sorted(tmp_path.iterdir())
    with Image.open(odd[0]) as picture:
        list(tuner.predict_each([picture, *odd], noted=notes.append))
    assert len(notes) == 2
    assert f"2 images are (picture 0, {odd[0]}) of float samples: each was scaled by itself" in notes[0]
    assert f"1 image is ({odd[1]}) animated or of several pages" in notes[1]
    assert main(["predict", str(place / "final"), str(tmp_path), "--format", "csv"]) == 0
    said = capsys.readouterr()
    assert [line.split(": ", 2)[:2] for line in said.err.splitlines()] == [["utuning-search", "note"]] * 2
    assert said.out.count("\n") == 3


# The crop


def test_the_crop_is_the_task_s_and_the_model_s_own_if_asked_for() -> None:
    model: nn.Module = tiny_vit()
    assert preprocessing_of(model, "any").crop == 1.0
    assert preprocessing_of(model, "any", 0).crop == 0.875
    assert preprocessing_of(model, "any", 0.5).crop == 0.5
    with pytest.raises(InputError, match="crop is the share that is kept"):
        BackboneSpec("glyph_vit", crop=1.5)


def test_a_crop_is_resized_as_timm_does_and_the_middle_taken() -> None:
    whole = Preprocessing(8, 1, (0.5,), (0.5,), "bicubic")
    image = torch.randint(256, (1, 24, 24), dtype=torch.uint8)
    assert (whole.resized, replace(whole, crop=0.9).resized, replace(whole, crop=0.875, image_size=224).resized) == (
        8,
        8,
        256,
    )
    halved = replace(whole, crop=0.5)
    assert torch.equal(pixels.fitted(image, halved), pixels.fitted(image, replace(whole, image_size=16))[:, 4:12, 4:12])


def test_tasks_without_a_crop_are_what_they_were() -> None:
    """Digests of recorded studies hang on it."""
    table = Task.from_dict({**Task.load("digits").to_dict()}).to_dict()
    assert table["backbone"] == {"name": "glyph_vit", "checkpoint": "", "image_size": 0}
    assert BackboneSpec("glyph_vit", crop=0.8).to_dict()["crop"] == 0.8


# The command


@pytest.fixture
def folder(place: Path, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the export `e`, and a folder of pictures, two of which cannot be read."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "final", tmp_path / "e")
    (tmp_path / "mine" / "deeper").mkdir(parents=True)
    for i, path in enumerate(files[:6]):
        shutil.copy(path, tmp_path / "mine" / ("deeper" if i % 2 else "") / f"{i}{path.suffix}")
    (tmp_path / "mine" / "torn.png").write_bytes(b"no image")
    (tmp_path / "mine" / "deeper" / "empty.jpg").write_bytes(b"")
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_a_folder_is_predicted_and_what_cannot_be_read_is_named() -> None:
    tuner = load_tuned("e")
    tables = []
    for size in ("64", "2"):
        said = command("predict", "e", "mine", "-f", "csv", "--top", "2", "--batch-size", size)
        assert said.code == 0
        tables.append(list(csv.DictReader(io.StringIO(said.out))))
        assert said.err.splitlines() == [
            f"utuning-search: warning: mine/{name} cannot be read and was left out: no image of a known format"
            for name in ("torn.png", "deeper/empty.jpg")
        ] + [
            "utuning-search: warning: 2 of 8 images left out.",
        ]
    assert [r["class"] for r in tables[0]] == [r["class"] for r in tables[1]]
    rows = tables[0]
    assert list(rows[0]) == ["image", "class", "probability", "class_2", "probability_2"]
    assert len(rows) == 6
    for row in rows:
        (wanted,) = tuner.predict(row["image"]).top(2)
        assert [row["class"], row["class_2"]] == [name for name, _ in wanted]
        shares = [float(row["probability"]), float(row["probability_2"])]
        assert shares == pytest.approx([share for _, share in wanted], abs=1e-5)


def test_json_is_a_list_and_nothing_else(folder: Path) -> None:
    odd = folder / "mine" / "a\x9b\u202e, ü.png"
    shutil.copy(next((folder / "mine").glob("*.png")), odd)
    said = command("predict", "e", "mine", "--format", "json", "--top", "9")
    found = json.loads(said.out)
    assert len(found) == 7
    assert str(Path("mine") / odd.name) in {row["image"] for row in found}
    for row in found:
        assert len(row["top"]) == len(CLASSES), "no more than there are"
        assert {k: row[k] for k in ("class", "label", "probability")} == row["top"][0]
        assert row["class"] == str(CLASSES[row["label"]])
        assert sum(t["probability"] for t in row["top"]) == pytest.approx(1, abs=1e-5)


class Screen(io.StringIO):
    """A stream that somebody watches."""

    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("folder")
def test_a_bar_is_drawn_where_somebody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    drawn = []
    for options in ((), ("--quiet",)):
        screen = Screen()
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(screen):
            assert main(["predict", "e", "mine", "-f", "csv", *options]) == 0
        assert out.getvalue().startswith("image,class,probability\n"), "the bar is on the other stream"
        drawn.append(screen.getvalue())
    assert "predicting" in drawn[0]
    assert "8/8" in drawn[0], "those that cannot be read count"
    assert "predicting" not in drawn[1]


def test_the_table_is_of_one_line_an_image(folder: Path) -> None:
    (folder / "mine" / "torn.png").unlink()
    (folder / "mine" / "deeper" / "empty.jpg").unlink()
    (folder / "mine" / "0.png").rename(folder / "mine" / "0\nmine\x1b[2J.png")
    out = succeeded("predict", "e", "mine")
    assert [line.split()[0].startswith("mine/") for line in out.splitlines()] == [False, *[True] * 6]
    assert out.count("%") == 6
    assert r"0\nmine\x1b[2J.png" in out


def test_none_that_can_be_read_is_no_success(folder: Path) -> None:
    for path in (folder / "mine").rglob("*.*"):
        path.write_bytes(b"")
    said = command("predict", "e", "mine", "--format", "json")
    assert (said.code, said.out) == (2, "")
    assert command("predict", "e", "mine/torn.png", "mine/torn.png").code == 2
    assert said.err.splitlines()[-1] == "utuning-search: error: images: at least one can be read; got none of 8."


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("e", "mine", "--top", "0"), "--top: it is at least 1; got 0"),
        (("e", "mine", "--batch-size", "0"), "--batch-size: it is at least 1; got 0"),
        (("e", "mine", "-f", "xml"), "--format: format is one of table, csv, json; got 'xml'"),
        (("e", "mine", "nowhere.png"), "image nowhere.png: it is an image file or a folder of images; got no such"),
        (("e", "e"), "folder e: there are images in it; got none"),
        (("mine", "mine"), "exported tuner mine: tuner.toml is in it; got no such file"),
        (("e", "mine", "--device", "abacus"), "abacus"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_bad_input_is_refused_in_one_line(arguments: tuple[str, ...], said: str) -> None:
    assert said in refused("predict", *arguments)


def test_out_of_memory_takes_smaller_batches(tuner: TunedClassifier, files: list[Path]) -> None:
    class Small(nn.Module):
        """A model whose device has room for two images."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = tuner

        def forward(self, images: Tensor) -> Tensor:
            if len(images) > 2:
                raise torch.OutOfMemoryError
            found: Tensor = self.inner(images)
            return found

    parts = predicting.predict_each(Small(), files, tuner.preprocessing, tuner.decoding, tuner.classes)
    found = predicting.joined(parts, tuner.classes)
    assert found.labels.tolist() == tuner.predict(files).labels.tolist()
    assert tuner.decoding != Decoding()
