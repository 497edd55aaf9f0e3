"""How long an image takes a merged model."""

from functools import partial

import torch
from torch import Tensor

from utuning_search.backbones.merge import merge
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.training.measuring import fastest

TURNS = 10


@torch.no_grad()
def latency_ms(model: TunedModel, images: Tensor) -> float:
    """Milliseconds an image of a batch takes the merged model; the fastest of some turns.

    Args:
        model: In evaluation mode; it is merged in a copy.
        images: Normalised (batch, channels, height, width), on the model's device.
    """
    (seconds,) = fastest([partial(merge(model).eval(), images)], str(images.device), turns=TURNS)
    return 1e3 * seconds / len(images)
