"""A frozen backbone by its name, with weights, and how its images are prepared.

The name is timm's, the bundled one's, or that of a hub's repository or a folder; see `names.py`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import timm
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from utuning_search.backbones.checkpoint import load_checkpoint, weights_digest, without_head
from utuning_search.backbones.embedded.architecture import GLYPH_VIT, WEIGHTS, glyph_vit
from utuning_search.backbones.names import parse_name
from utuning_search.backbones.opened import opened
from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.spec import WHOLE
from utuning_search.backbones.supported import check_carries, check_supported
from utuning_search.common.errors import BackboneError, InputError

__all__ = ["GLYPH_VIT", "freeze", "load_backbone", "load_digested", "preprocessing_of", "without_weights"]

M = TypeVar("M", bound=nn.Module)


def load_backbone(name: str, checkpoint: Path | None = None, image_size: int | None = None) -> nn.Module:
    """A frozen backbone without head, in evaluation mode, in fp32 on the CPU.

    Args:
        name: `glyph_vit` (bundled), a timm model of a family in `registry.FAMILIES`, `hf-hub:USER/MODEL` or
            `hf-hub:USER/MODEL@REVISION`, `local-dir:PATH` or the path of a folder; of the last three config.json says
            which timm model it is.
        checkpoint: A local .safetensors, .pth / .pt or .npz file with timm's names; None takes those of the repository
            or folder, and for others asks timm. Position embeddings are resampled to `image_size`; a head in it is
            dropped.
        image_size: Pixels; None takes the model's own.

    Raises:
        InputError: No such model, repository, folder or file.
        BackboneError: It can be neither fetched nor found in a cache; it is of no family that can carry tuners, which
            is found out before weights are fetched; or the checkpoint does not fit (names the tensors).
    """
    return _load(name, checkpoint, image_size)[0]


def load_digested(name: str, checkpoint: Path | None = None, image_size: int | None = None) -> tuple[nn.Module, str]:
    """As `load_backbone`, with the digest of the weights as they were read: before anything was resampled.

    What is resampled differs in its last bits from machine to machine.
    """
    model, read = _load(name, checkpoint, image_size)
    if checkpoint is None and name != GLYPH_VIT and image_size is not None and not parse_name(name).source:
        # timm tells nobody what it read before it resampled
        plain = _fetched(name, **check_supported(name, None))
        read = without_head(adapter_of(plain, name), plain.state_dict())
    return model, weights_digest(read)


def without_weights(name: str, image_size: int | None = None) -> nn.Module:
    """A backbone as `load_backbone` makes it, checked, but with nothing in its tensors; weights are not fetched.

    Raises:
        InputError, BackboneError: As `load_backbone`, but for weights.
    """
    create, _, _ = _maker(name, image_size)
    try:
        with torch.device("meta"):
            return create()
    except RuntimeError:  # it cannot be built without memory
        with torch.random.fork_rng(devices=[]):
            return _made(create, name)


def _made(create: Callable[[], nn.Module], name: str) -> nn.Module:
    """The model; an error in one line where timm has no such weights, which it says of a model without any too."""
    try:
        return create()
    except RuntimeError as error:
        raise BackboneError(f"backbone '{name}'", "timm can make it", str(error).splitlines()[0]) from None


def _maker(
    name: str, image_size: int | None
) -> tuple[Callable[[], nn.Module], Callable[[], Path | None], dict[str, Any]]:
    """How a backbone without weights is made, once it was found to carry tuners; how the file with its own is had,
    which is None where timm fetches them; and what timm is told of its size.
    """
    if name == GLYPH_VIT:
        if image_size not in (None, 8):
            raise InputError(f"backbone '{name}'", "image_size is 8", image_size, "Leave image_size out.")
        return glyph_vit, lambda: WEIGHTS, {}
    named = parse_name(name)
    if named.source:
        made, fetched = opened(named)
        size = check_carries(name, made.architecture, made.create, image_size)
        return lambda: made.create(**size), fetched, size
    size = check_supported(name, image_size)
    return lambda: timm.create_model(name, pretrained=False, num_classes=0, **size), lambda: None, size


def _load(name: str, checkpoint: Path | None, image_size: int | None) -> tuple[nn.Module, dict[str, Tensor]]:
    """A frozen backbone, and what was read; of timm's pretrained weights it is what became of them."""
    create, fetched, size = _maker(name, image_size)
    weights = checkpoint or fetched()
    if weights is not None:
        model = _made(create, name)
        return freeze(model), load_checkpoint(adapter_of(model, name), weights)
    model = _fetched(name, **size)
    return freeze(model), without_head(adapter_of(model, name), model.state_dict())


def _fetched(name: str, **size: Any) -> nn.Module:
    """A timm model with its pretrained weights, from the cache or the network."""
    try:
        model: nn.Module = timm.create_model(name, pretrained=True, num_classes=0, **size)
    except (RuntimeError, OSError) as error:
        todo = "Give a local file as checkpoint, or check the network."
        raise BackboneError(f"backbone '{name}'", "its pretrained weights can be fetched", error, todo) from None
    return model


def freeze(model: M) -> M:
    """The same model in evaluation mode, none of its parameters trainable; an error if it cannot carry tuners."""
    adapter_of(model)
    return model.eval().requires_grad_(False)


def preprocessing_of(model: nn.Module, name: str, crop: float = WHOLE) -> Preprocessing:
    """Size, channels and normalisation from the model's own timm configuration.

    Args:
        model: A backbone.
        name: Of it.
        crop: Share that a centre crop keeps; 0 takes the configuration's `crop_pct`. See `BackboneSpec`.
    """
    if name == GLYPH_VIT:
        return Preprocessing(8, 1, (0.5,), (0.5,), "bilinear", crop or WHOLE)
    adapter, config = adapter_of(model, name), resolve_model_data_config(model)
    return Preprocessing(
        image_size=adapter.image_size,
        channels=adapter.channels,
        mean=tuple(config["mean"])[: adapter.channels],
        std=tuple(config["std"])[: adapter.channels],
        interpolation=config["interpolation"],
        crop=crop or config["crop_pct"],
    )
