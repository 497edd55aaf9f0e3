"""Tokens as images and back, and modules that see images as maps of tokens.

Both are views of one memory, so that a convolution sees the layout in which timm's own model has its input.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.backbones.family import LinearMap, LinearPart


def image_of(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(batch, tokens, dim), row by row, to (batch, dim, rows, columns)."""
    image: Tensor = tokens.transpose(1, 2).unflatten(2, grid)
    return image


def tokens_of(image: Tensor) -> Tensor:
    """(batch, dim, rows, columns) to (batch, tokens, dim), row by row."""
    return image.flatten(2).transpose(1, 2)


@dataclass(frozen=True)
class PointwiseConv(LinearMap):
    """A convolution of single pixels, which is a linear map of tokens."""

    module: nn.Conv2d

    @property
    def widths(self) -> tuple[int, int]:
        return self.module.in_channels, self.module.out_channels

    def weight(self) -> Tensor:
        return self.module.weight.flatten(1)

    def bias(self) -> Tensor | None:
        return self.module.bias

    def assign(self, weight: Tensor, bias: Tensor) -> None:
        shaped = weight[..., None, None].clone()
        self.module.weight = nn.Parameter(shaped, requires_grad=False)
        self.module.bias = nn.Parameter(bias.clone(), requires_grad=False)


def map_of(module: nn.Module) -> LinearMap:
    """A linear layer, or a convolution of single pixels, as a map of tokens."""
    if isinstance(module, nn.Conv2d):
        return PointwiseConv(module)
    linear = cast(nn.Linear, module)
    return LinearPart(linear, slice(0, linear.out_features))


def through(module: nn.Module, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens through a linear layer, or through a convolution as an image."""
    if isinstance(module, nn.Conv2d):
        return tokens_of(module(image_of(tokens, grid)))
    return cast(Tensor, module(tokens))


class TokenNorm(nn.LayerNorm):
    """A LayerNorm of images with the weight and bias of another one, for tokens."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__(norm.normalized_shape, norm.eps, elementwise_affine=False)
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class OnGrid(nn.Module):
    """A norm of images for tokens."""

    def __init__(self, norm: nn.Module, grid: tuple[int, int]) -> None:
        super().__init__()
        self.norm, self.grid = norm, grid

    def forward(self, x: Tensor) -> Tensor:
        return tokens_of(self.norm(image_of(x, self.grid)))


def for_tokens(norm: nn.Module, grid: tuple[int, int], *, of_images: bool) -> nn.Module:
    """A norm that takes tokens; the norm itself where it is not one of images."""
    if not of_images or isinstance(norm, nn.Identity):
        return norm
    return TokenNorm(norm) if isinstance(norm, nn.LayerNorm) else OnGrid(norm, grid)


def flops_of_convs(module: nn.Module, grid: tuple[int, int]) -> tuple[int, tuple[int, int]]:
    """FLOPs of all convolutions of a module one after another, and the grid that the last one gives.

    Args:
        module: Whose convolutions have symmetric padding, and come in the order in which they are kept.
        grid: Rows and columns of its input.
    """
    flops = 0
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            grid = conv_grid(conv, grid)
            flops += 2 * grid[0] * grid[1] * conv.weight.numel()
    return flops, grid


def conv_grid(conv: Any, grid: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of what a convolution with symmetric padding gives."""

    def side(i: int) -> int:
        reach = conv.dilation[i] * (conv.kernel_size[i] - 1) + 1
        return int((grid[i] + 2 * conv.padding[i] - reach) // conv.stride[i] + 1)

    return side(0), side(1)
