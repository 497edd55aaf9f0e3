"""How uint8 images become a backbone's input."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """How uint8 images become a backbone's input.

    Attributes:
        image_size: Height and width in pixels.
        channels: 1 or 3.
        mean: One a channel, of values in [0, 1].
        std: One a channel.
        interpolation: "bilinear", "bicubic" or "nearest".
        crop: Share of the shorter side that the centre crop keeps, in (0, 1]; timm's `crop_pct`.
    """

    image_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop: float = 1.0

    @property
    def resized(self) -> int:
        """What the shorter side becomes before the centre crop, in pixels; as timm rounds it."""
        return math.floor(self.image_size / self.crop)

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (batch, channels, height, width) to normalised float32 of the same shape."""
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        return (images.float() / 255 - mean) / std
