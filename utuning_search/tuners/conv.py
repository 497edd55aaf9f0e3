"""Convolutional bottleneck (Convpass): U(x) = W_up act(conv3x3(act(W_down x))), the convolution on the patch grid."""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.common.errors import BackboneError, InputError
from utuning_search.tuners.base import (
    ADDITIVE_FORMS,
    CORE_OPERATIONS,
    TOKEN_OPERATIONS,
    Form,
    Operation,
    Tuner,
    TunerConfig,
    check_count,
    low_rank_flops,
)
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.references import CONVPASS, Reference
from utuning_search.tuners.sites import Site

MAX_RANK = 4096
KERNEL = 3


@dataclass(frozen=True)
class ConvConfig(TunerConfig):
    """Attributes: rank, channels of the bottleneck; depthwise, whether each channel is convolved by itself.

    Convpass convolves all channels together (its printed size has rank² * 9 weights a convolution).
    """

    rank: int
    depthwise: bool = False

    kind: ClassVar[str] = "conv"
    summary: ClassVar[str] = "W_up act(conv3x3(act(W_down x))) on the patch grid, W_up starts at zero"
    references: ClassVar[tuple[Reference, ...]] = (CONVPASS,)

    def __post_init__(self) -> None:
        check_count(self.kind, "rank", self.rank, MAX_RANK)
        if not isinstance(self.depthwise, bool):
            raise InputError(f"tuner '{self.kind}'", "depthwise is true or false", repr(self.depthwise))

    @property
    def operations(self) -> tuple[Operation, ...]:
        return TOKEN_OPERATIONS + CORE_OPERATIONS

    @property
    def forms(self) -> tuple[Form, ...]:
        return ADDITIVE_FORMS

    @property
    def starts_at_zero(self) -> bool:
        return True

    @property
    def label(self) -> str:
        return "depthwise conv adapter" if self.depthwise else "conv adapter"

    @property
    def size_label(self) -> str:
        return f"r={self.rank}"

    def num_parameters(self, site: Site) -> int:
        kernel = self.rank * (1 if self.depthwise else self.rank) * KERNEL**2 + self.rank
        return self.rank * (site.in_dim + site.out_dim + 1) + site.out_dim + kernel

    def num_flops(self, site: Site, tokens: int) -> int:
        patches = site.grid[0] * site.grid[1]
        pixel = 2 * self.rank * (1 if self.depthwise else self.rank)  # of one of the kernel's weights a channel pair
        # Tokens that are no patches see the kernel's centre only; zeros around the grid count like patches.
        return low_rank_flops(site, tokens, self.rank) + pixel * (KERNEL**2 * patches + tokens - patches)

    def build(self, site: Site) -> nn.Module:
        return ConvAdapter(self, site)


class ConvAdapter(Tuner):
    """The module of ConvConfig.

    Tokens that are no patches (class, registers, prompts) see the centre of the kernel only, as in Convpass, which
    convolves the class token as an image of one pixel.
    """

    def __init__(self, config: ConvConfig, site: Site) -> None:
        super().__init__()
        self.grid = site.grid
        self.down = nn.Linear(site.in_dim, config.rank)
        self.conv = nn.Conv2d(
            config.rank, config.rank, KERNEL, padding=KERNEL // 2, groups=config.rank if config.depthwise else 1
        )
        self.up = nn.Linear(config.rank, site.out_dim)
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.conv.weight)
        with torch.no_grad():  # starts as the identity, so that gradients reach W_up as in an adapter
            centre = self.conv.weight[:, :, KERNEL // 2, KERNEL // 2]
            centre += torch.eye(config.rank) if centre.shape[1] == config.rank else 1
            for layer in (self.down, self.conv, self.up):
                cast(Tensor, layer.bias).zero_()
            self.up.weight.zero_()

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        height, width = self.grid
        patches = height * width
        if not 0 < patches <= x.shape[1]:
            rule = "the backbone's tokens end with a grid of patches"
            raise BackboneError("tuner 'conv'", rule, f"a grid of {height}x{width} in {x.shape[1]} tokens")
        h = _quick_gelu(self.down(x))
        others, image = h[:, : x.shape[1] - patches], h[:, x.shape[1] - patches :]
        image = self.conv(image.unflatten(1, self.grid).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1, 2)
        if others.shape[1]:
            pixels = others.transpose(1, 2).unsqueeze(-1)  # (batch, rank, tokens, 1)
            weight = self.conv.weight[:, :, KERNEL // 2, KERNEL // 2, None, None]
            others = F.conv2d(pixels, weight, self.conv.bias, groups=self.conv.groups).squeeze(-1).transpose(1, 2)
        out: Tensor = self.up(_quick_gelu(torch.cat([others, image], dim=1)))
        return out


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)
