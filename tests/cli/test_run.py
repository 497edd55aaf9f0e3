"""`run`: what is refused is one clear line, and nothing is half-written; trials that fail; the happy path."""

import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from utuning_search.backbones import loading
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.common.errors import StudyError
from utuning_search.search.study import Study
from utuning_search.training.task import Task

from .commands import FOLDER_TASK, INLINE, OTHER, PROMPT, RUN, SLOT, TASK, TRIALS, command, refused, rows, succeeded

COLUMNS = ["trial", "state", "key", "design", "preset", "parameters", "accuracy", "epochs", "seconds"]
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
    "metric-beside-objectives": (
        ("--objectives", "accuracy,parameters", "--metric", "macro_f1"),
        r"--metric: it is given without --objectives; got accuracy,parameters",
    ),
    "unknown-metric": (("--metric", "acuracy"), r"--metric: it is one of .* got 'acuracy'\. Did you mean 'accuracy'\?"),
    "unknown-objective": (("--objectives", "accuracy,flop"), r"--objectives: .* got 'flop'\. Did you mean 'flops'\?"),
    "nothing-measured": (
        ("--objectives", "flops,parameters"),
        r"--objectives: at least one objective is measured; got",
    ),
    "unknown-pruner": (("--pruner", "paretto"), r"--pruner: .* got 'paretto'\. .*pareto"),
    "limit-without-a-number": (("--limit", "flops"), r"--limit: a limit is written like flops=3G; got 'flops'"),
    "limit-of-what-is-measured": (("--limit", "latency=3"), r"--limit: .* exact before training; got 'latency'"),
    "limit-below-everything": (
        ("--limit", "flops=9"),
        r"--limit flops: it is at least [\d,]+, a linear probe of \d+ cl",
    ),
    "parameters-below-the-head": (("--max-params", "9"), r"--max-params: it is at least \d+, the head of \d+ classes"),
    "unknown-device": (("--device", "gpu"), r"--device: device is one of auto, cpu, cuda, mps; got 'gpu'"),
    "numbered-cpu": (("--device", "cpu:1"), r"--device: device is one of .* got 'cpu:1'"),
    "too-many-gpus": (("--device", "cuda:99"), r"--device: the device is there; got 'cuda:99'"),
    "unknown-precision": (("--precision", "fp16"), r"--precision: precision is one of auto, fp32, bf16; got 'fp16'"),
    "three-shots": (("--shots", "3"), r"--shots: it is one of 2, 4, 8, 16; got 3"),
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
    following = [line.strip() for line in lines[lines.index("Next") + 1 :]]
    assert following == [
        "utuning-search confirm smoke-tiny",
        "utuning-search export smoke-tiny --pick knee",
        "utuning-search front smoke-tiny",
        f"utuning-search resume smoke-tiny --trials {2 * TRIALS}",
    ]


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


@pytest.mark.usefixtures("place")
def test_a_metric_is_short_for_objectives() -> None:
    """The default sampler and pruner go by it, at rungs too."""
    succeeded(*RUN, "--space", "own.toml", "--metric", "balanced_accuracy", "--trials", "2")
    study = Study.load("own-tiny")
    assert study.objectives.names == ("balanced_accuracy", "parameters")
    for record in study.trials():
        assert {"accuracy", "balanced_accuracy"} <= set(record.measured[1])
        assert record.state in ("complete", "pruned")
    assert rows("studies/own-tiny/front.csv")[0]["balanced_accuracy"]


def test_run_of_an_image_folder_reads_no_test_image(place: Path) -> None:
    (place / "photos" / "test" / "c").mkdir(parents=True)
    (place / "photos" / "test" / "c" / "0.png").write_bytes(b"no image")
    succeeded("run", "--task", "folder.toml", "--space", "own.toml", "--data-dir", ".", "--trials", "1", "-q", *INLINE)
    assert rows("studies/own-tiny/trials.csv")[0]["state"] == "complete"


def test_run_of_an_image_folder_names_its_classes_and_what_is_odd(place: Path) -> None:
    """First of all; and what finals will not find, which a search does not need."""
    Image.new("L", (8, 8)).save(place / "photos" / "train" / "a" / "0.png")
    (place / "folder.toml").write_text(FOLDER_TASK.replace("proxy = 8", "proxy = 14").replace("= 4", "= 6"))
    options = ("--task", "folder.toml", "--space", "own.toml", "--trials", "1", *INLINE)
    lines = succeeded("run", *options).splitlines()
    assert lines[0] == "2 classes: a, b"
    assert lines[1].startswith("  note: 1 of 20 images is of a single colour once decoded (train/a/0.png)")
    assert lines[2].startswith("  note: a search can be run, but not confirmed: image folder ")
    assert [line.partition(";")[0] for line in lines if line.startswith("Needs ")] == [
        "Needs decoded images 0.1 MiB on disk, shared by all workers"
    ]
    assert "note: 1 of 20 images" in succeeded("resume", "own-tiny", "--trials", "2", *INLINE)


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
    assert said.code == 0
    assert said.err.startswith(line)
    assert command("resume", "own-tiny", "--trials", "2", "-q", *INLINE).err.startswith(line)
    index = json.loads((place / "studies" / "own-tiny" / "splits.json").read_text())
    assert len(index["proxy"]["names"]) + len(index["validation"]["names"]) == 39
    spec = tomllib.loads((place / "studies" / "own-tiny" / "spec.toml").read_text())
    assert index["digest"] == spec["data"]


def test_a_folder_in_brackets_is_shown_whole(place: Path) -> None:
    """Brackets are markup to the library that prints, and long paths must stay in one piece to be copied."""
    folder = place / "[bold]a" / ("long" * 20)
    out = succeeded(*RUN, "--space", "own.toml", "--studies-dir", str(folder), "--trials", "1")
    for name in ("front.png", "trials.csv"):
        assert str(folder / "own-tiny" / name) in out
    assert f"utuning-search front own-tiny --studies-dir {shlex.quote(str(folder))}" in out


@pytest.mark.parametrize("options", [(), ("--studies-dir", "own")])
@pytest.mark.usefixtures("place")
def test_ctrl_c_ends_in_the_command_that_goes_on(options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Study, "run", lambda *_, **__: False)  # as it returns after Ctrl-C
    said = command(*RUN, "--space", "own.toml", *options)
    again = " ".join(("resume", "own-tiny", *options))
    assert said.code == 130
    assert said.out.endswith(f"Stopped; all that was finished is kept. Go on with:\n  utuning-search {again}\n")
    assert said.err == ""


# Another backbone


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
        (
            ("--backbone", "vit_tiny_patch16"),
            r"name is a timm model, glyph_vit, hf-hub:USER/MODEL or a folder; got 'vit_tiny_patch16'",
        ),
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
