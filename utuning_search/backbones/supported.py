"""Which timm models can carry tuners: asked before their weights are fetched, and what to take instead."""

import difflib
from typing import Any

import timm
import torch
from torch import nn

from utuning_search.backbones.embedded.architecture import GLYPH_VIT
from utuning_search.backbones.registry import adapter_of, supported
from utuning_search.common.errors import BackboneError, InputError, UTuningError

MODULES = ("vision_transformer", "deit", "eva", "beit")  # of timm, whose models are of our own families, nearly all
SHOWN, LOOKED_AT = 3, 8


def check_supported(name: str, size: dict[str, Any]) -> None:
    """Refuse a timm model of no family, or of a size that it cannot have, before its weights are fetched.

    Args:
        name: Of the model.
        size: What timm is told of its size; may be empty.

    Raises:
        InputError: No such model, or its image size does not fall into patches.
        BackboneError: Of no family that can carry tuners.
    """
    if not timm.is_model(name):
        raise InputError("backbone", "name is a timm model or glyph_vit", f"'{name}'", _advice(name))
    where = f"backbone '{name}'"
    try:
        try:
            model = _empty(name, **size)
        except RuntimeError:  # it cannot be built without memory, or has no such weights: building it in earnest tells
            return
        except TypeError as error:  # the architecture does not know img_size
            adapter_of(_empty(name), name)
            raise BackboneError(where, "image_size can be set", error, "Leave image_size out.") from None
        adapter_of(model, name).check_image_size(where)
    except BackboneError as error:
        if error.rule != supported():
            raise
        raise BackboneError(error.where, error.rule, error.got, _advice(name)) from None


def _empty(name: str, **size: Any) -> nn.Module:
    """A timm model whose tensors have shapes only: it takes neither memory nor time."""
    with torch.device("meta"):
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **size)
    return model


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
            adapter_of(_empty(name), name)
    except (UTuningError, RuntimeError, TypeError):
        return False
    return True
