"""What is kept of a trained model: its tuners and head, and a few of its logits to compare a loaded one with."""

import safetensors.torch
import torch
from torch import Tensor

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.training.loop import predict

CHECKED_IMAGES = 16
CHECK = "check.logits"


def pack(model: TunedModel, inputs: Tensor) -> bytes:
    """A safetensors file's bytes: tuners and head, and as `check.logits` the fp32 logits (images, classes) of `inputs`.

    Bytes, because tensors that cross processes are shared memory, which dies with its process.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.tuner_state_dict().items()}
    return safetensors.torch.save({**tensors, CHECK: predict(model, inputs).cpu()})


def check_images(preprocessing: Preprocessing) -> Tensor:
    """uint8 images of noise (16, channels, size, size), always the same: a finalist's export is compared on them.

    Not images of the task: whoever checks an export need not have any.
    """
    shape = (CHECKED_IMAGES, preprocessing.channels, preprocessing.image_size, preprocessing.image_size)
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
