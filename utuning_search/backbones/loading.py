"""A frozen backbone by its name: timm's or the bundled one, with weights, and how its images are prepared."""

from pathlib import Path
from typing import Any, TypeVar

import timm
from timm.data import resolve_model_data_config
from torch import nn

from utuning_search.backbones.checkpoint import load_checkpoint
from utuning_search.backbones.embedded.architecture import WEIGHTS, glyph_vit
from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.registry import SUPPORTED, adapter_of
from utuning_search.common.errors import BackboneError, InputError, nearest

GLYPH_VIT = "glyph_vit"
M = TypeVar("M", bound=nn.Module)


def load_backbone(name: str, checkpoint: Path | None = None, image_size: int | None = None) -> nn.Module:
    """A frozen backbone without head, in evaluation mode, in fp32 on the CPU.

    Args:
        name: `glyph_vit` (bundled), or a timm model of a family in `registry.FAMILIES`.
        checkpoint: A local .safetensors, .pth / .pt or .npz file with timm's names; None asks timm for its
            pretrained weights. Position embeddings are resampled to `image_size`; a head in it is dropped.
        image_size: Pixels; None takes the model's own.

    Raises:
        InputError: No such model or file.
        BackboneError: Of no family that can carry tuners, or the checkpoint does not fit (names the tensors).
    """
    where = f"backbone '{name}'"
    if name == GLYPH_VIT:
        if image_size not in (None, 8):
            raise InputError(where, "image_size is 8", image_size, "Leave image_size out.")
        model: nn.Module = glyph_vit()
        load_checkpoint(adapter_of(model, name), checkpoint or WEIGHTS)
    elif not timm.is_model(name):
        known = (GLYPH_VIT, *timm.list_models("*vit*"))
        advice = nearest(name, known).split(" Known")[0]
        raise InputError("backbone", "name is a timm model or glyph_vit", f"'{name}'", advice)
    else:
        size: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
        try:
            model = timm.create_model(name, pretrained=checkpoint is None, num_classes=0, **size)
        except TypeError as error:  # the architecture does not know img_size
            raise BackboneError(where, SUPPORTED, error) from None
        except (RuntimeError, OSError) as error:
            todo = "Give a local file as checkpoint, or check the network."
            raise BackboneError(where, "its pretrained weights can be fetched", error, todo) from None
        adapter = adapter_of(model, name)
        adapter.check_image_size(where)
        if checkpoint is not None:
            load_checkpoint(adapter, checkpoint)
    return freeze(model)


def freeze(model: M) -> M:
    """The same model in evaluation mode, none of its parameters trainable; an error if it cannot carry tuners."""
    adapter_of(model)
    return model.eval().requires_grad_(False)


def preprocessing_of(model: nn.Module, name: str) -> Preprocessing:
    """Size, channels and normalisation from the model's own timm configuration."""
    if name == GLYPH_VIT:
        return Preprocessing(8, 1, (0.5,), (0.5,), "bilinear")
    adapter, config = adapter_of(model, name), resolve_model_data_config(model)
    return Preprocessing(
        image_size=adapter.image_size,
        channels=adapter.channels,
        mean=tuple(config["mean"])[: adapter.channels],
        std=tuple(config["std"])[: adapter.channels],
        interpolation=config["interpolation"],
    )
