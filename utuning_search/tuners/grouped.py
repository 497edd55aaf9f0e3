"""Grouped linear maps (Consolidator): U(x) = diag(W_1 ... W_g) shuffle(x), one small map for each group of channels.

Widths that are no multiple of the number of groups are rounded up, and what is too much is cut off.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.tuners.base import LINEAR_OPERATIONS, Form, Operation, Site, Tuner, TunerConfig, check_count, zeros
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.references import CONSOLIDATOR, Reference

MAX_GROUPS = 4096


@dataclass(frozen=True)
class GroupedConfig(TunerConfig):
    """Attributes: groups, into how many the channels are cut; more of them are fewer parameters."""

    groups: int

    kind: ClassVar[str] = "grouped"
    summary: ClassVar[str] = "diag(W_1 ... W_g) x after a shuffle of the channels, starts at zero; merges"
    references: ClassVar[tuple[Reference, ...]] = (CONSOLIDATOR,)

    def __post_init__(self) -> None:
        check_count(self.kind, "groups", self.groups, MAX_GROUPS)

    @property
    def operations(self) -> tuple[Operation, ...]:
        return LINEAR_OPERATIONS

    @property
    def forms(self) -> tuple[Form, ...]:
        return ("parallel",)

    @property
    def per_token(self) -> bool:
        return True

    @property
    def starts_at_zero(self) -> bool:
        return True

    @property
    def mergeable(self) -> bool:
        return True

    @property
    def label(self) -> str:
        return "grouped map"

    @property
    def size_label(self) -> str:
        return f"groups={self.groups}"

    def num_parameters(self, site: Site) -> int:
        return self.groups * -(-site.in_dim // self.groups) * -(-site.out_dim // self.groups)

    def num_flops(self, site: Site, tokens: int) -> int:
        return 2 * tokens * self.num_parameters(site)

    def build(self, site: Site) -> nn.Module:
        return Grouped(self, site)


class Grouped(Tuner):
    """The module of GroupedConfig; weight is (groups, out_dim / groups, in_dim / groups)."""

    def __init__(self, config: GroupedConfig, site: Site) -> None:
        super().__init__()
        self.in_dim, self.out_dim, self.groups = site.in_dim, site.out_dim, config.groups
        self.width = -(-site.in_dim // config.groups)
        self.weight = zeros(config.groups, -(-site.out_dim // config.groups), self.width)

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        padded = F.pad(x, (0, self.groups * self.width - self.in_dim))
        shuffled = padded.unflatten(-1, (self.groups, self.width)).transpose(-1, -2)
        parts = shuffled.flatten(-2).unflatten(-1, (self.groups, self.width)).transpose(1, 2)
        out = parts @ self.weight.transpose(1, 2)  # (batch, groups, tokens, out_dim / groups)
        whole: Tensor = out.transpose(1, 2).flatten(-2)
        return whole[..., : self.out_dim]

    def affine(self, weight: Tensor | None = None) -> tuple[Tensor | None, Tensor | None] | None:
        del weight
        whole = torch.block_diag(*self.weight)
        channels = torch.arange(whole.shape[1], device=whole.device).view(self.groups, self.width).T.flatten()
        matrix = torch.empty_like(whole)
        matrix[:, channels] = whole
        return matrix[: self.out_dim, : self.in_dim], None
