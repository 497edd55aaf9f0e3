"""How long an image takes a merged model."""

import time

import torch
from torch import Tensor

from utuning_search.backbones.merge import merge
from utuning_search.backbones.tuned_model import TunedModel

ROUNDS = 10


@torch.no_grad()
def latency_ms(model: TunedModel, images: Tensor) -> float:
    """Milliseconds an image of a batch takes the merged model: the fastest of some rounds after a first one.

    The fastest, because what else the machine does at the time can only add to it.

    Args:
        model: In evaluation mode; it is merged in a copy.
        images: Normalised (batch, channels, height, width), on the model's device.
    """
    merged = merge(model).eval()
    times = []
    for _ in range(ROUNDS + 1):
        _wait_for(images.device)
        started = time.perf_counter()
        merged(images)
        _wait_for(images.device)
        times.append(time.perf_counter() - started)
    return 1e3 * min(times[1:]) / len(images)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
