"""What the config.json of a Hugging Face transformers model says, as arguments of timm's model of the same mathematics.

Fields and their defaults are those of transformers' configuration classes (`ViTConfig`, `Dinov2Config`, ...), which
leave out of the file what is the default of older versions too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from timm.data.constants import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_INCEPTION_MEAN,
    IMAGENET_INCEPTION_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)
from timm.layers import LayerNorm

from utuning_search.backbones.configured import Configured
from utuning_search.common.errors import BackboneError, InputError, nearest

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
PLAIN, EPS, SWIGLU = "vit_base_patch16_224", "vit_base_patch16_clip_224", "vit_giant_patch14_dinov2"
DINOV3, GATED_DINOV3 = "vit_small_patch16_dinov3_qkvb", "vit_small_plus_patch16_dinov3_qkvb"
LARGE_EPS = 1e-5  # of the LayerNorms of EPS; those of PLAIN have 1e-6
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
FILTERS = {0: "nearest", 1: "bicubic", 2: "bilinear", 3: "bicubic"}  # Pillow's numbers; Lanczos's is near to bicubic
TOWERS = ("clip", "siglip", "siglip2")  # whose config.json has the vision tower's in a table of its own


@dataclass(frozen=True)
class Kind:
    """One `model_type`.

    Attributes:
        defaults: Of the fields that are read.
        own: Arguments of timm's model that no field decides.
        mean, std, interpolation, crop: Of its images, where no preprocessor_config.json says so.
    """

    defaults: Mapping[str, Any]
    own: Mapping[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    crop: float = 1.0


BASE: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
}
LINEAR = {**BASE, "intermediate_size": 3072}
DINO = {**BASE, "mlp_ratio": 4, "use_swiglu_ffn": False, "num_register_tokens": 0}
TOWER = {**LINEAR, "hidden_act": "gelu_pytorch_tanh", "vision_use_head": True}
SCALED = {"init_values": 1e-5}  # layer scale; its values are in the weights
POOLED = {"class_token": False, "global_pool": "map"}
IMAGENET, INCEPTION = (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD), (IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD)
V3 = {
    "hidden_size": 384,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
    "layer_norm_eps": 1e-5,
    "num_register_tokens": 0,
    "rope_theta": 100.0,
    "query_bias": True,
    "key_bias": False,
    "value_bias": True,
    "proj_bias": True,
    "mlp_bias": True,
    "use_gated_mlp": False,
}
KINDS: dict[str, Kind] = {
    "vit": Kind({**LINEAR, "layer_norm_eps": 1e-12}, {}, *INCEPTION, "bilinear"),
    "dinov2": Kind({**DINO, "patch_size": 14}, SCALED, *IMAGENET, crop=0.875),
    "dinov2_with_registers": Kind(
        {**DINO, "num_register_tokens": 4}, {**SCALED, "no_embed_class": True}, *IMAGENET, crop=0.875
    ),
    "dinov3_vit": Kind({**BASE, **V3}, {**SCALED, "global_pool": "token"}, *IMAGENET),
    "clip_vision_model": Kind(
        {**LINEAR, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
        {"pre_norm": True},
        OPENAI_CLIP_MEAN,
        OPENAI_CLIP_STD,
    ),
    "siglip_vision_model": Kind(TOWER, POOLED, *INCEPTION),
    "siglip2_vision_model": Kind({**TOWER, "num_patches": 256}, POOLED, *INCEPTION),
}


def read_transformers(table: Mapping[str, Any], images: Mapping[str, Any], where: str) -> Configured:
    """The timm model that a config.json of transformers describes.

    Args:
        table: Of config.json.
        images: Of preprocessor_config.json; empty where there is none.
        where: What the user called it, for errors.

    Raises:
        InputError: A field has a value that it cannot have.
        BackboneError: Of a kind, or with parts, that timm has no model for.
    """
    name = str(table.get("model_type"))
    if name in TOWERS:
        inner = table.get("vision_config", {})
        table, name = inner if isinstance(inner, dict) else {}, f"{name}_vision_model"
    kind = KINDS.get(name)
    if kind is None:
        known = (*(k for k in KINDS if not k.endswith("_vision_model")), *TOWERS)
        raise BackboneError(where, "its model_type is one that timm has a model for", f"'{name}'", nearest(name, known))
    fields = {key: table.get(key, default) for key, default in kind.defaults.items()}
    fields = {key: kind.defaults[key] if value is None else value for key, value in fields.items()}
    if "num_patches" in fields:  # of an image of any shape; ours are square
        grid = math.isqrt(_count(fields["num_patches"], "num_patches", where))
        fields["image_size"] = _side(fields["patch_size"], "patch_size", where) * grid
    args, eps = _arguments(fields, kind, where)
    architecture = _architecture(name, fields, eps)
    config = _preprocessing(images, kind, args, where)
    created = {
        "model_name": architecture,
        "pretrained_cfg": {**config, "architecture": architecture},
        "norm_layer": partial(LayerNorm, eps=eps),
        **args,
    }
    return Configured(where, architecture, args, WEIGHTS, created)


def _architecture(name: str, fields: Mapping[str, Any], eps: float) -> str:
    """timm's model that differs by what JSON can hold, but for the last digits of an eps."""
    if name == "dinov3_vit":
        return GATED_DINOV3 if fields["use_gated_mlp"] else DINOV3
    if fields.get("use_swiglu_ffn"):
        return SWIGLU
    return EPS if eps >= LARGE_EPS else PLAIN


def _arguments(fields: Mapping[str, Any], kind: Kind, where: str) -> tuple[dict[str, Any], float]:
    """Of timm's model, as JSON holds them, and the eps of its LayerNorms."""
    numbers = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_channels")
    width, depth, heads, channels = (_count(fields[key], key, where) for key in numbers)
    if width % heads:
        raise InputError(where, "hidden_size is a multiple of num_attention_heads", f"{width} and {heads}")
    eps = fields["layer_norm_eps"]
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise InputError(where, "layer_norm_eps is a small number", repr(eps))
    act = ACTIVATIONS.get(str(fields["hidden_act"]))
    if act is None:
        known = nearest(fields["hidden_act"], ACTIVATIONS)
        raise BackboneError(where, "its hidden_act is one that timm has", repr(fields["hidden_act"]), known)
    swiglu, v3 = bool(fields.get("use_swiglu_ffn")), "rope_theta" in fields
    args: dict[str, Any] = {
        "img_size": _side(fields["image_size"], "image_size", where),
        "patch_size": _side(fields["patch_size"], "patch_size", where),
        "in_chans": channels,
        "embed_dim": width,
        "depth": depth,
        "num_heads": heads,
        "mlp_ratio": _ratio(_hidden(fields, width, swiglu, where), width),
        "qkv_bias": bool(fields["qkv_bias"]),
        "init_values": None,
        **kind.own,
    }
    if not fields.get("vision_use_head", True):
        args |= {"global_pool": "avg", "fc_norm": False}
    registers = _count(fields.get("num_register_tokens", 0), "num_register_tokens", where, least=0)
    if v3:
        _check_dinov3(fields, where)
        return {**args, "num_reg_tokens": registers, "rope_temperature": fields["rope_theta"]}, eps
    return {"pre_norm": False, **args, "act_layer": "silu" if swiglu else act, "reg_tokens": registers}, eps


def _check_dinov3(fields: Mapping[str, Any], where: str) -> None:
    """Refuse what timm's Eva has no argument for."""
    wanted = {key: V3[key] for key in ("query_bias", "key_bias", "value_bias", "proj_bias", "mlp_bias")}
    act = "silu" if fields["use_gated_mlp"] else "gelu"
    for key, value in {**wanted, "hidden_act": act}.items():
        if fields[key] != value:
            raise BackboneError(where, f"{key} of a DINOv3 is {value}", fields[key])


def _hidden(fields: Mapping[str, Any], width: int, swiglu: bool, where: str) -> int:
    """Outputs of an MLP's first linear map, both halves of a gated one."""
    if "mlp_ratio" not in fields:
        return _count(fields["intermediate_size"], "intermediate_size", where)
    ratio = fields["mlp_ratio"]
    if not isinstance(ratio, int | float) or not ratio > 0:
        raise InputError(where, "mlp_ratio is above 0", repr(ratio))
    hidden = int(width * ratio)
    return 2 * ((int(hidden * 2 / 3) + 7) // 8 * 8) if swiglu else hidden  # as transformers rounds it


def _ratio(hidden: int, width: int) -> float:
    """A ratio of which timm, which rounds down, makes that many outputs."""
    return hidden / width if int(width * (hidden / width)) == hidden else (hidden + 0.5) / width


def _preprocessing(images: Mapping[str, Any], kind: Kind, args: Mapping[str, Any], where: str) -> dict[str, Any]:
    """timm's own configuration of a model: size, normalisation, interpolation and crop."""
    inner = images.get("image_processor", images)
    images = inner if isinstance(inner, dict) else {}
    channels, size = args["in_chans"], args["img_size"]
    plain = images.get("do_normalize") is False
    mean = [0.0] * channels if plain else images.get("image_mean") or list(kind.mean[:channels])
    std = [1.0] * channels if plain else images.get("image_std") or list(kind.std[:channels])
    numbers = [*mean, *std] if isinstance(mean, list) and isinstance(std, list) else []
    if len(numbers) != 2 * channels or not all(isinstance(n, int | float) for n in numbers) or not all(std):
        raise InputError(where, "image_mean and image_std have a number for each channel", f"{mean} and {std}")
    factor = images.get("rescale_factor", 1 / 255)
    if images.get("do_rescale") is False or not math.isclose(factor, 1 / 255, rel_tol=1e-3):
        raise BackboneError(where, "its pixels are scaled by 1/255", factor)
    return {
        "input_size": (channels, size, size),
        "fixed_input_size": True,
        "num_classes": 0,
        "mean": tuple(mean),
        "std": tuple(std),
        "interpolation": FILTERS.get(images.get("resample", -1), kind.interpolation),
        "crop_pct": _crop(images, kind),
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    }


def _crop(images: Mapping[str, Any], kind: Kind) -> float:
    """Share of the shorter side that a centre crop keeps."""
    if not images:
        return kind.crop
    cropped, resized = _shorter(images.get("crop_size")), _shorter(images.get("size"))
    if images.get("do_center_crop") and cropped and resized:
        return min(cropped / resized, 1.0)
    return 1.0


def _shorter(size: object) -> int:
    """The shorter side of what a preprocessor calls a size; 0 for none."""
    if isinstance(size, Mapping):
        size = size.get("shortest_edge") or size.get("height")
    return size if isinstance(size, int) and size > 0 else 0


def _side(value: object, name: str, where: str) -> int:
    """The side of a square, which may be written twice."""
    if isinstance(value, list) and value and all(v == value[0] for v in value):
        value = value[0]
    return _count(value, name, where)


def _count(value: object, name: str, where: str, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(where, f"{name} of its config.json is a number, {least} at least", repr(value))
    return value
