"""Numbers of a checkpoint that no network computes with: integers, complex ones, and such as are not finite.

A quantised file has tensors of the right names and shapes. Cast to floats without a word it would make a
backbone of nonsense, and every design on it would seem bad.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from utuning_search.common.errors import BackboneError

SHOWN = 5  # tensors that an error names


def check_numbers(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors by name that are no finite floats where the model has floats.

    Args:
        model: That they are for; stays as it is.
        state: Tensors under the model's names.
        path: The file that they come from; arrays of a .npz are judged as they are in it.

    Raises:
        BackboneError: Names tensors, and what is wrong with each.
    """
    own = model.state_dict()
    wrong = list(_wrong_arrays(path)) if path.suffix == ".npz" else []
    wrong += [f"{k} {said}" for k in sorted(own.keys() & state.keys()) if (said := _wrong(state[k], own[k]))]
    if wrong:
        listed = "; ".join(wrong[:SHOWN]) + (f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else "")
        todo = "Save the file again, as fp32, fp16 or bf16."
        raise BackboneError(f"checkpoint {path}", "its tensors are finite floats", listed, todo)


def _wrong(tensor: Tensor, own: Tensor) -> str:
    """What is wrong with a tensor, or nothing."""
    if not own.is_floating_point():
        return ""
    if tensor.layout != torch.strided or tensor.is_quantized or not tensor.is_floating_point():
        return f"is {str(tensor.dtype).removeprefix('torch.')}"
    finite = int(tensor.isfinite().sum())
    return f"has {tensor.numel() - finite:,} values that are not finite" if finite < tensor.numel() else ""


def _wrong_arrays(path: Path) -> Iterator[str]:
    """Arrays that a reader would cast to floats without a word. Steps are counted in scalars, and heads are dropped."""
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            array = arrays[name]
            if array.ndim and array.dtype.kind in "biuc" and "head/" not in name:
                yield f"{name} is {array.dtype}"
