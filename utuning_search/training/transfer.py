"""Move data to a device, once."""

import torch
from torch import Tensor

PINNED = 256 << 20  # bytes moved at a time: pinned memory is kept by torch, and cannot be swapped out


def to_device(data: Tensor, device: str) -> Tensor:
    """The same on a device; onto a GPU through pinned memory, without waiting for it."""
    if not device.startswith("cuda") or data.is_cuda:
        return data.to(device)
    return _through_pinned(data, device)


def _through_pinned(data: Tensor, device: str) -> Tensor:
    moved = torch.empty(data.shape, dtype=data.dtype, device=device)
    rows = max(1, PINNED * len(data) // max(data.nbytes, 1))
    for there, here in zip(moved.split(rows), data.split(rows), strict=True):
        there.copy_(here.pin_memory(), non_blocking=True)
    return moved
