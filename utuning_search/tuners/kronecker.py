"""Sums of Kronecker products (KAdaptation): U(x) = Σ_i (A_i ⊗ s_i t_iᵀ) x, the A_i shared by the whole design."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.tuners.base import Form, Site
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.kronecker_sum import KroneckerSum, KroneckerSumConfig, KroneckerTuner, sum_flops, sum_size
from utuning_search.tuners.references import KADAPTATION, Reference


@dataclass(frozen=True)
class KroneckerConfig(KroneckerSumConfig):
    """Attributes: rank, of each s_i t_iᵀ; terms, their number, which is also the width of each A_i."""

    terms: int = 32

    kind: ClassVar[str] = "kronecker"
    summary: ClassVar[str] = "Σ (A_i ⊗ s_i t_iᵀ) x, A_i shared by all its maps and blocks, s starts at zero; merges"
    references: ClassVar[tuple[Reference, ...]] = (KADAPTATION,)

    @property
    def forms(self) -> tuple[Form, ...]:
        return ("parallel",)

    @property
    def label(self) -> str:
        return "Kronecker sum"

    def num_parameters(self, site: Site) -> int:
        return sum_size(self.terms, self.rank, site.in_dim, site.out_dim)

    def num_flops(self, site: Site, tokens: int) -> int:
        return sum_flops(self.terms, self.rank, site.in_dim, site.out_dim) + 2 * tokens * site.in_dim * site.out_dim

    def build(self, site: Site) -> nn.Module:
        return Kronecker(self, site)


class Kronecker(KroneckerTuner):
    """The module of KroneckerConfig; sum.s is (terms, out_dim / terms, rank), sum.t (terms, rank, in_dim / terms)."""

    def __init__(self, config: KroneckerConfig, site: Site) -> None:
        super().__init__(config, site)
        self.sum = KroneckerSum(config.terms, config.rank, site.in_dim, site.out_dim, zero=True)

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        return F.linear(x, self.sum.matrix(self.rules))

    def affine(self, weight: Tensor | None = None) -> tuple[Tensor | None, Tensor | None] | None:
        del weight
        return self.sum.matrix(self.rules), None
