"""Adaptive re-composition (ARC): U(h) = P (c ⊙ Pᵀ h) + b, P shared by all blocks, c and b of each block's own."""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.tuners.at_norm import AtNormConfig
from utuning_search.tuners.base import Site, Tuner, zeros
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.low_rank import drawn
from utuning_search.tuners.references import ARC, Reference


@dataclass(frozen=True)
class ArcConfig(AtNormConfig):
    """Attributes: rank, of the shared projection."""

    kind: ClassVar[str] = "arc"
    summary: ClassVar[str] = "P (c ⊙ Pᵀ h) + b behind a norm, P shared by all blocks, c starts at zero; merges"
    references: ClassVar[tuple[Reference, ...]] = (ARC,)

    @property
    def label(self) -> str:
        return "ARC"

    def num_parameters(self, site: Site) -> int:
        return self.rank + site.out_dim

    def build(self, site: Site) -> nn.Module:
        return Arc(self, site)

    def shared_name(self, site: Site) -> str | None:
        # Attention and MLP have a projection each.
        width = f"_{site.in_dim}" if site.stage else ""  # a projection for each of several widths
        return f"arc_{self.rank}_{site.operation}{width}"

    def num_shared(self, site: Site) -> int:
        return self.rank * site.in_dim

    def build_shared(self, site: Site) -> nn.Module:
        return Projection(self.rank, site.in_dim)


class Projection(nn.Module):
    """What the ARC tuners at one norm of all blocks share; p is (rank, width), Pᵀ."""

    def __init__(self, rank: int, width: int) -> None:
        super().__init__()
        self.p = drawn(rank, width)


class Arc(Tuner):
    """The module of ArcConfig; c is (rank,), bias is (width,)."""

    def __init__(self, config: ArcConfig, site: Site) -> None:
        super().__init__()
        self.shares = config.shared_name(site)
        self.c = zeros(config.rank)
        self.bias = zeros(site.out_dim)
        self._projection: tuple[nn.Module, ...] = ()  # in a tuple, so that it is registered once, by the model

    def connect(self, shared: nn.Module) -> None:
        self._projection = (shared,)

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        return F.linear(self.c * F.linear(x, self._p), self._p.T, self.bias)

    def affine(self, weight: Tensor | None = None) -> tuple[Tensor | None, Tensor | None] | None:
        del weight
        return self._p.T @ (self.c.unsqueeze(1) * self._p), self.bias

    @property
    def _p(self) -> Tensor:
        return cast(Projection, self._projection[0]).p
