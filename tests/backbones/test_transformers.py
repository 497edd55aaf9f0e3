"""Checkpoints of Hugging Face transformers: timm's model with the mapped weights computes what theirs does.

Their models are small, with all weights drawn at random, those that usually begin at zero too.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import transformers as tf
from torch import Tensor, nn

from utuning_search.backbones import hub
from utuning_search.backbones.loading import load_backbone, load_digested, preprocessing_of
from utuning_search.backbones.names import parse_name
from utuning_search.backbones.opened import opened
from utuning_search.backbones.transformers_config import KINDS
from utuning_search.backbones.transformers_names import timm_names
from utuning_search.common.errors import BackboneError, UTuningError

from ..helpers import randomise
from ..repositories import COMMITS, Cache

SIDE, PATCH = 32, 8
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "patch_size": PATCH}
SQUARE = {**SIZES, "image_size": SIDE}
TEXT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8, "vocab_size": 9}


def pooled(model: Any, images: Tensor) -> Tensor:
    found: Tensor = model(pixel_values=images).pooler_output
    return found


def first_token(model: Any, images: Tensor) -> Tensor:
    found: Tensor = model(pixel_values=images).last_hidden_state[:, 0]
    return found


def averaged(model: Any, images: Tensor) -> Tensor:
    found: Tensor = model(pixel_values=images).last_hidden_state.mean(1)
    return found


def of_patches(model: Any, images: Tensor) -> Tensor:
    """SigLIP 2 is given patches, row by row, each by row, column and channel."""
    rows = images.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
    grid = torch.full((len(images), 2), SIDE // PATCH)
    mask = torch.ones(rows.shape[:2], dtype=torch.long)
    found: Tensor = model(pixel_values=rows, pixel_attention_mask=mask, spatial_shapes=grid).pooler_output
    return found


@dataclass(frozen=True)
class Theirs:
    """One of their models, and which of its features are ours.

    Attributes:
        model, config: Names of their classes.
        fields: Of the configuration.
        features: Of the vision model.
        vision: Where it is inside the model.
    """

    model: str
    config: str
    fields: Mapping[str, Any]
    features: Callable[[Any, Tensor], Tensor] = pooled
    vision: str = ""

    def made(self) -> Any:
        with torch.random.fork_rng(devices=[]):
            model = getattr(tf, self.model)(getattr(tf, self.config)(**self.fields))
        return randomise(model, seed=1).eval()


MLP = {**SQUARE, "intermediate_size": 44}
BOTH = {"text_config": TEXT, "vision_config": MLP}
MODELS = {
    "vit": Theirs("ViTModel", "ViTConfig", MLP, first_token),
    "vit, no bias": Theirs("ViTModel", "ViTConfig", {**MLP, "qkv_bias": False}, first_token),
    "vit, gelu of another kind": Theirs("ViTModel", "ViTConfig", {**MLP, "hidden_act": "gelu_new"}, first_token),
    "vit, large eps": Theirs("ViTModel", "ViTConfig", {**MLP, "layer_norm_eps": 0.1}, first_token),
    "vit, one channel": Theirs("ViTModel", "ViTConfig", {**MLP, "num_channels": 1}, first_token),
    "vit, a classifier": Theirs("ViTForImageClassification", "ViTConfig", MLP, first_token, "vit"),
    "dinov2": Theirs("Dinov2Model", "Dinov2Config", {**SQUARE, "mlp_ratio": 2}),
    "dinov2, gated": Theirs("Dinov2Model", "Dinov2Config", {**SQUARE, "use_swiglu_ffn": True}),
    "dinov2, a classifier": Theirs("Dinov2ForImageClassification", "Dinov2Config", SQUARE, pooled, "dinov2"),
    "dinov2 with registers": Theirs("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", SQUARE),
    "dinov2 with no register": Theirs(
        "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", {**SQUARE, "num_register_tokens": 0}
    ),
    "clip": Theirs("CLIPModel", "CLIPConfig", BOTH, pooled, "vision_model"),
    "clip's tower": Theirs("CLIPVisionModel", "CLIPVisionConfig", MLP),
    "clip's tower, gelu": Theirs("CLIPVisionModel", "CLIPVisionConfig", {**MLP, "hidden_act": "gelu"}),
    "siglip": Theirs("SiglipModel", "SiglipConfig", BOTH, pooled, "vision_model"),
    "siglip's tower": Theirs("SiglipVisionModel", "SiglipVisionConfig", MLP),
    "siglip's tower, no head": Theirs(
        "SiglipVisionModel", "SiglipVisionConfig", {**MLP, "vision_use_head": False}, averaged
    ),
    "siglip2": Theirs(
        "Siglip2VisionModel",
        "Siglip2VisionConfig",
        {**SIZES, "intermediate_size": 44, "num_patches": (SIDE // PATCH) ** 2},
        of_patches,
    ),
}


def written(model: Any, folder: Path, *, in_memory: bool) -> Path:
    """A folder as their library publishes a model, or with the names that its tensors have in memory."""
    model.save_pretrained(folder)
    if in_memory:
        state = {k: v.contiguous() for k, v in model.state_dict().items()}
        safetensors.torch.save_file(state, folder / "model.safetensors")
    return folder


def images_for(model: nn.Module, side: int = SIDE) -> Tensor:
    return torch.randn(2, model.in_chans, side, side, generator=torch.Generator().manual_seed(1))


def apart(ours: nn.Module, theirs: Theirs, model: Any) -> float:
    """Largest difference of features."""
    images = images_for(ours)
    with torch.no_grad():
        wanted = theirs.features(model.get_submodule(theirs.vision), images)
        assert wanted.std() > 0.1
        return float((ours(images) - wanted).abs().max())


@pytest.mark.parametrize("in_memory", [False, True], ids=["published", "in memory"])
@pytest.mark.parametrize("name", MODELS)
def test_features_are_theirs(name: str, in_memory: bool, tmp_path: Path) -> None:
    theirs = MODELS[name]
    model = theirs.made()
    folder = written(model, tmp_path / "m", in_memory=in_memory)
    assert apart(load_backbone(str(folder)), theirs, model) <= 1e-5


@pytest.mark.parametrize("name", [name for name in MODELS if "eps" not in name])
def test_timm_makes_the_same_of_what_json_holds(name: str, tmp_path: Path) -> None:
    """But for an eps, which JSON cannot hold; an export as a timm model says no more."""
    folder = written(MODELS[name].made(), tmp_path / "m", in_memory=False)
    ours, made = load_backbone(str(folder)), opened(parse_name(str(folder)))[0]
    plain = timm.create_model(made.architecture, num_classes=0, **json.loads(json.dumps(dict(made.args)))).eval()
    plain.load_state_dict(ours.state_dict())
    with torch.no_grad():
        assert (plain(images_for(ours)) - ours(images_for(ours))).abs().max() <= 1e-4


def test_what_is_published_has_other_names_than_what_is_in_memory(tmp_path: Path) -> None:
    """Else the test above would try one layout twice."""
    published = {}
    for name in ("vit", "dinov2, gated"):
        folder = written(MODELS[name].made(), tmp_path / name, in_memory=False)
        published[name] = safetensors.torch.load_file(folder / "model.safetensors")
    assert "encoder.layer.0.attention.attention.query.weight" in published["vit"]
    assert "encoder.layer.1.mlp.weights_in.bias" in published["dinov2, gated"]
    assert "layers.0.attention.q_proj.weight" in MODELS["vit"].made().state_dict()


@pytest.mark.parametrize("wrap", [lambda s: {"state_dict": {f"model.net.{k}": v for k, v in s.items()}, "epoch": 1}])
def test_their_names_may_stand_behind_others(wrap: Callable[[dict[str, Any]], Any], tmp_path: Path) -> None:
    theirs = MODELS["dinov2 with registers"]
    model = theirs.made()
    folder = written(model, tmp_path / "m", in_memory=False)
    torch.save(wrap(safetensors.torch.load_file(folder / "model.safetensors")), tmp_path / "run.pth")
    (folder / "model.safetensors").unlink()
    assert apart(load_backbone(str(folder), tmp_path / "run.pth"), theirs, model) <= 1e-5


def test_a_file_of_theirs_fits_a_model_of_timm(tmp_path: Path) -> None:
    """Beside a name of timm's: what no config says, such as an eps, is timm's then."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 192}
    fields = {**sizes, "image_size": 32, "patch_size": 16, "layer_norm_eps": 1e-6}
    theirs = Theirs("ViTModel", "ViTConfig", fields, first_token)
    model = theirs.made()
    file = written(model, tmp_path / "m", in_memory=False) / "model.safetensors"
    assert apart(load_backbone("test_vit", file, image_size=32), theirs, model) <= 1e-5
    assert load_digested("test_vit", file, 32)[1] == load_digested("test_vit", file, 64)[1]


def test_a_digest_is_of_the_vision_model_however_it_is_packed(tmp_path: Path) -> None:
    model = MODELS["clip"].made()
    whole = written(model, tmp_path / "whole", in_memory=False)
    alone = written(model.vision_model, tmp_path / "alone", in_memory=True)
    assert load_digested(str(whole))[1] == load_digested(str(alone))[1] == load_digested(str(whole), None, 48)[1]
    with torch.no_grad():
        model.vision_model.encoder.layers[1].self_attn.k_proj.bias[0] += 1e-3
    assert load_digested(str(written(model, tmp_path / "other", in_memory=False)))[1] != load_digested(str(whole))[1]


def test_averaging_models_leave_the_pooling_of_a_file_out(tmp_path: Path) -> None:
    folder = written(MODELS["siglip's tower"].made(), tmp_path / "m", in_memory=False)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vision_use_head": False}))
    assert load_backbone(str(folder)).global_pool == "avg"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    folder = written(MODELS["vit"].made(), tmp_path / "m", in_memory=False)
    state = safetensors.torch.load_file(folder / "model.safetensors")
    del state["encoder.layer.1.attention.output.dense.weight"]
    state["encoder.layer.1.attention.gate"] = torch.zeros(2)
    safetensors.torch.save_file(state, folder / "model.safetensors")
    with pytest.raises(BackboneError, match=r"blocks\.1\.attn\.proj\.weight missing; blocks\.1\.attention\.gate unexp"):
        load_backbone(str(folder))


# DINOv3, of another class of timm's


@pytest.mark.parametrize("gated", [False, True])
def test_dinov3_is_mapped_onto_timms_eva(gated: bool, tmp_path: Path) -> None:
    fields = {**MLP, "intermediate_size": 48, "num_register_tokens": 2, "use_gated_mlp": gated}
    fields["hidden_act"] = "silu" if gated else "gelu"
    theirs = Theirs("DINOv3ViTModel", "DINOv3ViTConfig", fields)
    model = theirs.made()
    folder = written(model, tmp_path / "m", in_memory=False)
    ours = opened(parse_name(str(folder)))[0].create().eval()
    for stored in (safetensors.torch.load_file(folder / "model.safetensors"), model.state_dict()):
        ours.load_state_dict(timm_names(stored, ours.state_dict()))
        assert apart(ours, theirs, model) <= 1e-5


# Images


def of_images(folder: Path, table: dict[str, Any]) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(table))
    return folder


def test_images_are_prepared_as_theirs(tmp_path: Path) -> None:
    folder = written(MODELS["vit"].made(), tmp_path / "m", in_memory=False)

    def read(**table: Any) -> tuple[Any, ...]:
        name = str(of_images(folder, table))
        found = preprocessing_of(load_backbone(name), name, crop=0)
        return found.mean, found.std, found.interpolation, found.crop, found.image_size

    own = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 3, "rescale_factor": 1 / 255}
    assert read(**own) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic", 1.0, SIDE)
    cropped = {"do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 256}}
    assert read(**own, **cropped)[3] == 0.875
    assert read(**own, **{**cropped, "do_center_crop": False})[3] == 1.0
    assert read(**own, do_center_crop=True, crop_size=224, size=248)[3] == 224 / 248
    assert read(image_processor=own)[0] == (0.1, 0.2, 0.3)
    assert read(do_normalize=False)[:3] == ((0.0,) * 3, (1.0,) * 3, "bilinear")
    with pytest.raises(UTuningError, match=r"its pixels are scaled by 1/255; got 0\.5"):
        read(rescale_factor=0.5)
    with pytest.raises(UTuningError, match="a number for each channel"):
        read(image_mean=[0.5])


def test_images_of_a_repository_are_prepared_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it has a preprocessor_config.json is asked: taking another's for it would be another model."""
    cache = Cache(tmp_path / "cache", monkeypatch)
    folder = written(MODELS["dinov2"].made(), cache.snapshot(COMMITS[0]), in_memory=False)
    cache.point(COMMITS[0])
    with pytest.raises(BackboneError, match=r"preprocessor_config\.json is in the cache"):
        load_backbone("hf-hub:me/small")
    none = folder.parents[1] / ".no_exist" / COMMITS[0] / "preprocessor_config.json"
    none.parent.mkdir(parents=True)
    none.touch()  # the hub has said so, and huggingface_hub remembers
    found = preprocessing_of(load_backbone("hf-hub:me/small"), "hf-hub:me/small", crop=0)
    assert (found.mean, found.crop) == ((0.485, 0.456, 0.406), 0.875)
    none.unlink()
    of_images(folder, {"image_mean": [0.1] * 3, "image_std": [0.2] * 3})
    assert preprocessing_of(load_backbone("hf-hub:me/small"), "hf-hub:me/small").mean == (0.1, 0.1, 0.1)
    assert hub.CONFIG == "config.json"


# What is refused


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_type": "vit_mae"}, "one that timm has a model for; got 'vit_mae'. Did you mean 'vit'"),
        ({"model_type": "beit"}, "one that timm has a model for; got 'beit'"),
        ({"model_type": "vit", "hidden_act": "mish"}, "its hidden_act is one that timm has; got 'mish'"),
        ({"model_type": "vit", "num_hidden_layers": 0}, "num_hidden_layers of its config.json is a number, 1 at least"),
        ({"model_type": "vit", "hidden_size": "wide"}, "hidden_size of its config.json is a number.* got 'wide'"),
        ({"model_type": "vit", "num_attention_heads": 7}, "a multiple of num_attention_heads; got 768 and 7"),
        ({"model_type": "vit", "patch_size": [16, 8]}, r"patch_size of its config.json is a number.* got \[16, 8\]"),
        ({"model_type": "vit", "layer_norm_eps": 2}, "layer_norm_eps is a small number; got 2"),
        ({"model_type": "dinov2", "mlp_ratio": -1}, "mlp_ratio is above 0; got -1"),
        ({"model_type": "dinov2", "num_register_tokens": -1}, "num_register_tokens of its .* 0 at least"),
        ({"model_type": "siglip2", "vision_config": {"num_patches": "all"}}, "num_patches of its config.json"),
        ({"model_type": "dinov3_vit", "key_bias": True}, "key_bias of a DINOv3 is False; got True"),
    ],
)
def test_a_config_that_timm_has_no_model_for_is_refused(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    """Before its weights are looked for: there are none."""
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(UTuningError, match=said) as refused:
        load_backbone(str(tmp_path))
    assert "\n" not in str(refused.value)


def test_defaults_are_those_of_their_classes() -> None:
    """A config.json leaves them out."""
    classes = {
        "vit": tf.ViTConfig,
        "dinov2": tf.Dinov2Config,
        "dinov2_with_registers": tf.Dinov2WithRegistersConfig,
        "dinov3_vit": tf.DINOv3ViTConfig,
        "clip_vision_model": tf.CLIPVisionConfig,
        "siglip_vision_model": tf.SiglipVisionConfig,
        "siglip2_vision_model": tf.Siglip2VisionConfig,
    }
    assert classes.keys() == KINDS.keys()
    for name, kind in KINDS.items():
        own = classes[name]()
        told = {k: v for k, v in kind.defaults.items() if hasattr(own, k)}
        assert told == {k: getattr(own, k) for k in told}, name
        assert len(told) >= 9
