"""Whose fault an exception in a trial is: its design's, or its surroundings', such as memory, a device or a file."""

import torch

from utuning_search.common.errors import DataError, TrainingError, UTuningError
from utuning_search.training.out_of_memory import reason

# What torch says where it has no class of its own for it, in lower case: memory of the CPU, devices that are lost.
SIGNS = (
    *("out of memory", "allocate memory", "no space left"),
    *("cuda error", "cuda driver", "no cuda gpus", "cudnn error", "cublas_status", "cusolver", "nccl"),
    *("hip error", "mps backend"),
)


def from_outside(error: Exception) -> bool:
    """Whether another design might have met the same: then nothing is known of this one, and it is tried again.

    A design that needs more memory than there is meets it each time. Whoever tries it again counts.
    """
    if isinstance(error, UTuningError):
        return isinstance(error, DataError)
    if isinstance(error, (OSError, MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def said_of(error: Exception) -> str:
    """What a user reads of an exception, in one line."""
    if isinstance(error, TrainingError):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError):
        return reason(error)
    said = str(error).splitlines()
    return f"{type(error).__name__}: {said[0] if said else ''}"
