"""Random changes of training images, a function of a seed on every device."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_AUGMENTED = 16  # pixels; a shift by one of 8 pixels cost 3 to 8 points of test accuracy on digits
MARGIN = 8  # a crop is taken after padding by 1/8 of the size


def suitable(size: int, seed: int, *, mirrored: bool) -> Callable[[Tensor], Tensor] | None:
    """`augmentation` of images of `size` pixels; None for tiny ones, which it would harm."""
    return augmentation(size, seed, mirrored=mirrored) if size >= SMALLEST_AUGMENTED else None


def augmentation(size: int, seed: int, *, mirrored: bool) -> Callable[[Tensor], Tensor]:
    """Random crops after padding with black by 1/8 of `size`, and mirror images where they are wanted.

    Not a random resized crop: what it cuts away of a small picture may be what tells it from another.

    Returns:
        A function of uint8 images (batch, channels, size, size), on any device; its random stream is a function of
        `seed`, and is drawn on the CPU so that it is the same on all of them.
    """
    generator = torch.Generator().manual_seed(seed)
    margin = size // MARGIN

    def augment(images: Tensor) -> Tensor:
        count = len(images)
        shifts = torch.randint(2 * margin + 1, (2, count, 1), generator=generator)
        rows, columns = shifts + torch.arange(size)
        if mirrored:
            flipped = torch.rand(count, 1, generator=generator) < 0.5
            columns = torch.where(flipped, columns.flip(1), columns)
        rows, columns = rows.to(images.device), columns.to(images.device)
        which = torch.arange(count, device=images.device).view(-1, 1, 1)
        padded = F.pad(images, (margin,) * 4)
        return padded[which, :, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)

    return augment
