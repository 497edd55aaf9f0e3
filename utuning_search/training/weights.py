"""What is kept of a trained model: its tuners and head, and a few of its logits to compare a loaded one with."""

import hashlib
from collections.abc import Mapping

import safetensors.torch
import torch
from torch import Tensor

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.training.loop import predict

CHECKED_IMAGES = 16
CHECK, SEAL = "check.logits", "check.digest"  # neither is the model's


def pack(model: TunedModel, inputs: Tensor) -> bytes:
    """A safetensors file's bytes: tuners and head, and what tells later whether they are what they were.

    As `check.logits` the fp32 logits (images, classes) of `inputs`, which are `check_images` normalised, and as
    `check.digest` the digest of everything else.

    Bytes, because tensors that cross processes are shared memory, which dies with its process.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in model.tuner_state_dict().items()}
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # others will compute them in fp32
        logits = predict(model, inputs).cpu()
    return safetensors.torch.save(sealed({**tensors, CHECK: logits}))


def sealed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Named tensors with the digest of all of them beside them."""
    own = {name: tensor for name, tensor in tensors.items() if name != SEAL}
    return {**own, SEAL: torch.frombuffer(bytearray(_sha256(own)), dtype=torch.uint8)}


def is_whole(tensors: Mapping[str, Tensor]) -> bool:
    """Whether named tensors are those that were sealed; those of older versions, which had no seal, may be."""
    return SEAL not in tensors or torch.equal(sealed(tensors)[SEAL], tensors[SEAL])


def tuner_digest(tensors: Mapping[str, Tensor]) -> str:
    """Twelve hexadecimal digits of tuners and head."""
    return _sha256({name: tensor for name, tensor in tensors.items() if name not in (CHECK, SEAL)}).hex()[:12]


def check_images(preprocessing: Preprocessing) -> Tensor:
    """uint8 images of noise (16, channels, size, size), always the same: an export is compared on them.

    Not images of the task: whoever checks an export need not have any. And of no library's random numbers, which may
    be others in its next version.
    """
    shape = (CHECKED_IMAGES, preprocessing.channels, preprocessing.image_size, preprocessing.image_size)
    count = torch.Size(shape).numel()
    noise = hashlib.shake_256(b"utuning_search check images").digest(count)
    return torch.frombuffer(bytearray(noise), dtype=torch.uint8).view(shape)


def older_check_images(preprocessing: Preprocessing) -> Tensor:
    """As `check_images`, for finals that were trained before weights were sealed."""
    shape = (CHECKED_IMAGES, preprocessing.channels, preprocessing.image_size, preprocessing.image_size)
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def _sha256(tensors: Mapping[str, Tensor]) -> bytes:
    content = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        content.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return content.digest()
