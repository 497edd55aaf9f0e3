"""Memory of a device: do work in smaller pieces where it runs out, and move data there once."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
PINNED = 256 << 20  # bytes moved at a time: pinned memory is kept by torch, and cannot be swapped out


def halve_to_fit(work: Callable[[int], T], size: int, device: torch.device) -> tuple[T, int]:
    """Call `work(size)`, and again with half the size (rounded up) each time that it runs out of memory.

    Args:
        work: A function of how many rows it may take at a time; it has to start anew each time.
        size: Rows to begin with, at least 1.
        device: Whose memory it needs.

    Returns:
        What `work` returned, and the size that it fitted with.

    Raises:
        torch.OutOfMemoryError: A single row does not fit.
    """
    while True:
        try:
            return work(size), size
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        # Not in the handler: the error's traceback holds what the failed attempt had made.
        free(device)
        size = -(-size // 2)


def free(device: torch.device) -> None:
    """Give memory that torch holds without using it back to the device, so that it is whole again."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def note(batch: int, parts: int) -> str:
    """What a user reads of batches of `batch` images that did not fit at once; empty for one part."""
    return "" if parts == 1 else f"out of memory: batches of {batch} were taken in {parts} parts"


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
