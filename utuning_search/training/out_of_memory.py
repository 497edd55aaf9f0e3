"""Where memory runs out: do work in smaller pieces, and say so."""

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


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


def reason(error: torch.OutOfMemoryError) -> str:
    """What a user reads of work that did not fit at all: the first line of what torch says."""
    return f"out of memory: {next(iter(str(error).splitlines()), '')}"
