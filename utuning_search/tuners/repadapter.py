"""Reparameterised adapter (RepAdapter): U(h) = W_up (W_down h + b) + b', no activation, W_up in groups."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from utuning_search.tuners.at_norm import AtNormConfig
from utuning_search.tuners.base import Site, Tuner, check_count, zeros
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.references import REPADAPTER, Reference

MAX_GROUPS = 64


@dataclass(frozen=True)
class RepAdapterConfig(AtNormConfig):
    """Attributes: rank, of the bottleneck; groups, of W_up, as far as they divide the rank and the width."""

    groups: int = 2

    kind: ClassVar[str] = "repadapter"
    summary: ClassVar[str] = "W_up (W_down h + b) + b' behind a norm, W_up in groups and starts at zero; merges"
    references: ClassVar[tuple[Reference, ...]] = (REPADAPTER,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.kind, "groups", self.groups, MAX_GROUPS)

    @property
    def label(self) -> str:
        return "RepAdapter"

    def num_parameters(self, site: Site) -> int:
        up = self.rank // _groups(self, site) * site.out_dim
        return self.rank * (site.in_dim + 1) + up + site.out_dim

    def num_flops(self, site: Site, tokens: int) -> int:
        up = self.rank // _groups(self, site) * site.out_dim
        return 2 * tokens * (self.rank * site.in_dim + up)

    def build(self, site: Site) -> nn.Module:
        return RepAdapter(self, site)


def _groups(config: RepAdapterConfig, site: Site) -> int:
    return math.gcd(config.groups, config.rank, site.out_dim)


class RepAdapter(Tuner):
    """The module of RepAdapterConfig; up is (groups, out_dim / groups, rank / groups), bias is (out_dim,)."""

    def __init__(self, config: RepAdapterConfig, site: Site) -> None:
        super().__init__()
        groups = _groups(config, site)
        self.down = nn.Linear(site.in_dim, config.rank)
        self.up = zeros(groups, site.out_dim // groups, config.rank // groups)
        self.bias = zeros(site.out_dim)
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        h = self.down(x).unflatten(-1, (len(self.up), -1)).transpose(1, 2)  # (batch, groups, tokens, rank / groups)
        out: Tensor = (h @ self.up.transpose(1, 2)).transpose(1, 2).flatten(-2)
        return out + self.bias

    def affine(self, weight: Tensor | None = None) -> tuple[Tensor | None, Tensor | None] | None:
        del weight
        up = torch.block_diag(*self.up)
        return up @ self.down.weight, up @ self.down.bias + self.bias
