"""Compacter: an adapter U(x) = W_up act(W_down x) whose two maps are sums of Kronecker products with shared factors."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.tuners.base import CORE_OPERATIONS, TOKEN_OPERATIONS, Operation, zeros
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.kronecker_sum import KroneckerSum, KroneckerSumConfig, KroneckerTuner, sum_flops, sum_size
from utuning_search.tuners.references import COMPACTER, Reference
from utuning_search.tuners.sites import Site

OWN_RANK = 1  # of each term's own factor, as published


@dataclass(frozen=True)
class CompacterConfig(KroneckerSumConfig):
    """Attributes: rank, the bottleneck width; terms, of the Kronecker products that each map is a sum of."""

    terms: int = 4

    kind: ClassVar[str] = "compacter"
    summary: ClassVar[str] = "an adapter of Kronecker sums, their A_i shared by the design, W_up starts at zero"
    references: ClassVar[tuple[Reference, ...]] = (COMPACTER,)

    @property
    def operations(self) -> tuple[Operation, ...]:
        return TOKEN_OPERATIONS + CORE_OPERATIONS

    @property
    def mergeable(self) -> bool:
        return False

    @property
    def label(self) -> str:
        return "Compacter"

    def num_parameters(self, site: Site) -> int:
        own = sum(sum_size(self.terms, OWN_RANK, *widths) for widths in self._maps(site))
        return own + self.rank + site.out_dim

    def num_flops(self, site: Site, tokens: int) -> int:
        making = sum(sum_flops(self.terms, OWN_RANK, *widths) for widths in self._maps(site))
        return making + super().num_flops(site, tokens)

    def build(self, site: Site) -> nn.Module:
        return Compacter(self, site)

    def _maps(self, site: Site) -> tuple[tuple[int, int], tuple[int, int]]:
        return (site.in_dim, self.rank), (self.rank, site.out_dim)


class Compacter(KroneckerTuner):
    """The module of CompacterConfig; down and up are Kronecker sums."""

    def __init__(self, config: CompacterConfig, site: Site) -> None:
        super().__init__(config, site)
        self.down = KroneckerSum(config.terms, OWN_RANK, site.in_dim, config.rank, zero=False)
        self.up = KroneckerSum(config.terms, OWN_RANK, config.rank, site.out_dim, zero=True)
        self.down_bias, self.up_bias = zeros(config.rank), zeros(site.out_dim)

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        h = F.gelu(F.linear(x, self.down.matrix(self.rules), self.down_bias))
        return F.linear(h, self.up.matrix(self.rules), self.up_bias)
