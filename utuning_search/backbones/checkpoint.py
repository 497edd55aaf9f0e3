"""Local files of a backbone's weights: read, fitted to its architecture, refused by name where they do not fit."""

import pickle
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from utuning_search.backbones.family import BackboneAdapter
from utuning_search.backbones.numbers import check_numbers
from utuning_search.common.errors import BackboneError, InputError


def load_checkpoint(adapter: BackboneAdapter, path: Path) -> None:
    """Put a file's weights into the adapter's model, which has no head; a head in the file is dropped.

    Args:
        adapter: Of a model on the CPU.
        path: .safetensors, .npz, or else a file that torch saved.

    Raises:
        InputError: No such file, or it cannot be read.
        BackboneError: Its tensors are not those of the model, or no finite floats.
    """
    where = f"checkpoint {path}"
    if not path.is_file():
        raise InputError(where, "the file exists", "no such file")
    try:
        state = _read(adapter, path)
    except Exception as error:
        todo = "Only .safetensors, Google's .npz and .pth files of plain tensors are read."
        # torch's message on pickles that run code advises to run it; ours does not.
        said = "" if isinstance(error, pickle.UnpicklingError) or not str(error) else f": {str(error).splitlines()[0]}"
        raise InputError(where, "the file is readable", type(error).__name__ + said, todo) from None
    check_numbers(adapter.model, state, path)
    own = adapter.model.state_dict()
    wrong = [f"{k} missing" for k in own.keys() - state.keys()]
    wrong += [f"{k} unexpected" for k in state.keys() - own.keys()]
    wrong += [
        f"{k} is {tuple(state[k].shape)}, not {tuple(own[k].shape)}"
        for k in own.keys() & state.keys()
        if state[k].shape != own[k].shape
    ]
    if wrong:
        listed = "; ".join(sorted(wrong)[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise BackboneError(where, f"its tensors fit {type(adapter.model).__name__} exactly", listed)
    adapter.model.load_state_dict(state)


def _read(adapter: BackboneAdapter, path: Path) -> dict[str, Tensor]:
    """A checkpoint's tensors in fp32 under the model's names and at its image size, head left out."""
    if path.suffix == ".npz":
        return adapter.read_npz(path)
    if path.suffix == ".safetensors":
        state = safetensors.torch.load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise TypeError(f"a {type(state).__name__} instead of named tensors")
    tensors = adapter.renamed(state)
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"'{name}' is a {type(tensor).__name__}, not a tensor")
    floats = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    return {k: v for k, v in floats.items() if not k.startswith(adapter.head)}
