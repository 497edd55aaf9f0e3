"""An exported tuner is the trial's: in a new process, merged, by its own README; what is damaged is refused."""

import contextlib
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from utuning_search.backbones import loading
from utuning_search.backbones.merge import merge
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import BackboneError, InputError, StudyError, UTuningError
from utuning_search.designs.design import Design, Placement
from utuning_search.results.classifier import TunedClassifier
from utuning_search.results.exports.tuner import export_trial
from utuning_search.results.load import load_tuned
from utuning_search.results.pick import pick_trial
from utuning_search.search.budget import Budget
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord
from utuning_search.training.context import load_search
from utuning_search.training.proxy import ProxyTrainer, Result
from utuning_search.training.runtime import Runtime
from utuning_search.training.weights import CHECK, SEAL
from utuning_search.tuners import (
    OPERATIONS,
    TUNERS,
    AdapterConfig,
    BiasConfig,
    LoraConfig,
    NormConfig,
    PrefixConfig,
    ScaleShiftConfig,
)

from ..helpers import CASES, SCALES, unfuse_attention

TASK = """
name = "tiny"
[backbone]
name = "glyph_vit"
[data]
source = "digits"
proxy = 60
validation = 40
[training]
epochs = 2
batch_size = 20
"""
SPACE = """
name = "one"
[[slots]]
name = "mlp"
operation = "mlp"
tuner = ["none", "norm"]
"""
FILES = ("README.md", "tuner.safetensors", "tuner.toml")
RATE = 0.02


def features(placement: Placement) -> set[tuple[object, ...]]:
    """What has to be exported at least once."""
    tuner = placement.tuner
    options = tuner.options()
    reading = (tuner.kind, options.get("reading"))
    return {(*reading, placement.form), (*reading, *options.values()), (placement.operation,), (placement.scale,)}


TOGETHER = 5  # tuners in a design at most: each design is trained, exported and loaded three times


def designs() -> dict[str, Design]:
    """Of all legal cases as many as it takes for every tuner, reading, form, corner, operation and scale.

    Several share a design where they may; what merges shares none with what does not.
    """
    alone = {
        "linear-probe": Design((), RATE),
        "adapter": Design((Placement("mlp", AdapterConfig(2), "sequential"),)),
        "tri": Design(
            (
                Placement("attention", AdapterConfig(3), "parallel", "channel"),
                Placement("mlp", AdapterConfig(3), "parallel", "channel"),
                Placement("block", PrefixConfig(3), "parallel"),
            )
        ),
    }
    packed: list[tuple[list[str], Design]] = []
    seen: set[tuple[object, ...]] = set()
    for i, case in enumerate(reversed(CASES)):
        placement = case.placement
        if features(placement) - seen:
            seen |= features(placement)
            blocks = "2" if placement.tuner.once else ("all", "last 1/2", "every 2")[i % 3]
            pack(packed, case.name, placement if placement.is_outside else replace(placement, blocks=blocks))
    return alone | {f"{names[0]}+{len(names) - 1}": design for names, design in packed}


def pack(packed: list[tuple[list[str], Design]], name: str, placement: Placement) -> None:
    """Add a tuner to the first design that may have it, or to a new one."""
    for i, (names, design) in enumerate(packed):
        alike = all(p.tuner.mergeable == placement.tuner.mergeable for p in design.placements)
        if alike and len(names) < TOGETHER:
            with contextlib.suppress(UTuningError):  # such as a bypass, which stands alone
                packed[i] = ([*names, name], Design((*design.placements, placement), RATE))
                return
    packed.append(([name], Design((placement,), RATE)))


DESIGNS = designs()
FOLDABLE = {
    "lora-parallel": Placement("qkv", LoraConfig(2), "parallel", "channel"),
    "lora-sequential": Placement("fc1", LoraConfig(2), "sequential", "scalar"),
    "lora-mixed": Placement("proj", LoraConfig(2), "mixed", 0.5),
    "scale-shift-linear": Placement("fc2", ScaleShiftConfig()),
    "scale-shift-attention": Placement("attention", ScaleShiftConfig()),
    "bias-mlp": Placement("mlp", BiasConfig()),
    "bias-linear": Placement("qkv", BiasConfig()),
    "norm": Placement("attention", NormConfig()),
}
HALF_FOLDABLE = {
    "beside-an-adapter": (Placement("mlp", AdapterConfig(2)), Placement("fc1", LoraConfig(2)), FOLDABLE["norm"]),
    "beside-a-prefix": (Placement("attention", PrefixConfig(2)), Placement("fc2", BiasConfig())),
}


@dataclass(frozen=True)
class Exported:
    """A trained design, its folder, and what the trial itself computed."""

    folder: Path
    record: TrialRecord
    check: Tensor
    difference: float


class Bench:
    """One study and one trainer; designs are trained by it and exported from it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "task.toml").write_text(TASK)
        (root / "space.toml").write_text(SPACE)
        self.study = Study.create(
            str(root / "space.toml"), str(root / "task.toml"), studies_dir=root / "studies", seed=4
        )
        self.trainer = ProxyTrainer(self.study.spec.task, Runtime())
        self.data = self.trainer.data
        self._normalise = load_search(self.study.spec.task, None).preprocessing.normalise
        self._backbone = loading.load_backbone("glyph_vit")
        unfuse_attention(self._backbone)
        self._count = 100

    def train(self, design: Design) -> TrialRecord:
        """A record as a study has it after the trial, its weights in the study's folder."""
        self._count += 1
        design = design.resolve(6)
        *_, result = self.trainer.evaluate(design, self._count)
        assert isinstance(result, Result)
        path = self.study.weights_file(self._count)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(result.weights)
        size = design.num_parameters(self.study.shape, 10)
        return TrialRecord(self._count, "complete", design.key, design, "", size, result.accuracy, 2, 0.1, {}, None, "")

    def logits(self, record: TrialRecord) -> Tensor:
        """Of the first validation images, by the trainer's own model with the trial's weights."""
        return self.computed(self.model(record))

    def model(self, record: TrialRecord) -> TunedModel:
        assert record.design is not None
        tensors = safetensors.torch.load_file(self.study.weights_file(record.number))
        model = TunedModel(self._backbone, record.design, 10).eval()
        model.load_tuner_state_dict({k: v for k, v in tensors.items() if k not in (CHECK, SEAL)})
        return model

    def computed(self, model: TunedModel) -> Tensor:
        with torch.no_grad():
            logits: Tensor = model(self._normalise(self.data.validation.images[:16]))
        return logits

    def export(self, design: Design, name: str) -> Exported:
        record = self.train(design)
        folder = self.root / "exports" / name
        difference = export_trial(self.study, record, folder)
        return Exported(folder, record, self.logits(record), difference)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def exported(bench: Bench) -> dict[str, Exported]:
    return {name: bench.export(design, name) for name, design in DESIGNS.items()}


@pytest.fixture(scope="module")
def adapter(exported: dict[str, Exported]) -> Exported:
    """A whole export; tests copy it before they change it."""
    return exported["adapter"]


@pytest.fixture
def copied(adapter: Exported, tmp_path: Path) -> Path:
    return Path(shutil.copytree(adapter.folder, tmp_path / "copied"))


IN_A_NEW_PROCESS = """
import json, os, re, sys, torch
from pathlib import Path
from PIL import Image
from safetensors.torch import load_file
from utuning_search import load_tuned

root, found = Path(sys.argv[1]), {}
data = load_file(root / "wanted.safetensors")
with torch.no_grad():
    for folder in sorted((root / "exports").iterdir()):
        model = load_tuned(folder)
        logits = model(model.preprocess(data["images"]))
        wanted = data[folder.name]
        found[folder.name] = {
            "difference": float((logits[: len(wanted)] - wanted).abs().max()),
            "hits": int((logits.argmax(dim=1) == data["labels"]).sum()),
            "classes": model.classes,
        }
readme = (root / "exports" / "adapter" / "README.md").read_text()
(code,) = re.findall("```python\\n(.*?)```", readme, flags=re.DOTALL)
os.chdir(root / "exports")
Image.fromarray(data["images"][0, 0].numpy()).save("photo.jpg", "PNG")
names = {}
exec(code, names)
with torch.no_grad():
    wanted = load_tuned("adapter")(load_tuned("adapter").preprocess(data["images"][:1])).softmax(1)
found["readme"] = {
    "lines": len(code.splitlines()),
    "difference": float((names["found"].probabilities - wanted).abs().max()),
    "names": names["found"].names == (load_tuned("adapter").classes[int(wanted.argmax())],),
}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def elsewhere(bench: Bench, exported: dict[str, Exported]) -> dict[str, Any]:
    """What a new process computes from the exported folders."""
    tensors = {name: e.check for name, e in exported.items()}
    split = bench.data.validation
    root = bench.root / "elsewhere"
    (root / "exports").mkdir(parents=True)
    for name, export in exported.items():
        shutil.copytree(export.folder, root / "exports" / name)  # folders move, and the study may be gone
    safetensors.torch.save_file(
        {**tensors, "images": split.images, "labels": split.labels}, root / "wanted.safetensors"
    )
    command = [sys.executable, "-c", IN_A_NEW_PROCESS, str(root)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# The tuner is the trial's


def test_every_tuner_reading_form_operation_and_scale_is_exported() -> None:
    placements = [p for d in DESIGNS.values() for p in d.placements]
    assert {type(p.tuner) for p in placements} == set(TUNERS.values())
    assert {p.operation for p in placements} == set(OPERATIONS)
    assert {p.scale for p in placements} >= set(SCALES)
    forms = {(p.tuner.kind, p.tuner.options().get("reading"), p.form) for p in placements}
    assert forms == {(c.claims.kind, c.claims.options().get("reading"), c.placement.form) for c in CASES}


@pytest.mark.parametrize("name", DESIGNS)
def test_a_new_process_computes_the_trials_logits(
    name: str, bench: Bench, exported: dict[str, Exported], elsewhere: dict[str, Any]
) -> None:
    found, record = elsewhere[name], exported[name].record
    assert found["difference"] <= 1e-6
    assert exported[name].difference <= 1e-6
    assert found["hits"] / len(bench.data.validation.labels) == record.accuracy
    assert found["classes"] == [str(d) for d in range(10)]


@pytest.mark.parametrize("name", DESIGNS)
def test_the_tuner_was_trained(name: str, exported: dict[str, Exported]) -> None:
    """Else the logits of an untouched backbone would pass for the trial's."""
    tensors = safetensors.torch.load_file(exported[name].folder / "tuner.safetensors")
    tuners = {k: v for k, v in tensors.items() if k.startswith("tuners.")}
    assert bool(tuners) == (name != "linear-probe")
    assert all(t.abs().max() > 0 for k, t in tuners.items())


@pytest.mark.parametrize("name", DESIGNS)
def test_each_tuner_of_a_design_would_be_missed(name: str, bench: Bench, exported: dict[str, Exported]) -> None:
    """Where several share a design, none hides behind the others."""
    model, check = bench.model(exported[name].record), exported[name].check
    for placement in model.design.placements:
        block = max(placement.block_numbers())
        tuned = model.tuners["outside" if placement.is_outside else f"block_{block}"]
        groups = tuned.inside if placement.form == "inside" else tuned.added  # type: ignore[union-attr]  # TunedBlock
        weights = list(groups[placement.operation][tuned.names[placement]].parameters())  # type: ignore[index]
        kept = [w.detach().clone() for w in weights]
        with torch.no_grad():
            for weight in weights:
                weight.zero_()
            assert (bench.computed(model) - check).abs().max() > 1e-5, placement
            for weight, before in zip(weights, kept, strict=True):
                weight.copy_(before)
    assert torch.equal(bench.computed(model), check)


@pytest.mark.parametrize("name", DESIGNS)
def test_merging_keeps_the_logits(name: str, bench: Bench, exported: dict[str, Exported]) -> None:
    plain, merged = (load_tuned(exported[name].folder, merge=m) for m in (False, True))
    images = bench.data.validation.images
    with torch.no_grad():
        difference = (plain(plain.preprocess(images)) - merged(merged.preprocess(images))).abs().max()
    assert difference <= 1e-4
    if not any(p.tuner.mergeable for p in plain.design.placements):
        assert count(merged) == count(plain)


def count(model: TunedClassifier) -> int:
    """Trainable tensors of tuners."""
    return len(list(model.model.tuners.parameters()))


@pytest.mark.parametrize("name", [*FOLDABLE, *HALF_FOLDABLE])
def test_merging_folds_what_it_can(name: str, bench: Bench) -> None:
    placements = (FOLDABLE[name],) if name in FOLDABLE else HALF_FOLDABLE[name]
    folder = bench.export(Design(placements, RATE), f"fold-{name}").folder
    plain, merged = (load_tuned(folder, merge=m) for m in (False, True))
    assert count(plain) > 0
    if name in FOLDABLE:
        assert count(merged) == 0
        assert not list(merged.model.tuners.modules())[1:], "an empty module is left"
    else:
        assert 0 < count(merged) < count(plain)
    double = load_tuned(folder).double()
    x = double.preprocess(bench.data.validation.images).double()
    with torch.no_grad():
        assert (double(x) - merge(double.model)(x)).abs().max() <= 1e-9
        assert (double(x).float() - merged(x.float())).abs().max() <= 1e-4


def test_the_three_lines_of_the_readme_run(adapter: Exported, elsewhere: dict[str, Any]) -> None:
    """From the folder beside it, with a photo at hand."""
    assert elsewhere["readme"]["lines"] == 3
    assert elsewhere["readme"]["names"]
    assert elsewhere["readme"]["difference"] <= 1e-6
    text = (adapter.folder / "README.md").read_text(encoding="utf-8")
    for said in (
        str(adapter.record.design),
        f"{adapter.record.parameters:,}",
        "houlsby2019adapter",
        "jiang2023utuning",
    ):
        assert said in text


def test_tuner_toml_says_what_it_is(bench: Bench, adapter: Exported) -> None:
    table = tomllib.loads((adapter.folder / "tuner.toml").read_text(encoding="utf-8"))
    study, record = bench.study, adapter.record
    assert sorted(p.name for p in adapter.folder.iterdir()) == sorted(FILES)
    assert Design.from_dict(table["design"]) == record.design
    assert table["classes"] == list(bench.data.classes)
    digest = loading.load_digested("glyph_vit")[1]
    assert table["backbone"] == {"name": "glyph_vit", "checkpoint": "", "image_size": 0, "digest": digest}
    assert {**table["task"], "backbone": {k: v for k, v in table["backbone"].items() if k != "digest"}} == (
        study.spec.task.to_dict()
    )
    assert table["metrics"]["validation_accuracy"] == record.accuracy
    assert table["metrics"]["parameters"] == record.parameters
    assert table["metrics"]["tuner_parameters"] == record.parameters - 650
    assert table["metrics"]["epochs"] == 2
    provenance = table["provenance"]
    assert provenance["study"] == study.name
    assert provenance["study_digest"] == study.spec.digest
    assert (provenance["seed"], provenance["precision"], provenance["space"]) == (4, "fp32", "one")
    assert (provenance["trial"], provenance["key"]) == (record.number, record.key)
    assert provenance["versions"]["torch"] == torch.__version__.split("+")[0]
    assert set(provenance["versions"]) == {"python", "utuning-search", "torch", "timm", "optuna"}
    assert [c.split("{")[1].split(",")[0] for c in provenance["cite"]] == ["houlsby2019adapter", "jiang2023utuning"]


def test_a_trial_of_a_study_is_exported_and_seeded_as_told(bench: Bench, tmp_path: Path) -> None:
    """Training again from tuner.toml alone gives the exported weights."""
    study = bench.study
    assert study.run(Budget(trials=2), workers=0)
    record = pick_trial(study.trials(), "best")
    assert export_trial(study, record, tmp_path / "best") <= 1e-6
    table = tomllib.loads((tmp_path / "best" / "tuner.toml").read_text(encoding="utf-8"))
    design = Design.from_dict(table["design"])
    *_, result = ProxyTrainer(study.spec.task, Runtime()).evaluate(design, table["provenance"]["training_seed"])
    assert isinstance(result, Result)
    assert result.weights == (tmp_path / "best" / "tuner.safetensors").read_bytes()


def test_a_reused_trial_has_the_weights_of_the_first(bench: Bench, adapter: Exported, tmp_path: Path) -> None:
    record = replace(adapter.record, number=900, reused=adapter.record.number, epochs=0)
    assert export_trial(bench.study, record, tmp_path / "reused") <= 1e-6
    weights = [p / "tuner.safetensors" for p in (adapter.folder, tmp_path / "reused")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


# What is refused


def refusal(call: Callable[[], object], kind: type[UTuningError] = UTuningError) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("state", ["pruned", "failed", "running", "interrupted"])
def test_only_complete_trials_are_exported(state: str, bench: Bench, adapter: Exported, tmp_path: Path) -> None:
    record = replace(adapter.record, state=state)
    message = refusal(lambda: export_trial(bench.study, record, tmp_path / "x"), StudyError)
    assert "only a complete trial has a tuner" in message
    assert not (tmp_path / "x").exists()


def test_lost_weights_are_told(bench: Bench, adapter: Exported, tmp_path: Path) -> None:
    record = replace(adapter.record, number=999)
    assert "no 00999.safetensors" in refusal(lambda: export_trial(bench.study, record, tmp_path / "x"), StudyError)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", FILES)
def test_a_folder_that_holds_one_is_not_written_over(
    name: str, bench: Bench, adapter: Exported, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("mine")
    message = refusal(lambda: export_trial(bench.study, adapter.record, tmp_path), StudyError)
    assert message == f"folder {tmp_path}: it holds no exported tuner yet; got {name}. Choose another with --out."
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_exporting_twice_into_one_folder_is_refused(bench: Bench, adapter: Exported) -> None:
    before = {p.name: p.read_bytes() for p in adapter.folder.iterdir()}
    assert "--out" in refusal(lambda: export_trial(bench.study, adapter.record, adapter.folder), StudyError)
    assert {p.name: p.read_bytes() for p in adapter.folder.iterdir()} == before


def test_a_folder_that_cannot_be_made_is_told(bench: Bench, adapter: Exported, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "x"):
        message = refusal(lambda out=out: export_trial(bench.study, adapter.record, out), StudyError)  # type: ignore[misc]  # bound now
        assert "can be created and written" in message
        assert "--out" in message


@pytest.mark.parametrize("name", ["tuner.toml", "tuner.safetensors"])
def test_a_missing_file_is_named(name: str, copied: Path) -> None:
    (copied / name).unlink()
    assert f"{name} is in it; got no such file" in refusal(lambda: load_tuned(copied), InputError)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    assert "utuning-search export" in refusal(lambda: load_tuned(tmp_path / "nothing"), InputError)


@pytest.mark.parametrize("name", ["tuner.toml", "tuner.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
def test_a_damaged_file_is_refused(name: str, damage: str, copied: Path) -> None:
    content = (copied / name).read_bytes()
    damaged = {"cut": content[: len(content) // 2 - 3], "empty": b"", "noise": bytes(range(256)) * 4}[damage]
    (copied / name).write_bytes(damaged)
    assert str(copied) in refusal(lambda: load_tuned(copied), InputError)


EDITS: dict[str, tuple[str, str, str]] = {
    "format": ("format = 1", "format = 2", "its format is 1; got 2"),
    "no-design": ("[[design.placements]]", "[[plan.placements]]", "it holds design"),
    "no-backbone": ("[backbone]", "[bone]", "it holds backbone"),
    "no-classes": ("classes =", "klasses =", "it holds classes"),
    "another-backbone-key": ('checkpoint = ""', 'weights = ""', "only known keys are allowed; got 'weights'"),
    "a-wrong-type": ("image_size = 0", 'image_size = "8"', "of type int"),
    "an-unknown-tuner": ('tuner = "adapter"', 'tuner = "adaptor"', "Did you mean 'adapter'?"),
    "an-illegal-rank": ("rank = 2", "rank = 0", "rank is an integer from 1"),
    "another-rank": ("rank = 2", "rank = 3", "they fit the design exactly"),
    "another-operation": ('operation = "mlp"', 'operation = "attention"', "they fit the design exactly"),
    "beyond-the-depth": ('blocks = "1-6"', 'blocks = "1-7"', "blocks match at least one of 1 to 6"),
    "fewer-classes": ('    "9",\n', "", "they fit the design exactly; got head"),
    "an-unknown-backbone": ('name = "glyph_vit"', 'name = "glyph_vitt"', "Did you mean"),
    "no-digest": ("image_size = 0\ndigest = ", "image_size = 0\nhash = ", "only known keys are allowed"),
    "another-digest": ('image_size = 0\ndigest = "', 'image_size = 0\ndigest = "f', "its weights' digest is f"),
    "another-tuners-digest": ('format = 1\ndigest = "', 'format = 1\ndigest = "f', "tuner.safetensors is f"),
    "a-digest-of-no-text": ('format = 1\ndigest = "', 'format = 1\ndigest = 5 # "', "tuner.safetensors is 5"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_tuner_toml_is_refused(name: str, copied: Path) -> None:
    old, new, message = EDITS[name]
    text = (copied / "tuner.toml").read_text(encoding="utf-8")
    assert old in text
    (copied / "tuner.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    assert message in refusal(lambda: load_tuned(copied))


def test_a_tensor_too_many_or_too_few_is_named(copied: Path) -> None:
    path = copied / "tuner.safetensors"
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file({**tensors, "tuners.extra": torch.zeros(1)}, path)
    assert "tuners.extra" in refusal(lambda: load_tuned(copied), BackboneError)
    name = next(k for k in tensors if k.startswith("tuners."))
    safetensors.torch.save_file({k: v for k, v in tensors.items() if k != name}, path)
    assert name in refusal(lambda: load_tuned(copied), BackboneError)


def test_weights_of_another_backbone_are_refused(copied: Path, tmp_path: Path) -> None:
    own = loading.load_backbone("glyph_vit").state_dict()
    safetensors.torch.save_file(own, tmp_path / "own.safetensors")
    assert load_tuned(copied, checkpoint=tmp_path / "own.safetensors").classes
    own["blocks.3.mlp.fc1.weight"][5, 7] += 1e-3
    safetensors.torch.save_file(own, tmp_path / "other.safetensors")
    message = refusal(lambda: load_tuned(copied, checkpoint=tmp_path / "other.safetensors"), BackboneError)
    assert "digest is" in message
    assert message.endswith("Give the checkpoint it was trained on.")


def test_a_checkpoint_is_looked_up_in_the_data_directory(bench: Bench, tmp_path: Path) -> None:
    safetensors.torch.save_file(loading.load_backbone("glyph_vit").state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "task.toml").write_text(TASK.replace('"glyph_vit"', '"glyph_vit"\ncheckpoint = "w.safetensors"'))
    space, task = str(bench.root / "space.toml"), str(tmp_path / "task.toml")
    study = Study.create(space, task, studies_dir=tmp_path / "studies", data_dir=str(tmp_path))
    assert study.run(Budget(trials=1), workers=0)
    out = tmp_path / "out"
    assert export_trial(study, study.front()[0], out) <= 1e-6
    assert load_tuned(out, data_dir=tmp_path).classes
    assert 'load_tuned("out", data_dir="DATA_DIR")' in (out / "README.md").read_text(encoding="utf-8")
    message = refusal(lambda: load_tuned(out), InputError)
    assert "w.safetensors" in message
    moved = (tmp_path / "w.safetensors").rename(tmp_path / "moved.safetensors")
    assert load_tuned(out, checkpoint=moved).classes


@pytest.mark.parametrize("images", [torch.zeros(2, 1, 8, 8), torch.zeros(2, 3, 8, 8, dtype=torch.uint8)])
def test_images_of_another_kind_are_refused(images: Tensor, adapter: Exported) -> None:
    model = load_tuned(adapter.folder)
    assert "uint8 of (batch, 1, height, width)" in refusal(lambda: model.preprocess(images), InputError)


def test_loading_changes_nothing_in_the_folder(adapter: Exported) -> None:
    before = {p.name: p.read_bytes() for p in adapter.folder.iterdir()}
    load_tuned(str(adapter.folder), merge=True, device="auto")
    assert {p.name: p.read_bytes() for p in adapter.folder.iterdir()} == before


# Which trial


def trial(number: int, accuracy: float | None, parameters: int, state: str = "complete") -> TrialRecord:
    return TrialRecord(number, state, f"{number:012}", Design(), "", parameters, accuracy, 2, 1.0, {}, None, "")


RECORDS = [
    trial(0, 0.50, 650),
    trial(1, 0.80, 2_000),
    trial(2, 0.81, 49_000),
    trial(3, 0.82, 51_000),
    trial(4, 0.70, 3_000),
    trial(5, 0.99, 700, "pruned"),
    trial(6, None, 700, "failed"),
]


@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("best", 3),
        ("knee", 1),
        ("max-params=50k", 2),
        ("max-params=50000", 2),
        ("max-params=0.05M", 2),
        ("max-params=51k", 3),
        ("max-params=2000", 1),
        ("max-params=650", 0),
        ("trial=4", 4),
        ("trial=5", 5),
    ],
)
def test_pick(how: str, number: int) -> None:
    assert pick_trial(RECORDS, how).number == number


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("worst", "or trial=17; got 'worst'"),
        ("", "pick is best"),
        ("best=1", "pick is best"),
        ("knee=", None),
        ("trial", "pick is best"),
        ("trial=", "pick is best"),
        ("max-params", "pick is best"),
        ("trial=77", "number of a trial in the study; got '77'"),
        ("trial=-1", "number of a trial"),
        ("trial=four", "number of a trial"),
        ("max-params=500", "the smallest has 650"),
        ("max-params=many", "a count is a number"),
        ("max-params=-5", "a count is a number"),
        ("max-params=5kk", "a count is a number"),
    ],
)
def test_a_wrong_pick_is_refused(how: str, message: str | None) -> None:
    if message is None:
        assert pick_trial(RECORDS, how).number == 1
    else:
        assert message in refusal(lambda: pick_trial(RECORDS, how))


def test_a_study_without_complete_trials_has_no_pick() -> None:
    assert "has a complete trial" in refusal(lambda: pick_trial(RECORDS[5:], "best"), StudyError)
    assert "has a complete trial" in refusal(lambda: pick_trial([], "knee"), StudyError)
