"""Local files of a backbone's weights: read, fitted to its architecture, refused by name where they do not fit."""

import hashlib
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from utuning_search.backbones.family import BackboneAdapter
from utuning_search.backbones.numbers import check_numbers
from utuning_search.backbones.prefixes import without_prefix
from utuning_search.backbones.transformers_names import timm_names
from utuning_search.common.errors import BackboneError, InputError

SHOWN = 3  # tensors of each kind that an error names


def load_checkpoint(adapter: BackboneAdapter, path: Path) -> dict[str, Tensor]:
    """Put a file's weights into the adapter's model, which has no head; a head in the file is dropped.

    Args:
        adapter: Of a model on the CPU.
        path: .safetensors, .npz, or else a file that torch saved.

    Returns:
        What the file holds but the head, in fp32: before anything is resampled to the model's image size, which
        another machine may round differently.

    Raises:
        InputError: No such file, or it cannot be read.
        BackboneError: Its tensors are not those of the model, or no finite floats.
    """
    where = f"checkpoint {path}"
    if not path.is_file():
        raise InputError(where, "the file exists", "no such file")
    try:
        read, state = _read(adapter, path)
    except Exception as error:
        todo = "Only .safetensors, Google's .npz and .pth files of plain tensors are read."
        # torch's message on pickles that run code advises to run it; ours does not.
        said = "" if isinstance(error, pickle.UnpicklingError) or not str(error) else f": {str(error).splitlines()[0]}"
        raise InputError(where, "the file is readable", type(error).__name__ + said, todo) from None
    check_numbers(adapter.model, state, path)
    _fit(adapter, state, where)
    return read


def _fit(adapter: BackboneAdapter, state: Mapping[str, Tensor], where: str) -> None:
    """Put named tensors, fp32 and without a head, into the adapter's model.

    Raises:
        BackboneError: From `where`: they are not those of the model; names what is missing as well as what is not its.
    """
    own = adapter.model.state_dict()
    wrong = [
        *_named((k for k in own.keys() - state.keys()), "missing"),
        *_named((k for k in state.keys() - own.keys()), "unexpected"),
        *_named(
            (
                f"{k} is {tuple(state[k].shape)}, not {tuple(own[k].shape)}"
                for k in own.keys() & state.keys()
                if state[k].shape != own[k].shape
            ),
            "",
        ),
    ]
    if wrong:
        raise BackboneError(where, f"its tensors fit {type(adapter.model).__name__} exactly", "; ".join(wrong))
    adapter.model.load_state_dict(dict(state))


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """Twelve hexadecimal digits of named tensors: of their names and bytes."""
    content = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        content.update(name.encode())
        content.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()[:12]


def without_head(adapter: BackboneAdapter, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Named tensors but those of the head; floating ones in fp32."""
    kept = {k: v for k, v in tensors.items() if not k.startswith(adapter.head)}
    return {k: v.float() if v.is_floating_point() else v for k, v in kept.items()}


def _read(adapter: BackboneAdapter, path: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A checkpoint's tensors as they are in it, and under the model's names and at its image size.

    Both in fp32, without a head.
    """
    if path.suffix == ".npz":
        state = adapter.read_npz(path)
        with np.load(path, allow_pickle=False) as arrays:
            numbers = {name: array for name in arrays.files if (array := arrays[name]).dtype.kind in "fiu"}
        return {name: torch.from_numpy(array) for name, array in numbers.items()}, state
    if path.suffix == ".safetensors":
        stored = safetensors.torch.load_file(path)
    else:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(stored, dict):
        raise TypeError(f"a {type(stored).__name__} instead of named tensors")
    own = adapter.model.state_dict()
    named = timm_names(without_prefix(stored, own), own)
    tensors = adapter.renamed(named)
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"'{name}' is a {type(tensor).__name__}, not a tensor")
    return without_head(adapter, dict(_tensors_in(named))), without_head(adapter, tensors)


def _tensors_in(table: Mapping[Any, Any], above: str = "") -> Iterable[tuple[str, Tensor]]:
    """Named tensors of nested tables, with dots between the names of tables."""
    for name, value in table.items():
        if isinstance(value, Tensor):
            yield f"{above}{name}", value
        elif isinstance(value, Mapping):
            yield from _tensors_in(value, f"{above}{name}.")


def _named(names: Iterable[str], what: str) -> list[str]:
    """Some of many, each with what is wrong with it."""
    known = sorted(names)
    said = [f"{name} {what}".strip() for name in known[:SHOWN]]
    return said + ([f"and {len(known) - SHOWN} more {what}".strip()] if len(known) > SHOWN else [])
