"""Exports that work elsewhere: read back by other libraries, in new processes that never import this package."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from utuning_search.backbones.merge import merge
from utuning_search.backbones.origin import origin_of
from utuning_search.backbones.plain import as_timm, load_plain
from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.common.errors import InputError, StudyError
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.mergeability import staying
from utuning_search.results.checked import TOLERANCE
from utuning_search.results.exports import hub, onnx, peft
from utuning_search.results.exports import timm as plain
from utuning_search.results.exports import torch as program
from utuning_search.results.exports.base import Loaded, check_logits
from utuning_search.results.exports.formats import FORMATS, exporter
from utuning_search.results.exports.model_card import model_card
from utuning_search.results.exports.program import traced
from utuning_search.results.exports.tuner import load_trial
from utuning_search.results.load import load_tuned
from utuning_search.results.outcomes import FINALS, Outcome, keep_outcome
from utuning_search.search.trials import TrialRecord
from utuning_search.tuners import (
    TUNERS,
    AdapterConfig,
    BiasConfig,
    LoraConfig,
    NormConfig,
    ScaleShiftConfig,
)

from ..helpers import CASES, CLASSES, randomise, shape_of, tiny_vit, tuned
from .test_export import Bench, refusal

FOLDING = (
    Placement("q", LoraConfig(2), scale="channel", blocks="last 1/2"),
    Placement("fc1", LoraConfig(1), "sequential"),
    Placement("proj", BiasConfig()),
    Placement("norm1", ScaleShiftConfig()),
    Placement("mlp", NormConfig()),
)
WHOLE = (Placement("qkv", LoraConfig(2)), Placement("mlp", AdapterConfig(2), blocks="last 1/2"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("formats"))


@pytest.fixture(scope="module")
def folding(bench: Bench) -> TrialRecord:
    return bench.train(Design(FOLDING, 0.02))


@pytest.fixture(scope="module")
def lora(bench: Bench) -> TrialRecord:
    return bench.train(Design((Placement("q", LoraConfig(2)),), 0.02))


@pytest.fixture(scope="module")
def adapter(bench: Bench) -> TrialRecord:
    return bench.train(Design(WHOLE, 0.02))


@pytest.fixture(scope="module")
def photo(bench: Bench) -> Path:
    """A large upright digit, not square."""
    draw = np.random.default_rng(0)
    path = bench.root / "photo.jpg"
    Image.fromarray(draw.integers(0, 256, (37, 50), dtype=np.uint8)).resize((200, 149)).save(path, quality=95)
    return path


def elsewhere(folder: Path, *, show: str) -> dict[str, Any]:
    """What the lines of a folder's README.md give in a new process, as floats, run from beside it.

    Args:
        show: Expressions by name, as items of a dictionary.
    """
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    told = f"print(__import__('json').dumps({{{show}, 'modules': sorted(__import__('sys').modules)}}))"
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:__main__", "-c", f"{code}\n{told}"],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=folder.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, last = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(last)
    assert not [m for m in found["modules"] if m.startswith("utuning_search")], "it needs this package"
    return {**found, "said": said}


def of_photo(loaded: Loaded, photo: Path) -> tuple[Tensor, str]:
    """Logits of a trial's tuner and the name of the class, by this package."""
    model = loaded.model
    with torch.no_grad():
        logits = model(model.preprocess(photo))
    return logits, model.classes[int(logits.argmax())]


# What another library computes is what the trial computed


def test_a_folded_design_is_a_plain_timm_model(bench: Bench, folding: TrialRecord, photo: Path) -> None:
    out = photo.parent / "as timm"
    written = plain.export(bench.study, folding, out)
    assert written.checked.startswith("read by timm, its logits at batches of 1 and 16 differ")
    assert sorted(p.name for p in out.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert (config["architecture"], config["num_classes"]) == ("vit_tiny_patch16_224", 10)
    assert config["label_names"] == list(bench.data.classes)
    cfg = config["pretrained_cfg"]
    assert (cfg["input_size"], cfg["crop_pct"], cfg["interpolation"]) == ([1, 8, 8], 1.0, "bilinear")
    assert (cfg["mean"], cfg["std"]) == ([0.5], [0.5])
    found = elsewhere(out, show="'logits': logits.tolist(), 'size': config['input_size']")
    loaded = load_trial(bench.study, folding)
    logits, name = of_photo(loaded, photo)
    assert "timm" in found["modules"]
    assert (found["said"], found["size"]) == (name, [1, 8, 8])
    # timm resizes with Pillow, which rounds otherwise: a grey level at most.
    assert (torch.tensor(found["logits"]) - logits).abs().max() < 0.05 * logits.abs().max()
    with torch.no_grad():
        assert (load_plain(out)(loaded.inputs) - loaded.wanted).abs().max() < TOLERANCE / 10


def test_any_design_is_a_program_of_torch_and_of_onnx(
    bench: Bench, adapter: TrialRecord, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same tracing, which takes seconds, of a design that does not fold, read back by both in new processes."""
    loaded = load_trial(bench.study, adapter)
    logits, name = of_photo(loaded, photo)
    own = loaded.model.preprocess(photo)
    made = traced(loaded.merged(), loaded.inputs)
    for module in (program, onnx):
        monkeypatch.setattr(module, "traced", lambda *_: made)
    for module, kind, file in ((program, "torch", "model.pt2"), (onnx, "onnx", "model.onnx")):
        out = photo.parent / f"as {kind}"
        written = module.export(bench.study, adapter, out)
        assert "at batches of 1 and 16" in written.checked
        assert sorted(p.name for p in out.iterdir()) == sorted(["README.md", "inference.json", file])
        about = json.loads((out / "inference.json").read_text(encoding="utf-8"))
        assert about["classes"] == list(bench.data.classes)
        assert about["preprocessing"]["size"] == 8
        found = elsewhere(out, show="'logits': logits.tolist(), 'pixels': prepared('photo.jpg').tolist()")
        assert found["said"] == name
        assert ("torch" in found["modules"]) is (kind == "torch")
        assert (torch.tensor(found["pixels"]) - own[0]).abs().max() <= 2.1 / 255 / 0.5
        assert (torch.tensor(found["logits"]) - logits).abs().max() < 0.05 * logits.abs().max()
        content = (out / file).read_bytes()
        assert str(Path(__file__).parents[2]).encode() not in content, "a path of this machine is in it"
        assert b"site-packages" not in content


def test_a_lora_for_peft_says_its_classes(bench: Bench, lora: TrialRecord, tmp_path: Path) -> None:
    written = peft.export(bench.study, lora, tmp_path / "as peft")
    about = json.loads((tmp_path / "as peft" / "inference.json").read_text(encoding="utf-8"))
    assert about["classes"] == list(bench.data.classes)
    assert about["preprocessing"] == {
        "mode": "L", "resize": 8, "size": 8, "interpolation": "bilinear", "mean": [0.5], "std": [0.5]
    }  # fmt: skip
    assert "peft.PeftModel.from_pretrained(base, " in "\n".join(written.lines)


# Every tuner


def together() -> list[tuple[Placement, ...]]:
    """Every tuner and reading in two designs, as a bypass stands alone."""
    found: dict[object, Placement] = {}
    for case in CASES:
        if case.placement.form != "bypass":
            found.setdefault((case.placement.tuner.kind, case.placement.tuner.options().get("reading")), case.placement)
    side = next(case.placement for case in CASES if case.placement.form == "bypass")
    return [tuple(found.values()), (side,)]


DESIGNS = together()


def test_the_designs_hold_every_tuner() -> None:
    readings = {(c.placement.tuner.kind, c.placement.tuner.options().get("reading")) for c in CASES}
    assert {(p.tuner.kind, p.tuner.options().get("reading")) for p in DESIGNS[0]} == readings
    assert {p.tuner.kind for p in DESIGNS[0]} == set(TUNERS)


@pytest.mark.parametrize("placements", DESIGNS, ids=["added", "bypass"])
def test_every_tuner_is_exported_to_torch_and_onnx(
    placements: tuple[Placement, ...], images: Tensor, tmp_path: Path
) -> None:
    model = tuned(tiny_vit(depth=1), *placements, random=True).eval().requires_grad_(False)
    randomise(model.head, seed=5, std=1.0)
    bare = tuned(model.backbone)
    bare.head = model.head
    with torch.no_grad():
        wanted, untuned = model(images), bare(images)
    assert (wanted - untuned).abs().max() > 0.1, "tuners would not be missed"
    made = traced(model, images)
    torch.export.save(made, tmp_path / "model.pt2")
    onnx.write_onnx(made, tmp_path / "model.onnx")
    runs: list[Callable[[Tensor], Tensor]] = [
        torch.export.load(tmp_path / "model.pt2").module(),
        onnx.Session(tmp_path / "model.onnx"),
    ]
    for run in runs:
        for size in (1, 3, 4):
            with torch.no_grad():
                assert (run(images[:size]) - wanted[:size]).abs().max() <= 1e-4


# Plain models of timm


@pytest.mark.parametrize(
    ("settings", "args"),
    [
        ({"qkv_bias": False, "proj_bias": False}, {"qkv_bias": True, "proj_bias": True}),
        ({"global_pool": "avg"}, {}),
    ],
)
def test_a_timm_model_gets_the_biases_that_tuners_gave(
    settings: dict[str, Any], args: dict[str, Any], images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a backbone whose maps have none: timm is told to build them."""
    built: list[dict[str, Any]] = []

    def create(name: str, *, pretrained: bool, num_classes: int, **more: Any) -> nn.Module:
        del name, pretrained
        built.append(more)
        return tiny_vit(num_classes=num_classes, **{**settings, **more})

    placements = (Placement("q", BiasConfig(), blocks="last 1"), Placement("fc1", BiasConfig()))
    model = merge(tuned(tiny_vit(**settings), *placements, random=True))
    monkeypatch.setattr(timm, "create_model", create)
    how = Preprocessing(8, 3, (0.5,) * 3, (0.5,) * 3, "bicubic", 0.9)
    state, config = as_timm(model, BackboneSpec("vit_tiny_patch16_224"), how, tuple("abcde"))
    assert config.get("model_args", {}) == args
    target = create("", pretrained=False, num_classes=CLASSES, **args).eval()
    target.load_state_dict(state)
    with torch.no_grad():
        assert torch.allclose(target(images), model(images), atol=1e-5)


def test_a_distilled_model_has_its_head_twice(images: Tensor) -> None:
    """timm takes the mean of two heads' logits; so both are ours."""
    del images
    name, how = "deit_tiny_distilled_patch16_224", Preprocessing(32, 3, (0.5,) * 3, (0.5,) * 3, "bicubic")
    backbone = randomise(timm.create_model(name, num_classes=0, img_size=32), seed=1, std=0.02).eval()
    model = merge(tuned(backbone, Placement("qkv", LoraConfig(1)), random=True))
    state, config = as_timm(model, BackboneSpec(name, image_size=32), how, tuple("abcde"))
    assert config["model_args"] == {"img_size": 32}
    assert config["pretrained_cfg"]["license"] == "apache-2.0"
    mine = as_timm(model, BackboneSpec(name, "mine.pth", 32), how, tuple("abcde"))[1]
    assert "license" not in mine["pretrained_cfg"], "of a local file nobody knows it"
    target = timm.create_model(name, num_classes=5, img_size=32).eval()
    target.load_state_dict(state)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(target(x), model(x), atol=1e-4)


def test_what_stays_is_named() -> None:
    shape = shape_of(tiny_vit())
    gated, side = Placement("qkv", LoraConfig(1), scale="gate"), Placement("mlp", AdapterConfig(1), blocks="last 1")
    design = Design((*FOLDING, gated, side))
    assert set(staying(design, shape)) >= set(Design((gated, side)).resolve(2).placements)
    assert not staying(Design(FOLDING), shape)
    message = refusal(lambda: plain.check_folds(Design((*FOLDING[1:], side)), shape), InputError)
    assert message == (
        "--format timm: all of the design folds into the backbone's weights; got mlp: parallel adapter r=1, block 2. "
        "Export it with --format onnx or torch, which take any design, or as a tuner."
    )


# The hub


def test_a_folder_for_the_hub_has_a_card_and_loads(
    bench: Bench, adapter: TrialRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "as hub"
    study = bench.study
    confirm_as_if(study.folder, adapter)
    hub.export(study, adapter, out, repository="me/digits")
    assert sorted(p.name for p in out.iterdir()) == ["README.md", "tuner.safetensors", "tuner.toml"]
    model, loaded = load_tuned(out), load_trial(study, adapter)
    with torch.no_grad():
        assert (model(loaded.inputs) - loaded.wanted).abs().max() <= 1e-6
    _, header, text = (out / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    table = yaml.safe_load(header)
    assert (table["license"], table["library_name"]) == ("apache-2.0", "utuning-search")
    assert {"adapter", "lora", "u-tuning"} <= set(table["tags"])
    assert (table["datasets"], table["metrics"]) == (["digits"], ["accuracy"])
    results = table["model-index"][0]["results"]
    assert results[0]["metrics"][0]["value"] == round(adapter.accuracy or 0, 4)
    for said in (
        'load_tuned(snapshot_download("me/digits"))',
        "over 40 images; it was chosen on these images",
        str(adapter.design),
        "- Classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        f"{adapter.parameters:,} with head",
        "@misc{jiang2023utuning,",
        "@inproceedings{hu2022lora,",
        "0.9000 (95%: 0.8000 to 0.9500 over images and trainings), trained on all training images with one seed",
    ):
        assert said in text
    monkeypatch.setattr("utuning_search.results.exports.model_card.NAMED", 3)
    exported = tomllib.loads((out / "tuner.toml").read_text(encoding="utf-8"))
    assert "- Classes: 0, 1, 2, and 7 more\n" in model_card(study, adapter, exported, "me/digits")


def confirm_as_if(folder: Path, record: TrialRecord) -> None:
    """The row of finals.csv, and the outcome of one training without weights."""
    outcome = Outcome(record.key, {}, 0, 2, True, "d", 100, "cpu", "fp32", 0.9)
    (folder / FINALS).mkdir(exist_ok=True)
    keep_outcome(folder, replace(outcome, seed=1))
    header = "key,test_low,test_high,beaten_by,metric"
    (folder / "finals.csv").write_text(f"{header}\n{record.key},0.8,0.95,,accuracy\n", encoding="utf-8")


def test_a_card_tells_no_folders_of_this_machine() -> None:
    table: dict[str, Any] = {
        "backbone": {"name": "x", "checkpoint": "/home/me/w.safetensors"},
        "task": {"data": {"root": "/home/me/photos"}},
    }
    hub._leave_out_places(table)
    assert (table["backbone"]["checkpoint"], table["task"]["data"]["root"]) == ("w.safetensors", "photos")


def test_where_weights_come_from_is_told_where_it_is_known() -> None:
    origin = origin_of("vit_base_patch16_224.orig_in21k")
    assert (origin.licence, origin.repository) == ("apache-2.0", "timm/vit_base_patch16_224.orig_in21k")
    assert origin_of("vit_base_patch16_224.orig_in21k", "w.npz") == origin_of("test_vit", "w.npz") != origin
    assert not origin_of("glyph_vit").repository


class Hub:
    """In place of the hub's API: keeps what it was given, or fails."""

    given: tuple[Any, ...] = ()
    error: Exception | None = None

    def create_repo(self, name: str, *, exist_ok: bool) -> str:
        assert exist_ok
        if self.error is not None:
            raise self.error
        return f"https://hub.example/{name}"

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        Hub.given = (repo_id, folder_path, commit_message)


def test_a_folder_is_uploaded_or_told_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HfApi", Hub)
    monkeypatch.setattr(hub, "get_token", lambda: None)
    message = refusal(lambda: hub.check_push("me/digits"), InputError)
    assert message.endswith("logged in to the Hugging Face hub; got no token. Log in: hf auth login")
    assert "--push: it is the name of a repository" in refusal(lambda: hub.check_push("a/b/c"), InputError)
    monkeypatch.setattr(hub, "get_token", lambda: "a token")
    hub.check_push("me/digits")
    assert hub.push(tmp_path, "me/digits") == "https://hub.example/me/digits"
    assert Hub.given[:2] == ("me/digits", tmp_path)
    monkeypatch.setattr(Hub, "error", ConnectionError("no route\nmore"))
    message = refusal(lambda: hub.push(tmp_path, "me/digits"), StudyError)
    assert "got ConnectionError: no route. The folder is whole" in message


# What is refused


class Off(nn.Module):
    """Logits that are off by a little where there are several images."""

    def __init__(self, wanted: Tensor, by: float) -> None:
        super().__init__()
        self.wanted, self.by = wanted, by

    def forward(self, images: Tensor) -> Tensor:
        return self.wanted[: len(images)] + (self.by if len(images) > 1 else 0.0)


@pytest.mark.parametrize("by", [2 * TOLERANCE, float("nan")])
def test_other_logits_are_refused(by: float, bench: Bench, adapter: TrialRecord) -> None:
    loaded = load_trial(bench.study, adapter)
    small = replace(loaded, wanted=loaded.wanted / loaded.wanted.abs().max())
    assert "at most 5.0e-04" in check_logits(Off(small.wanted, TOLERANCE / 2), small, adapter, "elsewhere")
    message = refusal(lambda: check_logits(Off(small.wanted, by), small, adapter, "elsewhere"), StudyError)
    assert "elsewhere, its logits of a batch of 16 are those of its training, up to 1.0e-03" in message
    assert message.endswith("--format tuner.")
    assert "nan" in refusal(lambda: check_logits(lambda x: x[:, 0, 0], small, adapter, "x"), StudyError)


@pytest.mark.parametrize("name", ["timm", "torch", "onnx", "hub"])
def test_an_export_that_fails_its_check_leaves_nothing(
    name: str, bench: Bench, folding: TrialRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a folder that holds something of the same name is not written into."""
    module = {"timm": plain, "torch": program, "onnx": onnx, "hub": hub}[name]

    def broken(*_: Any, **__: Any) -> Any:
        raise StudyError("trial", "it is right", "wrong")

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine")
    assert "README.md" in refusal(lambda: module.export(bench.study, folding, tmp_path / "mine"), StudyError)
    for what in ("traced", "write_onnx"):
        if hasattr(module, what):
            monkeypatch.setattr(module, what, lambda *_: None)
    monkeypatch.setattr(module, "model_card" if name == "hub" else "check_logits", broken)
    if name in ("torch", "onnx"):
        monkeypatch.setattr(torch.export, "save", lambda *_: None)
        monkeypatch.setattr(torch.export, "load", lambda *_: nn.Identity())
        monkeypatch.setattr(nn.Identity, "module", lambda self: self, raising=False)
        monkeypatch.setattr(onnx, "Session", lambda path: path)
    assert "wrong" in refusal(lambda: module.export(bench.study, folding, tmp_path / "out"), StudyError)
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["README.md"]


def test_a_missing_library_is_told_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    message = refusal(lambda: exporter("onnx"), InputError)
    assert message.startswith("--format onnx: onnx, onnxscript, onnxruntime can be imported; got no onnxruntime (")
    assert message.endswith('Install: pip install "utuning-search[onnx]"')
    assert "format is one of tuner, peft, timm, onnx, torch, hub; got 'gguf'" in refusal(lambda: exporter("gguf"))


def test_every_format_has_its_module_and_extras_are_declared() -> None:
    with (Path(__file__).parents[2] / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    for name, known in FORMATS.items():
        assert callable(exporter(name)), name
        _, _, extra = known.install.rstrip("]").partition("[")
        if extra:
            assert {line.split(">=")[0] for line in extras[extra]} == set(known.needs)
