"""Models from a folder to an export, most of several stages: searched, resumed, loaded in a new process, in timm."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import tomli_w
import torch
from packaging.version import Version

from utuning_search.backbones.loading import load_backbone, preprocessing_of
from utuning_search.backbones.merge import merge
from utuning_search.backbones.metaformer import MetaFormerAdapter
from utuning_search.backbones.plain import as_timm, load_plain
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.common.errors import BackboneError
from utuning_search.designs.design import Design, Placement
from utuning_search.results.exports.tuner import export_trial
from utuning_search.results.load import load_tuned
from utuning_search.search.budget import Budget
from utuning_search.search.study import Study
from utuning_search.testing.backbones import pictures
from utuning_search.training.task import Task
from utuning_search.tuners import LoraConfig, ScaleShiftConfig

from ..helpers import randomise, tuned

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 8, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2},
    ),
    "swin v2": (
        "swinv2_tiny_window8_256",
        {"img_size": 8, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2},
    ),
    "hiera": (
        "hiera_tiny_224",
        {"img_size": 8, "embed_dim": 8, "stages": [1, 1], "q_pool": 1, "mask_unit_size": [2, 2]}
        | {"patch_kernel": [3, 3], "patch_stride": [2, 2], "patch_padding": [1, 1], "mask_unit_attn": [True, False]},
    ),
    "naflex": (
        "naflexvit_base_patch16_gap",
        {"patch_size": 2, "embed_dim": 8, "depth": 2, "num_heads": 2, "pos_embed_grid_size": [3, 3]},
    ),
    "parallel": (
        "vit_dpwee_patch16_reg1_gap_256",
        {"img_size": 8, "patch_size": 2, "embed_dim": 8, "depth": 2, "num_heads": 2},
    ),
    "convnext": ("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [4, 4, 8, 8], "patch_size": 1, "kernel_sizes": 3}),
}
# Whose exports are loaded, too: one of each family, small where a config.json can make it so.
FLAT: dict[str, Any] = {"patch_size": 2, "embed_dim": 8, "depth": 2, "num_heads": 2}
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "swin-v2-cr": (
        "swinv2_cr_tiny_224",
        {"img_size": 8, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2},
    ),
    "eva": ("eva02_tiny_patch14_224", {"img_size": 8, **FLAT}),
    "parallel-vit": ("vit_pwee_patch16_reg1_gap_256", {"img_size": 8, **FLAT}),
    "beit": ("beit_base_patch16_224", {"img_size": 8, **FLAT}),
    "relpos": ("vit_relpos_small_patch16_224", {"img_size": 8, **FLAT}),
    "xcit": ("xcit_nano_12_p8_224", {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}),
    "qwen3": ("qwen3_vit_88m_merge", {"img_size": 8, **FLAT, "out_features": 8, "pos_embed_grid_size": 4}),
    "metaformer": ("poolformerv2_s12", {}),
    "mvitv2": ("mvitv2_tiny", {"img_size": 32}),
}
if Version(timm.__version__) < Version("1.0.31"):  # it takes the linear map of patches for a convolution of colours
    del MODELS["naflex"]
if not timm.is_model("qwen3_vit_88m_merge"):  # of the oldest timm
    del OTHERS["qwen3"]
TASK: dict[str, Any] = {
    "name": "tiny",
    "data": {"source": "digits", "proxy": 60, "validation": 40},
    "training": {"epochs": 2, "batch_size": 30, "rungs": [1]},
}
# A new process loads exports, and prints logits of a ramp.
LOADING = """
import sys, torch
from utuning_search.backbones.registry import adapter_of
from utuning_search.results.load import load_tuned
torch.set_num_threads(1)
for export, checkpoint in zip(sys.argv[1::2], sys.argv[2::2]):
    with torch.no_grad():
        model = load_tuned(export, checkpoint=checkpoint).model
        size = adapter_of(model.backbone).image_size
        print(*model(torch.linspace(-1, 1, size**2).view(1, 1, size, size))[0].tolist())
"""


def folder_of(label: str, place: Path) -> Path:
    """A folder as timm saves a model, with random weights."""
    name, args = {**MODELS, **OTHERS}[label]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=0, in_chans=1, **args)
    place.mkdir()
    configuration = {"input_size": [1, 8, 8], "mean": [0.5], "std": [0.5], "interpolation": "bilinear"}
    table = {"architecture": name, "model_args": {**args, "in_chans": 1}, "num_classes": 0}
    (place / "config.json").write_text(json.dumps({**table, "pretrained_cfg": configuration}))
    safetensors.torch.save_file(randomise(model, seed=0).state_dict(), place / "model.safetensors")
    return place


@pytest.mark.usefixtures("warm_processes")
def test_a_study_of_a_whole_space_runs_and_goes_on(tmp_path: Path) -> None:
    """What the backbone cannot carry is never proposed, so no trial fails; and exports are loaded in a new process."""
    folder = folder_of("swin", tmp_path / "swin")
    path = tmp_path / "task.toml"
    path.write_text(tomli_w.dumps({**TASK, "backbone": {"name": f"local-dir:{folder}"}}))
    made: dict[str, Any] = {"name": "s", "studies_dir": tmp_path / "studies", "device": "cpu", "presets": ("all",)}
    study = Study.create("full", Task.load(str(path)), sampler="random", pruner=None, precision="fp32", **made)
    assert any(note.startswith("left out on this backbone: exact prefix,") for note in study.notes())
    presets = len(study.spec.preset_designs(study.shape.depth))
    assert 30 < presets < 43
    study = Study.load("s", studies_dir=tmp_path / "studies")
    for trials in (3, 5):
        study.run(Budget(trials=trials), workers=1)
    records = study.trials()
    assert [r.state for r in records] == ["complete"] * 5
    assert [r.parameters for r in records] == [r.design.num_parameters(study.shape, 10) for r in records if r.design]
    best = max(records, key=lambda r: r.parameters)
    export_trial(study, best, tmp_path / "out")
    labels = [label for label in ("convnext", "hiera", "naflex", *OTHERS) if label in {**MODELS, **OTHERS}]
    check_loaded_in_a_new_process({tmp_path / "out": folder, **dict(exported(label, tmp_path) for label in labels)})


def exported(label: str, place: Path) -> tuple[Path, Path]:
    """The export of a known method, after a linear probe, on a small model, and the model's folder."""
    folder, path = folder_of(label, place / label), place / f"{label}.toml"
    path.write_text(tomli_w.dumps({**TASK, "backbone": {"name": f"local-dir:{folder}"}}))
    made: dict[str, Any] = {"studies_dir": place / "studies", "device": "cpu", "precision": "fp32", "pruner": None}
    study = Study.create("smoke", Task.load(str(path)), name=label, sampler="random", presets=("adaptformer",), **made)
    study.run(Budget(trials=2), workers=1)
    _, record = study.trials()
    assert record.design is not None
    assert record.design.placements == Design.preset("adaptformer").resolve(study.shape.depth).placements
    export_trial(study, record, place / f"{label}-out")
    return place / f"{label}-out", folder


def check_loaded_in_a_new_process(places: dict[Path, Path]) -> None:
    """One process for all exports, as it takes seconds to start."""
    expected = []
    with torch.no_grad():
        for out, folder in places.items():
            model = load_tuned(out, checkpoint=folder).model
            size = adapter_of(model.backbone).image_size
            expected.append(model(torch.linspace(-1, 1, size**2).view(1, 1, size, size))[0])
    command = [sys.executable, "-c", LOADING, *(str(p) for pair in places.items() for p in pair)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(printed) == len(places)
    for line, logits in zip(printed, expected, strict=True):
        assert torch.allclose(torch.tensor([float(x) for x in line.split()]), logits, atol=1e-5)


def test_a_known_method_that_the_backbone_cannot_carry_is_refused_by_name(tmp_path: Path) -> None:
    folder = folder_of("swin", tmp_path / "swin")
    path = tmp_path / "task.toml"
    path.write_text(tomli_w.dumps({**TASK, "backbone": {"name": f"local-dir:{folder}"}}))
    with pytest.raises(
        BackboneError, match="preset 'vpt-deep' on 'swin': it can carry a deep prompt at block; got its"
    ):
        Study.create("smoke", Task.load(str(path)), name="s", studies_dir=tmp_path / "studies", presets=("vpt-deep",))
    assert not (tmp_path / "studies" / "s").exists()


@pytest.mark.parametrize("label", MODELS)
@torch.no_grad()
def test_what_folds_is_a_model_of_timm(label: str, tmp_path: Path) -> None:
    """LoRA at each linear map, and at those of ConvNeXt and Swin scales and shifts too."""
    folder = folder_of(label, tmp_path / "model")
    spec = BackboneSpec(f"local-dir:{folder}")
    backbone = load_backbone(spec.name)
    operations = [o for o in ("qkv", "proj", "fc1", "fc2") if o in adapter_of(backbone).operations]
    placements = [Placement(o, LoraConfig(2)) for o in operations]
    if label != "swin v2":  # whose keys would get a bias
        placements += [Placement(o, ScaleShiftConfig()) for o in operations]
    model = merge(tuned(backbone, *placements, random=True))
    assert not len(model.tuners)
    how = preprocessing_of(backbone, spec.name)
    tensors, config = as_timm(model, spec, how, ("a", "b", "c", "d", "e"))
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "config.json").write_text(json.dumps(config))
    safetensors.torch.save_file(tensors, tmp_path / "plain" / "model.safetensors")
    images = pictures(adapter_of(backbone))
    assert torch.allclose(load_plain(tmp_path / "plain")(images), model(images), atol=1e-4)


def test_a_metaformer_is_given_back_with_one_linear_map_as_its_head() -> None:
    """And with biases that it had not, where a design gave it some."""
    biases = ["stages.0.blocks.0.mlp.fc1.bias", "stages.2.blocks.0.token_mixer.proj.bias"]
    args = {**MetaFormerAdapter.head_arguments, **MetaFormerAdapter.bias_arguments(biases)}
    with torch.device("meta"):
        names = timm.create_model("caformer_s18", num_classes=5, **args).state_dict().keys()
    assert {"head.fc.weight", "head.fc.bias", *biases} <= names


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    backbone = load_backbone(f"local-dir:{folder_of('convnext', tmp_path / 'model')}", image_size=16)
    adapter = adapter_of(backbone)
    assert (adapter.image_size, adapter.shape.grid) == (16, (2, 2))
    with pytest.raises(BackboneError, match="backbone 'ConvNeXt': images are of 16 pixels; got 8x8"):
        adapter.embed(torch.zeros(1, 1, 8, 8))
