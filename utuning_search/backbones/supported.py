"""Which timm models can carry tuners: asked before their weights are fetched, and what to take instead."""

import difflib
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import nn

from utuning_search.backbones.embedded.architecture import GLYPH_VIT
from utuning_search.backbones.names import HUB
from utuning_search.backbones.registry import adapter_of, defaults_of, supported
from utuning_search.common.errors import BackboneError, InputError, UTuningError

# Of timm, whose models are of our own families, nearly all.
MODULES: tuple[str, ...] = ("vision_transformer", "deit", "eva", "beit", "swin_transformer", "swin_transformer_v2")
MODULES += ("convnext", "metaformer", "xcit", "qwen3_vit", "naflexvit", "swin_transformer_v2_cr", "hiera", "mvitv2")
MODULES += ("vision_transformer_relpos",)
SHOWN, LOOKED_AT = 3, 8


def check_supported(name: str, image_size: int | None) -> dict[str, Any]:
    """Refuse a timm model of no family, or of a size that it cannot have, before its weights are fetched.

    Args:
        name: Of the model.
        image_size: Pixels; None takes its own.

    Returns:
        What timm is told besides: its size, and what a family wants otherwise than timm's defaults; may be empty.

    Raises:
        InputError: No such model, or its image size does not fall into patches.
        BackboneError: Of no family that can carry tuners.
    """
    if not timm.is_model(name):
        rule = f"name is a timm model, glyph_vit, {HUB}:USER/MODEL or a folder"
        raise InputError("backbone", rule, f"'{name}'", _advice(name))

    def create(**size: Any) -> nn.Module:
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **size)
        return model

    return check_carries(name, name, create, image_size)


def check_carries(
    name: str, architecture: str, create: Callable[..., nn.Module], image_size: int | None
) -> dict[str, Any]:
    """Refuse a model of no family, or of a size that it cannot have; it is made without memory for its tensors.

    Args:
        name: Of the backbone, for errors.
        architecture: timm's name for it, for advice.
        create: Makes it, given what timm is told of its size.
        image_size: Pixels; None takes its own.

    Returns:
        What timm is told besides: its size, and what a family wants otherwise than timm's defaults; may be empty.

    Raises:
        InputError: It cannot be made with these arguments, or its image size does not fall into patches.
        BackboneError: Of no family that can carry tuners.
    """
    where = f"backbone '{name}'"
    told: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
    try:
        try:
            model = _empty(create, told)
        except RuntimeError:  # it cannot be built without memory, or has no such weights: building it in earnest tells
            return told
        except TypeError as error:  # the architecture does not know img_size, or what a config.json says
            model = _without_size(create, where)
            if image_size is None or not adapter_of(model, name).any_size:
                raise BackboneError(where, "image_size can be set", error, "Leave image_size out.") from None
        if others := defaults_of(model):
            told |= others
            model = _empty(create, told)
        adapter = adapter_of(model, name)
        if adapter.any_size and image_size is not None:  # its size is what its configuration says
            del told["img_size"]
            told["pretrained_cfg_overlay"] = {"input_size": (adapter.channels, image_size, image_size)}
            adapter = adapter_of(_empty(create, told), name)
        adapter.check_image_size(where)
        if image_size not in (None, adapter.image_size):  # timm has rounded it to whole patches
            raise InputError(
                where, "image_size is a whole number of patches", image_size, f"Take {adapter.image_size}."
            )
        return told
    except BackboneError as error:
        if error.rule != supported():
            raise
        raise BackboneError(error.where, error.rule, error.got, _advice(architecture)) from None


def _without_size(create: Callable[..., nn.Module], where: str) -> nn.Module:
    """The model at its own size.

    Raises:
        InputError: It has other arguments that its class does not know.
    """
    try:
        return _empty(create, {})
    except TypeError as error:
        said = str(error).splitlines()[0]
        raise InputError(where, "timm's model knows the model_args of its config.json", said) from None


def _empty(create: Callable[..., nn.Module], size: dict[str, Any]) -> nn.Module:
    """A model whose tensors have shapes only: it takes neither memory nor time."""
    with torch.device("meta"):
        return create(**size)


def _advice(name: str) -> str:
    """Names that are like one, of models that can carry tuners."""
    known = [GLYPH_VIT, *(n for module in MODULES for n in timm.list_models(module=module))]
    alike = [n for n in difflib.get_close_matches(name, known, n=LOOKED_AT, cutoff=0.5) if _carries(n)][:SHOWN]
    first = f"Did you mean '{alike[0]}'? " if alike else ""
    similar = f"Similar: {', '.join(alike[1:])}. " if alike[1:] else ""
    return f"{first}{similar}List others: timm.list_models(module='{MODULES[0]}')."


def _carries(name: str) -> bool:
    try:
        if name != GLYPH_VIT:
            with torch.device("meta"):
                adapter_of(timm.create_model(name, pretrained=False, num_classes=0), name)
    except (UTuningError, RuntimeError, TypeError):
        return False
    return True
