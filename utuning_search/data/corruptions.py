"""Common corruptions of images, after Hendrycks & Dietterich (arXiv 1903.12261), at three severities.

Five of their fifteen, one or two of each family, made by torchvision and Pillow, which are there anyway and work on
images of any size; the package that has all of them wants pictures of 32 pixels and libraries of 2021. Severities are
their 1, 3 and 5. Blur is measured in shares of the side: at 32 pixels it is that of CIFAR-10-C.
"""

import io
from collections.abc import Callable
from math import ceil

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

SEVERITIES = (1, 2, 3)
LARGEST = 255


def _noise(images: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    noise = torch.randn(images.shape, generator=generator)
    return _bytes(images.float() + LARGEST * sigma * noise)


def _blur(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    del generator
    sigma = share * images.shape[-1]
    blurred: Tensor = v2.functional.gaussian_blur(images, [2 * ceil(3 * sigma) + 1] * 2, [sigma] * 2)
    return blurred


def _contrast(images: Tensor, factor: float, generator: torch.Generator) -> Tensor:
    del generator
    changed: Tensor = v2.functional.adjust_contrast(images, factor)
    return changed


def _brightness(images: Tensor, added: float, generator: torch.Generator) -> Tensor:
    del generator
    return _bytes(images.float() + LARGEST * added)


def _jpeg(images: Tensor, quality: float, generator: torch.Generator) -> Tensor:
    del generator
    found = []
    for image in images:
        file = io.BytesIO()
        pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
        Image.fromarray(pixels.contiguous().numpy()).save(file, "JPEG", quality=int(quality))
        read = torch.from_numpy(np.array(Image.open(file)))
        found.append(read.view(*image.shape[1:], -1).permute(2, 0, 1))
    return torch.stack(found)


Corruption = tuple[Callable[[Tensor, float, torch.Generator], Tensor], tuple[float, float, float]]
CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": (_noise, (0.08, 0.18, 0.38)),  # deviation, of values in [0, 1]
    "gaussian_blur": (_blur, (0.0125, 0.022, 0.03)),  # deviation, in shares of the side
    "contrast": (_contrast, (0.4, 0.2, 0.05)),  # what is left of it
    "brightness": (_brightness, (0.1, 0.3, 0.5)),  # added to values in [0, 1]
    "jpeg": (_jpeg, (25, 15, 7)),  # quality
}


def corrupted(images: Tensor, name: str, severity: int, seed: int) -> Tensor:
    """Images as they are after a corruption.

    Args:
        images: uint8 (images, channels, size, size), on the CPU; they stay as they are.
        name: Of `CORRUPTIONS`.
        severity: Of `SEVERITIES`; 3 is the worst.
        seed: Of the noise.
    """
    change, levels = CORRUPTIONS[name]
    return change(images, levels[SEVERITIES.index(severity)], torch.Generator().manual_seed(seed))


def _bytes(values: Tensor) -> Tensor:
    return values.round().clamp(0, LARGEST).to(torch.uint8)
