"""LoRA designs in peft's own format, read back by peft itself."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from utuning_search import Budget, Study, export_trial, load_tuned
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.cli.main import main
from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design, Placement
from utuning_search.results.exports.peft_files import check_peft, write_peft
from utuning_search.tuners import AdapterConfig, ExpertsConfig, LoraConfig, NormConfig

from ..helpers import CLASSES, shape_of, tiny_vit, tuned

FITTING = {
    "lora": Design.preset("lora", rank=2).placements,
    "lora-all": Design.preset("lora-all", rank=3).placements,
    "mlae": Design.preset("mlae", rank=2).placements,
    "scaled": (Placement("fc1", LoraConfig(2), scale=0.5), Placement("fc1", LoraConfig(3), scale=4.0)),
    "parts": (
        Placement("q", LoraConfig(1)),
        Placement("k", LoraConfig(2), blocks="last 1"),
        Placement("v", ExpertsConfig(3), scale=2.0),
        Placement("qkv", LoraConfig(2), blocks="first 1"),
    ),
}


@pytest.mark.parametrize("name", FITTING)
def test_peft_gives_the_same_logits(name: str, images: Tensor, tmp_path: Path) -> None:
    backbone = tiny_vit()
    model = tuned(backbone, *FITTING[name], random=True)
    write_peft(model.design, model.tuner_state_dict(), shape_of(backbone), "tiny", tmp_path)
    base = _with_head(backbone)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path).eval()
    with torch.no_grad():
        assert torch.allclose(loaded(images), model(images), atol=1e-5)
        assert torch.allclose(loaded.merge_and_unload()(images), model(images), atol=1e-4)


def _with_head(backbone: VisionTransformer) -> VisionTransformer:
    base = tiny_vit(num_classes=CLASSES)
    own = base.state_dict()
    base.load_state_dict({**own, **backbone.state_dict()})
    return base


@pytest.mark.parametrize(
    ("placements", "why"),
    [
        ((Placement("mlp", AdapterConfig(2)),), "an adapter is no LoRA"),
        ((Placement("qkv", LoraConfig(2)), Placement("mlp", NormConfig())), "a norm is no LoRA"),
        ((Placement("qkv", LoraConfig(2), "sequential"),), "its form is sequential"),
        ((Placement("qkv", LoraConfig(2), scale="channel"),), "its scale is channel"),
        ((), "a linear probe"),
    ],
)
def test_what_peft_cannot_hold_is_refused_in_a_line(placements: Any, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        check_peft(Design(placements))
    assert len(str(caught.value).splitlines()) == 1


def test_every_parameter_is_written(tmp_path: Path) -> None:
    """As many numbers as the design has, where no part of qkv is padded."""
    backbone = tiny_vit()
    model = TunedModel(backbone, Design.preset("lora-all", rank=2), CLASSES)
    write_peft(model.design, model.tuner_state_dict(), shape_of(backbone), "tiny", tmp_path)
    loaded = peft.PeftModel.from_pretrained(_with_head(backbone), tmp_path, is_trainable=True)
    trained = sum(p.numel() for p in loaded.parameters() if p.requires_grad)
    assert trained == model.design.num_parameters(shape_of(backbone), CLASSES)


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
"""
SPACE = """
name = "one"
[[slots]]
name = "linear"
operation = "q+v"
tuner = "lora"
rank = 2
blocks = "last 1/2"
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A LoRA, and a linear probe that was tried first."""
    folder = tmp_path_factory.mktemp("peft")
    for name, text in {"task": TASK, "space": SPACE}.items():
        (folder / f"{name}.toml").write_text(text)
    paths = [str(folder / f"{name}.toml") for name in ("space", "task")]
    made = Study.create(*paths, name="lora", studies_dir=folder / "studies", presets=["linear-probe"])
    assert made.run(Budget(trials=2), workers=0)
    return made


def test_an_exported_folder_loads_by_the_lines_it_holds(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """What README.md says is what is run here, and gives the logits that `load_tuned` gives."""
    (trial,) = [r for r in study.trials() if not r.preset]
    folder, out = study.folder.parent, study.folder / "peft"
    assert main(["export", "lora", "--studies-dir", str(folder), "--pick", f"trial={trial.number}", "--format", "peft",
                 "--out", str(out)]) == 0  # fmt: skip
    code = (out / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    monkeypatch.chdir(out.parent)
    Image.new("L", (20, 8), 90).save("photo.jpg")
    exec(code, names)
    export_trial(study, trial, study.folder / "tuner")
    ours = load_tuned(study.folder / "tuner")
    images = ours.preprocess(torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8))
    with torch.no_grad():
        assert torch.allclose(names["model"](images), ours(images), atol=1e-5)
        assert torch.allclose(names["logits"], ours(ours.preprocess("photo.jpg")), atol=1e-5)


def test_a_trial_without_lora_is_refused(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--studies-dir", str(study.folder.parent), "--format", "peft", "--out", str(study.folder / "none")]
    assert main(["export", "lora", "--pick", "trial=0", *place]) == 2
    assert "the design has a LoRA; got a linear probe" in capsys.readouterr().err
    assert not (study.folder / "none").exists()
