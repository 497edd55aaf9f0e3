"""Finals against images of other kinds: figures of the weights that were kept, a table, a report, a card, a command."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.cli.confirm_options import options_of
from utuning_search.cli.parser import make_parser
from utuning_search.common.errors import DataError, InputError, StudyError
from utuning_search.data.decoding import Decoding
from utuning_search.data.outliers import COUNT, check_given, load_outliers, without_copies
from utuning_search.results.exports.tuner import export_trial
from utuning_search.results.ood import detect as detecting
from utuning_search.results.ood.compare import Seen, Sets, see
from utuning_search.results.ood.detect import detect
from utuning_search.results.ood.figures import Detection
from utuning_search.results.ood.table import read_ood, write_ood
from utuning_search.results.outcomes import WEIGHTS, outcome_file
from utuning_search.results.report.write import report
from utuning_search.results.trained import final_model
from utuning_search.search.layout import IMAGES
from utuning_search.training.context import load_search
from utuning_search.training.loop import predict

from ..cli.commands import command
from .conftest import TESTED, Few

GREY = Preprocessing(8, 1, (0.5,), (0.5,), "bilinear")
Rows = dict[tuple[str, str, str, str], Detection]


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of noise, in folders below it, with a file that is no image."""
    folder = tmp_path_factory.mktemp("images") / "noise"
    draw = np.random.default_rng(0)
    for i in range(40):
        path = folder / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    (folder / "a" / "broken.png").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def detected(few: Few, noise: Path) -> tuple[Rows, tuple[str, ...]]:
    rows, notes = detect(few.study, few.found, ["letters", str(noise)], use=True, dsgf=True)
    return {(r.key, r.outliers, r.method, r.score): r for r in rows}, notes


@pytest.fixture
def tabled(few: Few, detected: tuple[Rows, tuple[str, ...]]) -> Iterator[Few]:
    """The study with its ood.csv."""
    path = write_ood(few.study.folder, detected[0].values())
    yield few
    path.unlink(missing_ok=True)


def test_each_final_set_method_and_score_has_a_row(few: Few, detected: tuple[Rows, tuple[str, ...]]) -> None:
    rows, notes = detected
    assert len(rows) == len(few.found.finals) * 2 * 3 * 4
    assert {(r.outliers, r.outlier_images, r.test_images, r.seeds) for r in rows.values()} == {
        ("letters", COUNT, TESTED, 2),
        ("noise", 40, TESTED, 2),
    }
    assert notes == ("noise/a/broken.png (no image of a known format) cannot be read, and is left out.",)
    for row in rows.values():
        assert row.auroc_low <= row.auroc <= row.auroc_high
        assert row.fpr95_low <= row.fpr95 <= row.fpr95_high
    assert max(r.auroc for r in rows.values() if r.outliers == "noise") > 0.9, "noise is far from digits"
    assert not list((few.study.folder / "finals").glob(f"{IMAGES}*"))


def test_figures_are_those_of_the_kept_weights(few: Few, detected: tuple[Rows, tuple[str, ...]]) -> None:
    """By hand from the confidences that finals kept, and the weights of each seed; accuracy is that of the finals."""
    final = few.found.finals[0]
    row = detected[0][final.key, "letters", "tuned", "msp"]
    assert row.accuracy == pytest.approx(final.mean)
    assert final.confidences is not None
    context = load_search(few.study.spec.task, few.data_dir)
    letters = context.preprocessing.normalise(load_outliers("letters", context.preprocessing, Decoding()).images)
    areas = []
    for outcome, known in zip(final.outcomes, final.confidences, strict=True):
        model = final_model(few.study, final.finalist.design, outcome, context.backbone)
        assert model is not None
        unknown = predict(model, letters).softmax(dim=1).amax(dim=1).numpy()
        areas.append(roc_auc_score(np.repeat([1, 0], (TESTED, COUNT)), np.concatenate([known, unknown])))
    assert areas[0] != areas[1]
    assert row.auroc == pytest.approx(np.mean(areas), abs=1e-4)


def test_detecting_again_gives_the_same(few: Few, noise: Path, detected: tuple[Rows, tuple[str, ...]]) -> None:
    """What else is scored, and by what, does not matter."""
    one = replace(few.found, finals=few.found.finals[:1])
    rows, _ = detect(few.study, one, [str(noise)], dsgf=True)
    assert {r.method for r in rows} == {"tuned", "dsgf"}
    assert all(detected[0][r.key, r.outliers, r.method, r.score] == r for r in rows)


def test_scales_are_set_by_images_that_finals_do_not_train_on(few: Few, noise: Path) -> None:
    given: list[Sets] = []

    def looked(model: TunedModel, sets: Sets) -> Seen:
        given.append(sets)
        return see(model, sets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detecting, "see", looked)
        detect(few.study, replace(few.found, finals=few.found.finals[:1]), [str(noise)])
    data = load_search(few.study.spec.task, few.data_dir).data
    assert given[0].scale is not None
    assert torch.equal(given[0].scale, data.validation.images)
    assert torch.equal(given[0].train, data.proxy.images), "finals train on the shots"


def test_finals_without_weights_are_left_out(few: Few, noise: Path, tmp_path: Path) -> None:
    """Older versions kept those of the first seed; of none there is nothing to score."""
    study = few.study.load("few", studies_dir=shutil.copytree(few.studies, tmp_path / "studies"))
    final = few.found.finals[0]
    paths = [outcome_file(study.folder, o.key, o.epochs, o.augmented, o.seed) for o in final.outcomes]
    one = replace(few.found, finals=(final,))
    paths[1].with_suffix(WEIGHTS).unlink()
    assert {r.seeds for r in detect(study, one, [str(noise)])[0]} == {1}
    paths[0].with_suffix(WEIGHTS).unlink()
    with pytest.raises(StudyError, match="some final has kept its weights; got none"):
        detect(study, one, [str(noise)])


# Images


def test_letters_are_no_digits_and_always_the_same() -> None:
    one, other = (load_outliers("letters", GREY, Decoding()) for _ in range(2))
    assert one.images.shape == (COUNT, 1, 8, 8)
    assert torch.equal(one.images, other.images)
    wide = load_outliers("letters", Preprocessing(16, 3, (0.5,) * 3, (0.5,) * 3, "bicubic"), Decoding())
    assert wide.images.shape == (COUNT, 3, 16, 16)


def test_copies_of_the_task_s_images_are_left_out(noise: Path) -> None:
    found = load_outliers(str(noise), GREY, Decoding())
    fewer = without_copies(found, found.images[:3], found.images[5:6])
    assert len(fewer.images) == 36
    assert fewer.notes[-1] == "4 of the 40 unknown images are the task's own, and are left out."
    assert without_copies(found, found.images.flip(-1)) is found
    with pytest.raises(DataError, match="unknown images 'noise': they are other images than the task's"):
        without_copies(found, found.images)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["nowhere"], "--ood nowhere: it is a folder of images, or 'letters'; got no such folder"),
        (["file"], "got a file"),
        (["empty"], "--ood empty: there are images in it; got none"),
        (["a/x", "b/x"], "have names of their own; got x. Rename"),
        (["letters", "letters"], "have names of their own; got letters"),
    ],
)
def test_what_is_no_set_of_images_is_refused(
    given: list[str], message: str, noise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "a/x", "b/x"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a", "b"):
        shutil.copy(noise / "a" / "0.png", tmp_path / name / "x")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=message):
        check_given(given)


def test_a_folder_that_can_hardly_be_read_is_refused(noise: Path, tmp_path: Path) -> None:
    shutil.copytree(noise, tmp_path / "odd")
    for path in sorted((tmp_path / "odd" / "b").iterdir())[:2]:
        path.write_text("x")
    with pytest.raises(DataError, match=r"at most 5% of the images cannot be read; got 3 of 41: .*broken"):
        load_outliers(str(tmp_path / "odd"), GREY, Decoding())


# What is said of them


def test_the_table_is_read_as_it_was_written(tabled: Few, detected: tuple[Rows, tuple[str, ...]]) -> None:
    assert read_ood(tabled.study.folder) == tuple(detected[0].values())
    path = tabled.study.folder / "ood.csv"
    head, row, *_ = path.read_text().splitlines(keepends=True)
    broken = (row[:20], row.replace(",450", ",4.5"), row + "\0", row.replace(",0.", ",-0."), row.replace(",0.", ",x"))
    for damaged in ("", "key,name\n", row, *(head + part for part in broken)):
        path.write_text(damaged)
        with pytest.raises(StudyError, match="it is a table of confirm --ood"):
            read_ood(tabled.study.folder)
    path.unlink()
    assert read_ood(tabled.study.folder) == ()


def test_report_and_card_name_them(tabled: Few, tmp_path: Path) -> None:
    page = report(tabled.study)
    assert "<h2>Unknown images</h2>" in page
    assert all(f"<td>{word}</td>" in page for word in ("letters", "noise", "DSGF", "USE"))
    trial = next(f.finalist.trial for f in tabled.found.finals if f.finalist.trial is not None)
    record = next(r for r in tabled.study.trials() if r.number == trial)
    export_trial(tabled.study, record, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "- 450 unknown images `letters`: AUROC by softmax 0." in card
    assert "- 40 unknown images `noise`, with DSGF: AUROC by softmax" in card


def test_command_says_it_and_finals_repeat_it(few: Few) -> None:
    place = ("--studies-dir", str(few.studies))
    options = ("--top", "1", "--seeds", "2", "--preset", "ssf", "--workers", "0", *place)
    said = command("confirm", "few", "--ood", "letters", *options)
    assert (said.code, said.err) == (0, "")
    rows = read_ood(few.study.folder)
    assert {r.method for r in rows} == {"tuned"}
    assert "Unknown images against 60 test images: AUROC / FPR at 95% TPR in %, mean of 2 seeds" in said.out
    assert "ood.csv" in said.out
    assert "Unknown images against 60" in command("finals", "few", *place).out
    (few.study.folder / "ood.csv").unlink()


def test_options_are_refused_and_repeated() -> None:
    said = command("confirm", "few", "--dsgf")
    assert said.code == 2
    assert "--dsgf: it goes with --ood; got no --ood. Give a folder" in said.err
    said = command("confirm", "few", "--ood", "nowhere")
    assert (said.code, "--ood nowhere: it is a folder of images" in said.err) == (2, True)
    given = make_parser().parse_args(["confirm", "few", "--ood", "my photos", "--ood", "letters", "--use"])
    assert options_of(given) == " --use --ood 'my photos' --ood letters"
