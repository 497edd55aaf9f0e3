"""The command line: what is refused is one clear line, exit code 2 and nothing half-written; and the happy path."""

import contextlib
import csv
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

from utuning_search.backbones import loading
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.cli.main import main
from utuning_search.common.bundled import bundled
from utuning_search.common.errors import StudyError
from utuning_search.designs.design import Design
from utuning_search.search.study import Study
from utuning_search.training.context import load_search
from utuning_search.training.task import Task

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
FOLDER_TASK = TASK.replace('"digits"', '"imagefolder"\nroot = "photos"').replace("100", "8").replace("60", "4")
SLOT = """
name = "own"
[[slots]]
name = "mlp"
operation = "mlp"
tuner = ["none", "adapter"]
rank = [1, 2]
blocks = ["all", "last 1/2"]
"""
PROMPT = """
name = "prompt"
[[slots]]
name = "block"
operation = "block"
tuner = ["none", { kind = "prompt", reading = "parallel" }]
length = 1
scale = ["none", 1e38]
"""
COLUMNS = ["trial", "state", "key", "design", "preset", "parameters", "accuracy", "epochs", "seconds"]
TRIALS = 6
HERE = Path(__file__).parents[2]
INLINE = ("--workers", "0")


@dataclass(frozen=True)
class Said:
    """A command's exit code, and what it wrote."""

    code: int | str | None
    out: str
    err: str


def command(*arguments: str) -> Said:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: int | str | None = main(list(arguments))
        except SystemExit as error:  # argparse's way
            code = error.code
    return Said(code, out.getvalue(), err.getvalue())


def succeeded(*arguments: str) -> str:
    said = command(*arguments)
    assert (said.code, said.err) == (0, ""), said
    return said.out


def tree(folder: Path) -> dict[Path, bytes | None]:
    """Every file's content; folders count, locks do not."""
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*") if p.suffix != ".lock"}


def refused(*arguments: str) -> str:
    """The one line of a refusal that left everything in the working directory as it was."""
    before = tree(Path.cwd())
    said = command(*arguments)
    assert said.code == 2, said
    assert said.out == ""
    assert re.fullmatch(r"utuning-search: error: [^\n]+\n", said.err), said.err
    assert "Traceback" not in said.err
    assert tree(Path.cwd()) == before, "something was written"
    return said.err.strip()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory with a task, a space, and an image folder for the other task."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPTUNA_STORAGE", "UTUNING_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, text in {"tiny": TASK, "folder": FOLDER_TASK, "own": SLOT, "prompt": PROMPT}.items():
        (tmp_path / f"{name}.toml").write_text(text)
    draw = np.random.default_rng(0)
    for label in "ab":
        for i in range(10):
            path = tmp_path / "photos" / "train" / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A working directory after `run`, and what that said; tests copy it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.toml").write_text(TASK)
    with contextlib.chdir(folder):
        out = succeeded("run", "--space", "smoke", "--task", "tiny.toml", "--trials", str(TRIALS), *INLINE)
    return folder, out


@pytest.fixture
def studied(finished: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that working directory, entered; its study is `smoke-tiny`."""
    folder = Path(shutil.copytree(finished[0], tmp_path / "work"))
    monkeypatch.chdir(folder)
    monkeypatch.delenv("OPTUNA_STORAGE", raising=False)
    return folder


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# Refusals of `run`


RUN = ("run", "--task", "tiny.toml", *INLINE)
OPTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown-space": (("--space", "ful"), r"--space: .* got 'ful'\. Did you mean 'full'\?"),
    "missing-space-file": (("--space", "no.toml"), r"--space no\.toml: the file exists; got no such file"),
    "unknown-task": (("--task", "digit"), r"--task: .* got 'digit'\. Did you mean 'digits'\?"),
    "missing-task-file": (("--task", "no.toml"), r"--task no\.toml: the file exists; got no such file"),
    "unknown-sampler": (("--sampler", "tp"), r"--sampler: .* got 'tp'\. .*tpe"),
    "time-without-unit": (("--time", "10"), r"--time: .* got '10'\. For example: --time 10m"),
    "time-of-days": (("--time", "2d"), r"--time: .* got '2d'"),
    "negative-time": (("--time=-5m",), r"--time: .* got '-5m'"),
    "no-time": (("--time", "0s"), r"--time: .* above 0 .* got '0s'"),
    "negative-workers": (("--workers", "-1"), r"--workers: it is at least 1, or 0 .*; got -1"),
    "no-trials": (("--trials", "0"), r"--trials: it is at least 1; got 0"),
    "negative-trials": (("--trials", "-3"), r"--trials: it is at least 1; got -3"),
    "no-epochs": (("--epochs", "0"), r"--epochs: it is at least 1; got 0"),
    "unknown-device": (("--device", "gpu"), r"--device: device is one of auto, cpu, cuda, mps; got 'gpu'"),
    "numbered-cpu": (("--device", "cpu:1"), r"--device: device is one of .* got 'cpu:1'"),
    "too-many-gpus": (("--device", "cuda:99"), r"--device: the device is there; got 'cuda:99'"),
    "unknown-precision": (("--precision", "fp16"), r"--precision: precision is one of auto, fp32, bf16; got 'fp16'"),
    "name-of-dots": (("--name", ".."), r"--name: .* got '\.\.'"),
    "hidden-name": (("--name", ".x"), r"--name: .* got '\.x'"),
    "name-with-a-space": (("--name", "a b"), r"--name: .* got 'a b'"),
    "file-as-folder": (
        ("--studies-dir", "tiny.toml"),
        r"folder tiny\.toml/own-tiny: it can be .*written; .*--studies-dir",
    ),
    "below-a-file": (("--studies-dir", "tiny.toml/x/y"), r"folder tiny\.toml/x/y/own-tiny: it can be .*written"),
    "no-data": (("--task", "folder.toml", "--data-dir", "tiny.toml"), r"--data-dir|'photos' in none|every class"),
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.usefixtures("place")
def test_an_option_that_cannot_be_is_refused(name: str) -> None:
    options, message = OPTIONS[name]
    if name == "no-data":
        shutil.rmtree("photos")
    assert re.search(message, refused(*RUN, "--space", "own.toml", *options))


SPACES: dict[str, tuple[str, str, str]] = {
    "unknown-key": (
        "rank =",
        "ranks =",
        r"own\.toml, slot 'mlp': only known keys .* got 'ranks'\. Did you mean 'rank'\?",
    ),
    "unknown-top-key": (
        'name = "own"',
        'name = "own"\npreset = []',
        r"own\.toml: .* got 'preset'\. Did you mean 'presets'\?",
    ),
    "unknown-tuner": ('"adapter"]', '"adaptor"]', r"own\.toml.* got 'adaptor'\. Did you mean 'adapter'\?"),
    "unknown-operation": ('operation = "mlp"', 'operation = "mpl"', r"own\.toml.* got 'mpl'\. Did you mean 'mlp'\?"),
    "unknown-preset": ('name = "own"', 'name = "own"\npresets = ["vpt"]', r"got 'vpt'.*vpt-deep"),
    "illegal-operation": (
        '"adapter"]',
        '"norm", "lora"]\n',
        r"LoRA is legal at: qkv, q, k, v, proj, fc1, fc2; got 'mlp'",
    ),
    "rank-0": ("rank = [1, 2]", "rank = [0, 2]", r"rank is an integer from 1 to \d+; got 0"),
    "rank-range-from-0": ("rank = [1, 2]", "rank = { low = 0, high = 4 }", r"rank is an integer from 1 to \d+; got 0"),
    "negative-rank": ("rank = [1, 2]", "rank = -1", r"rank is an integer from 1 to \d+; got -1"),
    "prefix-too-long": (
        '["none", "adapter"]\nrank = [1, 2]',
        '"prefix"\nlength = { low = 1, high = 513 }',
        r"length is an integer from 1 to 512; got 513",
    ),
    "blocks-beyond": ('"last 1/2"]', '"first 7"]', r"blocks lie within the backbone's 6; got 'first 7'"),
    "blocks-matching-none": ('["all", "last 1/2"]', '"every 7"', r"blocks match at least one of 1 to 6.*'every 7'"),
    "numbers-beyond": ('"last 1/2"]', '"7-9"]', r"blocks match at least one of 1 to 6.*; got '7-9'"),
    "no-pattern": ('"last 1/2"]', '"most"]', r"own\.toml.*blocks are \"all\", .*; got 'most'"),
    "preset-outside": (
        'name = "own"',
        'name = "own"\npresets = ["lora"]',
        r"its presets lie in it; got 'lora' does not",
    ),
    "no-toml": ("[[slots]]", "[[slots]", r"own\.toml: the file is valid TOML; got .*line 3"),
    "empty": (SLOT, "", r"own\.toml: name is a word"),
}


@pytest.mark.parametrize("name", SPACES)
def test_a_space_that_cannot_be_is_refused(name: str, place: Path) -> None:
    old, new, message = SPACES[name]
    assert old in SLOT
    (place / "own.toml").write_text(SLOT.replace(old, new))
    found = refused(*RUN, "--space", "own.toml")
    assert re.search(message, found), found


TASKS: dict[str, tuple[str, str, str]] = {
    "unknown-key": ("epochs = 2", "epoch = 2", r"tiny\.toml, training: .* got 'epoch'\. Did you mean 'epochs'\?"),
    "unknown-table": ("[training]", "[trainning]", r"tiny\.toml: .* got 'trainning'\. Did you mean 'training'\?"),
    "wrong-type": ("proxy = 100", 'proxy = "100"', r"tiny\.toml, data, proxy: this is of type int; got '100'"),
    "unknown-backbone": ('"glyph_vit"', '"glyph_vat"', r"got 'glyph_vat'\. Did you mean 'glyph_vit'\?"),
    "unsupported-backbone": (
        '"glyph_vit"',
        '"resnet18"\ncheckpoint = "tiny.toml"',
        r"the model is a timm VisionTransformer",
    ),
    "another-size": ('"glyph_vit"', '"glyph_vit"\nimage_size = 16', r"image_size is 8; got 16"),
    "missing-checkpoint": ('"glyph_vit"', '"glyph_vit"\ncheckpoint = "w.pth"', r"'w\.pth' in none of .*--data-dir"),
    "unreadable-checkpoint": (
        '"glyph_vit"',
        '"glyph_vit"\ncheckpoint = "tiny.toml"',
        r"checkpoint .*tiny\.toml: the file is readable",
    ),
    "too-many-images": ("proxy = 100", "proxy = 1300", r"got 1347 training images for proxy 1300 \+ validation 60"),
    "a-rest-too-small": ("proxy = 100", "proxy = 1285", r"Make proxy \+ validation 1347, or at most 1337"),
    "rungs-too-late": ("rungs = [1]", "rungs = [2]", r"rungs ascend within 1 to 1; got \[2\]"),
    "one-epoch-of-warmup": (
        "epochs = 2\nbatch_size = 50\nrungs = [1]",
        "epochs = 1",
        r"warmup_epochs is .* below epochs, 1; got 1\.0",
    ),
    "no-name": ('name = "tiny"', "", r"tiny\.toml: name is a word"),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_that_cannot_be_is_refused(name: str, place: Path) -> None:
    old, new, message = TASKS[name]
    assert old in TASK
    (place / "tiny.toml").write_text(TASK.replace(old, new))
    found = refused(*RUN, "--space", "own.toml")
    assert re.search(message, found), found


def test_a_checkpoint_that_does_not_fit_is_refused_by_its_tensors(place: Path) -> None:
    tensors = loading.load_backbone("glyph_vit").state_dict()
    del tensors["blocks.2.attn.qkv.weight"]
    tensors["blocks.7.norm1.weight"] = torch.ones(64)
    tensors["blocks.1.mlp.fc1.weight"] = torch.zeros(128, 64)
    safetensors.torch.save_file(tensors, place / "w.safetensors")
    (place / "tiny.toml").write_text(TASK.replace('"glyph_vit"', '"glyph_vit"\ncheckpoint = "w.safetensors"'))
    found = refused(*RUN, "--space", "own.toml")
    assert "w.safetensors: its tensors fit VisionTransformer exactly" in found
    for words in (
        "blocks.2.attn.qkv.weight missing",
        "blocks.7.norm1.weight unexpected",
        "blocks.1.mlp.fc1.weight is (128, 64), not (256, 64)",
    ):
        assert words in found


def test_a_corrupt_image_is_named(place: Path) -> None:
    for path in (place / "photos" / "train" / "b").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    found = refused("run", "--task", "folder.toml", "--space", "own.toml", *INLINE)
    assert re.search(r"image folder .*photos: at most 5% .* cannot be read; got \d of 12: train/b/\d\.png \(", found)


@pytest.mark.usefixtures("studied")
def test_an_existing_name_is_refused_and_resume_offered() -> None:
    found = refused("run", "--space", "smoke", "--task", "tiny.toml", *INLINE)
    assert "a new study has a new name" in found
    assert "utuning-search resume smoke-tiny" in found


# Refusals of the other commands


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (("--seed", "5"), "seed: 5 here, 0 there"),
        (("--sampler", "random"), "sampler: random here, tpe there"),
        (("--space", "full"), "space."),
        (("--task", "digits"), "task.data.proxy: 800 here, 100 there"),
    ],
)
@pytest.mark.usefixtures("studied")
def test_resuming_with_another_spec_shows_the_difference(options: tuple[str, str], difference: str) -> None:
    found = refused("resume", "smoke-tiny", *INLINE, *options)
    assert "a study keeps its spec" in found
    assert difference in found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--trials", "0"), "--trials"),
        (("--time", "soon"), "--time"),
        (("--workers", "-2"), "--workers"),
        (("--trials", "9", "--device", "tpu"), "--device"),
        (("--trials", "9", "--sampler", "tp"), "--sampler"),
        (("--space", "ful"), "--space"),
    ],
)
@pytest.mark.usefixtures("studied")
def test_resume_refuses_what_run_refuses(options: tuple[str, ...], message: str) -> None:
    assert message in refused("resume", "smoke-tiny", *INLINE, *options)


@pytest.mark.parametrize("name", ["front", "export", "resume"])
@pytest.mark.usefixtures("studied")
def test_an_unknown_study_is_refused_with_the_known(name: str) -> None:
    found = refused(name, "smoke-tinny")
    assert "study 'smoke-tinny': it lies in studies; got no such study. Known: smoke-tiny." in found


@pytest.mark.usefixtures("place")
def test_without_any_study_run_is_offered() -> None:
    assert "Start one with: utuning-search run" in refused("front", "x")
    assert "got no such file" in refused("repair", "x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("front", "smoke-tiny", "--format", "yaml"), "--format: format is one of table, json, csv; got 'yaml'"),
        (("front", "smoke-tiny", "--png", "."), "--png: it names a file; got '.'"),
        (("export", "smoke-tiny", "--pick", "worst"), "--pick: pick is best, knee"),
        (("export", "smoke-tiny", "--pick", "trial=99"), "got '99'"),
        (("export", "smoke-tiny", "--pick", "max-params=5"), "the smallest has 650"),
        (("export", "smoke-tiny", "--out", "tiny.toml"), "folder tiny.toml: it can be created and written"),
        (("export", "smoke-tiny", "--out", "tiny.toml/x"), "folder tiny.toml/x: it can be created and written"),
        (("spaces", "ful"), "Did you mean 'full'?"),
        (("spaces", "full", "--depth", "0"), "--depth: it is at least 1; got 0"),
        (("spaces", "--depth", "-2"), "--depth: it is at least 1; got -2"),
    ],
)
@pytest.mark.usefixtures("studied")
def test_what_cannot_be_is_refused(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(*arguments)


@pytest.mark.parametrize("place_", ["no-such-folder/x.png", "tiny.toml/x.png", "studies"])
@pytest.mark.usefixtures("studied")
def test_a_picture_that_cannot_be_written_is_told(place_: str) -> None:
    assert f"file {place_}: it can be written" in refused("front", "smoke-tiny", "--png", place_)


@pytest.mark.parametrize("name", ["front", "export", "resume"])
def test_a_damaged_journal_is_refused_and_can_be_repaired(name: str, studied: Path) -> None:
    journal = studied / "studies" / "smoke-tiny" / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 5, "worker')
    found = refused(name, "smoke-tiny")
    assert "journal studies/smoke-tiny/journal.log: every line is whole; got 22 unreadable bytes" in found
    offered = re.search(r"Run: utuning-search (repair .*)$", found)
    assert offered is not None
    assert "cut off 22" in succeeded(*shlex.split(offered[1]))
    assert journal.read_bytes() == whole
    assert journal.with_suffix(".damaged").read_bytes() == b'{"op_code": 5, "worker'
    assert "nothing to repair" in succeeded("repair", "smoke-tiny")
    succeeded(name, "smoke-tiny", *(INLINE if name == "resume" else ()))


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("search",),
        ("run", "--spaces", "full"),
        ("run", "--trials", "many"),
        ("run", "--seed"),
        ("front",),
        ("export",),
    ],
)
@pytest.mark.usefixtures("place")
def test_argparse_exits_with_2_too(arguments: tuple[str, ...]) -> None:
    before = tree(Path.cwd())
    said = command(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("usage: utuning-search")
    assert "error: " in said.err.splitlines()[-1]
    assert tree(Path.cwd()) == before


def test_a_real_process_says_the_same(place: Path) -> None:
    script = "import sys; from utuning_search.cli import main; sys.exit(main())"  # as installed
    line = [sys.executable, "-c", script, "run", "--space", "ful"]
    environment = {"PYTHONPATH": str(HERE), "PATH": "/usr/bin:/bin", "HOME": str(place)}
    before = set(tree(place))
    done = subprocess.run(line, capture_output=True, text=True, cwd=place, env=environment, timeout=300, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.strip() == refused("run", "--space", "ful")
    assert not {p.name for p in set(tree(place)) - before} & {"studies"}


# Trials that fail


def test_a_loss_that_is_not_finite_fails_its_trial_only(place: Path) -> None:
    options = ("--space", "prompt.toml", "--sampler", "random", "--trials", "8")
    out = succeeded(*RUN, *options)
    found = rows("studies/prompt-tiny/trials.csv")
    assert len(found) == 8
    failed = [r for r in found if r["state"] == "failed"]
    assert failed
    assert any(r["state"] == "complete" for r in found[int(failed[0]["trial"]) :]), "the study did not go on"
    for row in found:
        assert (row["state"] == "failed") == ("1e+38" in row["design"])
        assert ("the loss is finite; got nan in epoch 1" in row["reason"]) == (row["state"] == "failed")
    assert "the loss is finite" in out
    assert f"{len({r['key'] for r in failed})} failed" in out
    assert not [r for r in rows("studies/prompt-tiny/front.csv") if r["state"] != "complete"]
    assert (place / "studies" / "prompt-tiny" / "front.png").stat().st_size > 0


def test_a_study_of_failures_ends_too(place: Path) -> None:
    (place / "prompt.toml").write_text(PROMPT.replace('"none", {', "{").replace('"none", 1e38', "1e38"))
    out = succeeded(*RUN, "--space", "prompt.toml", "--trials", "2", "--quiet")
    assert "2 trials (1 failed, 1 reused)" in out
    assert rows("studies/prompt-tiny/front.csv") == []
    assert json.loads(succeeded("front", "prompt-tiny", "--format", "json")) == []
    assert "has a complete trial" in refused("export", "prompt-tiny")


# The happy path


def test_run_shows_each_trial_the_front_and_what_is_next(finished: tuple[Path, str]) -> None:
    folder, out = finished
    lines = out.splitlines()
    assert lines[0] == "Study smoke-tiny: smoke on tiny, in studies/smoke-tiny"
    assert len([line for line in lines if re.match(r"\d\d:\d\d:\d\d trial +\d+ (complete|pruned)", line)]) == TRIALS
    assert "Pareto front" in out
    for name in ("front.png", "trials.csv", "front.csv"):
        assert f"studies/smoke-tiny/{name}" in out
        assert (folder / "studies" / "smoke-tiny" / name).is_file()


def test_trials_csv(studied: Path) -> None:
    found = rows("studies/smoke-tiny/trials.csv")
    assert list(found[0])[: len(COLUMNS)] == COLUMNS
    assert [int(r["trial"]) for r in found] == list(range(TRIALS))
    assert {r["state"] for r in found} <= {"complete", "pruned"}
    assert found[0]["preset"] == "linear-probe"
    assert found[0]["parameters"] == "650"
    assert found[0]["design"] == "linear probe; lr 0.005"
    study = Study.load("smoke-tiny", studies_dir=studied / "studies")
    for row, record in zip(found, study.trials(), strict=True):
        assert record.design is not None
        assert row["key"] == record.design.key
        assert int(row["parameters"]) == record.design.num_parameters(study.shape, 10)
        assert int(row["epochs"]) == (0 if record.reused is not None else 2 if record.state == "complete" else 1)


@pytest.mark.usefixtures("studied")
def test_the_same_seed_gives_the_same_trials_quietly() -> None:
    out = succeeded(*RUN, "--space", "smoke", "--name", "again", "--trials", str(TRIALS), "-q")
    assert "trial   0" not in out
    kept = [{k: v for k, v in r.items() if k != "seconds"} for r in rows("studies/again/trials.csv")]
    assert kept == [{k: v for k, v in r.items() if k != "seconds"} for r in rows("studies/smoke-tiny/trials.csv")]


@pytest.mark.usefixtures("studied")
def test_front_in_every_format_is_one_front() -> None:
    stored = rows("studies/smoke-tiny/front.csv")
    out = succeeded("front", "smoke-tiny", "--format", "csv")
    assert list(csv.DictReader(io.StringIO(out))) == stored
    listed = json.loads(succeeded("front", "smoke-tiny", "--format", "json"))
    assert [str(r["trial"]) for r in listed] == [r["trial"] for r in stored]
    assert [Design.from_dict(r["design"]).key for r in listed] == [r["key"] for r in stored]
    table = succeeded("front", "smoke-tiny")
    for row in stored:
        assert f"{100 * float(row['accuracy']):.2f}%" in table
        assert f"{int(row['parameters']):,}" in table
        assert row["nearest"].split(",")[0] in table
    assert stored[0]["nearest"] == "Linear probe"
    assert [r["nearest"] for r in listed] == [r["nearest"] for r in stored]


@pytest.mark.parametrize("name", ["front.png", "front.jpg", "picture"])
@pytest.mark.usefixtures("studied")
def test_front_draws_a_png_whatever_its_name(name: str) -> None:
    succeeded("front", "smoke-tiny", "--png", name)
    with Image.open(name) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300


def test_the_commands_and_lines_that_are_offered_run(studied: Path, finished: tuple[Path, str]) -> None:
    offered = re.findall(r"^  utuning-search (.*)$", finished[1], flags=re.MULTILINE)
    assert [line.split()[0] for line in offered] == ["export", "front", "resume"]
    out = succeeded(*shlex.split(offered[0]))
    folder = next((studied / "studies" / "smoke-tiny" / "exports").iterdir())
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "tuner.safetensors", "tuner.toml"]
    code = out[out.index("from utuning_search import load_tuned") :]
    data = load_search(Task.load("tiny.toml"), None).data.validation
    names: dict[str, torch.Tensor] = {"images": data.images}
    exec(code, names)  # what a user is told to type
    accuracy = float((names["logits"].argmax(dim=1) == data.labels).float().mean())
    assert f"{100 * accuracy:.2f}% validation accuracy" in out
    assert "it holds no exported tuner yet" in refused(*shlex.split(offered[0]))
    succeeded(*shlex.split(offered[1]))
    succeeded(*shlex.split(offered[2].replace(str(2 * TRIALS), str(TRIALS + 1))), *INLINE)
    assert len(rows("studies/smoke-tiny/trials.csv")) == TRIALS + 1


@pytest.mark.usefixtures("studied")
def test_export_picks_and_places() -> None:
    best = rows("studies/smoke-tiny/front.csv")[-1]
    assert f"Trial {best['trial']}: " in succeeded("export", "smoke-tiny", "--pick", "best", "--out", "out/best")
    succeeded("export", "smoke-tiny", "--pick", "trial=0")
    assert Path("studies/smoke-tiny/exports/trial_0/tuner.toml").is_file()
    assert Path("out/best/tuner.toml").is_file()


@pytest.mark.usefixtures("studied")
def test_resume_goes_on_where_it_stopped() -> None:
    before = rows("studies/smoke-tiny/trials.csv")
    succeeded("resume", "smoke-tiny", *INLINE)  # its budget is spent
    assert rows("studies/smoke-tiny/trials.csv") == before
    succeeded("resume", "smoke-tiny", "--trials", str(TRIALS + 2), "--space", "smoke", "--seed", "0", *INLINE)
    after = rows("studies/smoke-tiny/trials.csv")
    assert len(after) == TRIALS + 2
    assert [{k: r[k] for k in before[0]} for r in after[:TRIALS]] == before


def test_run_of_an_image_folder_reads_no_test_image(place: Path) -> None:
    (place / "photos" / "test" / "c").mkdir(parents=True)
    (place / "photos" / "test" / "c" / "0.png").write_bytes(b"no image")
    succeeded("run", "--task", "folder.toml", "--space", "own.toml", "--data-dir", ".", "--trials", "1", "-q", *INLINE)
    assert rows("studies/own-tiny/trials.csv")[0]["state"] == "complete"


def test_skipped_images_are_counted_on_stderr(place: Path) -> None:
    """One of 40 is broken: the study runs without it, and says so, now and when it goes on."""
    for label in ("a", "b"):
        for number in range(10, 20):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(place / "photos" / "train" / label / f"{number}.png")
    (place / "photos" / "train" / "b" / "6.png").write_bytes(b"no image")
    (place / "folder.toml").write_text(FOLDER_TASK.replace("proxy = 8", "proxy = 24").replace("= 4", "= 16"))
    said = command("run", "--task", "folder.toml", "--space", "own.toml", "--trials", "1", "-q", *INLINE)
    line = (
        "utuning-search: warning: 1 image that cannot be read was left out: "
        "train/b/6.png (no image of a known format)\n"
    )
    assert (said.code, said.err) == (0, line)
    assert command("resume", "own-tiny", "--trials", "2", "-q", *INLINE).err == line
    index = json.loads((place / "studies" / "own-tiny" / "splits.json").read_text())
    assert len(index["proxy"]["names"]) + len(index["validation"]["names"]) == 39
    spec = tomllib.loads((place / "studies" / "own-tiny" / "spec.toml").read_text())
    assert index["digest"] == spec["data"]


# Another backbone


@pytest.fixture
def weights(place: Path) -> Path:
    """A checkpoint of a small timm model at 32 pixels."""
    model = timm.create_model("test_vit", pretrained=False, num_classes=3, img_size=32)
    safetensors.torch.save_file(model.state_dict(), place / "w.safetensors")
    return place


OTHER = ("--backbone", "test_vit", "--checkpoint", "w.safetensors")


@pytest.mark.usefixtures("weights")
def test_a_task_runs_on_another_backbone() -> None:
    run = ("run", "--task", "folder.toml", "--space", "own.toml", "--trials", "1", "-q", *INLINE)
    succeeded(*run, *OTHER, "--image-size", "48")
    spec = tomllib.loads(Path("studies/own-tiny/spec.toml").read_text())
    assert spec["task"]["backbone"] == {"name": "test_vit", "checkpoint": "w.safetensors", "image_size": 48}
    succeeded("resume", "own-tiny", "--trials", "1", *INLINE, *OTHER)
    found = refused("resume", "own-tiny", "--image-size", "32", *INLINE)
    assert "task.backbone.image_size: 32 here, 48 there" in found
    found = refused("resume", "own-tiny", "--backbone", "deit_tiny_patch16_224", *INLINE)
    assert "task.backbone.name: deit_tiny_patch16_224 here, test_vit there" in found
    assert "task.backbone.image_size: 0 here" in refused("resume", "own-tiny", "--task", "folder.toml", *INLINE)


@pytest.mark.usefixtures("weights")
def test_digits_are_enlarged_for_another_backbone() -> None:
    succeeded("run", "--task", "tiny.toml", "--space", "own.toml", "--trials", "1", "-q", *INLINE, *OTHER)
    assert rows("studies/own-tiny/trials.csv")[0]["state"] == "complete"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--image-size", "-1"), r"--image-size: it is in pixels, .*; got -1"),
        (("--image-size", "16"), r"backbone 'glyph_vit': image_size is 8; got 16"),
        ((*OTHER, "--image-size", "24"), r"image_size is a multiple of its patches, 16; got 24\. Take 16 or 32"),
        (("--backbone", "vit_tiny_patch16"), r"backbone: name is a timm model or glyph_vit; got 'vit_tiny_patch16'"),
        (("--backbone", "deit_tiny_patch16_224", "--checkpoint", "no.pth"), r"'no\.pth' in none of .*--data-dir"),
        (("--backbone", "resnet18", "--checkpoint", "w.safetensors"), r"the model is a timm VisionTransformer"),
        (("--backbone", "deit_tiny_patch16_224", "--checkpoint", "w.safetensors"), r"its tensors fit .* exactly"),
    ],
)
@pytest.mark.usefixtures("weights")
def test_a_backbone_that_cannot_be_is_refused(options: tuple[str, ...], message: str) -> None:
    assert re.search(message, refused(*RUN, "--space", "own.toml", *options))


def test_the_papers_setting_takes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Task] = []

    def create(space: str, task: Task, **rest: object) -> None:
        asked.append(task)
        raise StudyError("here", f"nothing runs {space}", len(rest))

    monkeypatch.setattr(Study, "create", create)
    name = "vit_base_patch16_224.orig_in21k"
    assert command("run", "--task", "cifar100", "--backbone", name).code == 2
    assert command("run", "--task", "cifar100-subset", "--backbone", name, "--image-size", "224").code == 2
    assert asked[0] == Task.load("cifar100")
    # Another model does not keep the checkpoint of the task's own.
    assert asked[1].backbone == BackboneSpec(name, image_size=224)
    assert asked[1].data == Task.load("cifar100-subset").data


def test_a_folder_in_brackets_is_shown_whole(place: Path) -> None:
    """Brackets are markup to the library that prints, and long paths must stay in one piece to be copied."""
    folder = place / "[bold]a" / ("long" * 20)
    out = succeeded(*RUN, "--space", "own.toml", "--studies-dir", str(folder), "--trials", "1")
    for name in ("front.png", "trials.csv"):
        assert str(folder / "own-tiny" / name) in out
    assert f"utuning-search front own-tiny --studies-dir {folder}" in out


def test_spaces_lists_all_and_explains_each() -> None:
    out = succeeded("spaces")
    for name in bundled("space"):
        assert re.search(rf"^{name} ", out, flags=re.MULTILINE)
        explained = succeeded("spaces", name, "--depth", "6")
        assert explained.startswith(f"{name}: ")
        assert "search variables for a backbone of 6 blocks" in explained
    full = succeeded("spaces", "full")
    for words in ("attention.tuner", "learning_rate", "linear.rank", "prefix-exact", "Tried first: linear-probe"):
        assert words in full


def test_tasks_and_presets_are_listed() -> None:
    out = succeeded("tasks")
    for name in bundled("task"):
        assert re.search(rf"^{name} ", out, flags=re.MULTILINE)
        explained = succeeded("tasks", name)
        assert explained.startswith("# ")
        assert f'name = "{name}"' in explained
    assert "got 'digit'. Did you mean 'digits'" in refused("tasks", "digit")
    out = succeeded("presets")
    assert "u-tuning-dual" in out
    assert "405,744" in out, "its size on ViT-B/16"
    out = succeeded("presets", "--sizes")
    assert "(666,964)" in out
    out = succeeded("presets", "convpass")
    assert "jie2022convpass" in out
    assert "ffn: parallel conv adapter r=8" in out


def test_papers_are_cited() -> None:
    assert "@inproceedings{steitz2024adapters" in succeeded("cite", "adapter-plus")
    assert "hu2022lora" in succeeded("cite", "lora")
    assert "nothing to cite" in succeeded("cite", "linear-probe")
    refused = command("cite", "adapter-pluss")
    assert refused.code == 2
    assert "Did you mean 'adapter-plus'?" in refused.err


def test_version_and_help() -> None:
    said = command("--version")
    assert said.code == 0
    assert re.fullmatch(r"utuning-search \d+\.\d+\.\d+\n", said.out)
    said = command("run", "--help")
    assert said.code == 0
    for option in ("--space", "--task", "--trials", "--workers", "--no-pruning"):
        assert option in said.out
