"""Whether a loaded tuner is the one that was trained: its logits beside those that were kept, within a tolerance."""

import copy

import torch
from torch import Tensor, nn

TOLERANCE = 1e-3  # of a logit, or of the largest where that is above 1; devices and versions differ by less
AT_LOADING = 4  # images: enough to see another model, and soon done


def tolerance(wanted: Tensor) -> float:
    """The largest difference from logits that rounding may make."""
    largest = float(wanted.abs().max()) if wanted.numel() else 0.0
    return TOLERANCE * max(1.0, largest)


@torch.no_grad()
def difference(model: nn.Module, inputs: Tensor, wanted: Tensor) -> float:
    """Largest absolute difference of a model's logits of `inputs` from those wanted, both (images, classes).

    What a caller chose for arithmetic, such as matrix products in TF32 or bf16, is no fault of the model's: where the
    difference is too large it is taken in fp64, which no such choice touches.

    Args:
        model: On the CPU, in evaluation mode; stays as it is.
        inputs: Normalised images.
        wanted: Kept logits.
    """
    found = _largest(model(inputs).float(), wanted)
    if not found <= tolerance(wanted):
        found = _largest(copy.deepcopy(model).double()(inputs.double()).float(), wanted)
    return found


def _largest(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).abs().max()) if got.shape == wanted.shape else float("nan")
