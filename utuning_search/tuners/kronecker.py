"""Sums of Kronecker products (KAdaptation): U(x) = Σ_i (A_i ⊗ s_i t_iᵀ) x, the A_i shared by the whole design.

Widths that are no multiple of the number of terms are rounded up, and what is too much is cut off.
"""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.tuners.base import Form, Site, Tuner, check_count, zeros
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.low_rank import LowRankConfig, drawn
from utuning_search.tuners.references import KADAPTATION, Reference

MAX_TERMS = 256


@dataclass(frozen=True)
class KroneckerConfig(LowRankConfig):
    """Attributes: rank, of each s_i t_iᵀ; terms, their number, which is also the width of each A_i."""

    terms: int = 32

    kind: ClassVar[str] = "kronecker"
    summary: ClassVar[str] = "Σ (A_i ⊗ s_i t_iᵀ) x, A_i shared by all its maps and blocks, s starts at zero; merges"
    references: ClassVar[tuple[Reference, ...]] = (KADAPTATION,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.kind, "terms", self.terms, MAX_TERMS)

    @property
    def forms(self) -> tuple[Form, ...]:
        return ("parallel",)

    @property
    def label(self) -> str:
        return "Kronecker sum"

    @property
    def size_label(self) -> str:
        return f"r={self.rank} terms={self.terms}"

    def num_parameters(self, site: Site) -> int:
        return sum_size(self.terms, self.rank, site.in_dim, site.out_dim)

    def num_flops(self, site: Site, tokens: int) -> int:
        return sum_flops(self.terms, self.rank, site.in_dim, site.out_dim) + 2 * tokens * site.in_dim * site.out_dim

    def build(self, site: Site) -> nn.Module:
        return Kronecker(self, site)

    def shared_name(self, site: Site) -> str | None:
        del site
        return f"kronecker_{self.rank}_{self.terms}"

    def num_shared(self, site: Site) -> int:
        del site
        return int(self.terms**3)

    def build_shared(self, site: Site) -> nn.Module:
        del site
        return Rules(self.terms)


class Rules(nn.Module):
    """What a design's Kronecker sums share; a is (terms, terms, terms), one A_i each."""

    def __init__(self, terms: int) -> None:
        super().__init__()
        self.a = drawn(terms, terms, terms)


class KroneckerSum(nn.Module):
    """The numbers of a map's own of Σ_i A_i ⊗ s_i t_iᵀ, (outputs, inputs); s is zero at first where `zero` says so."""

    def __init__(self, terms: int, rank: int, inputs: int, outputs: int, *, zero: bool) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.s = (zeros if zero else drawn)(terms, -(-outputs // terms), rank)
        self.t = drawn(terms, rank, -(-inputs // terms))

    def matrix(self, rules: Tensor) -> Tensor:
        """The sum with A_i of (terms, terms, terms)."""
        small = (self.s @ self.t).flatten(1)
        blocks = rules.flatten(1).T @ small  # (terms², outputs / terms * inputs / terms)
        shape = rules.shape[1], rules.shape[2], self.s.shape[1], self.t.shape[2]
        whole = blocks.view(shape).transpose(1, 2).flatten(2, 3).flatten(0, 1)
        return whole[: self.outputs, : self.inputs]


def sum_size(terms: int, rank: int, inputs: int, outputs: int) -> int:
    """Number of parameters of a `KroneckerSum`."""
    return terms * rank * (-(-outputs // terms) - (-inputs // terms))


def sum_flops(terms: int, rank: int, inputs: int, outputs: int) -> int:
    """FLOPs of `KroneckerSum.matrix`."""
    area = -(-outputs // terms) * -(-inputs // terms)
    return 2 * terms * area * (rank + terms**2)


class Kronecker(Tuner):
    """The module of KroneckerConfig; sum.s is (terms, out_dim / terms, rank), sum.t (terms, rank, in_dim / terms)."""

    def __init__(self, config: KroneckerConfig, site: Site) -> None:
        super().__init__()
        self.shares = config.shared_name(site)
        self.sum = KroneckerSum(config.terms, config.rank, site.in_dim, site.out_dim, zero=True)
        self._rules: tuple[nn.Module, ...] = ()  # in a tuple, so that they are registered once, by the model

    def connect(self, shared: nn.Module) -> None:
        self._rules = (shared,)

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        return F.linear(x, self._matrix())

    def affine(self, weight: Tensor | None = None) -> tuple[Tensor | None, Tensor | None] | None:
        del weight
        return self._matrix(), None

    def _matrix(self) -> Tensor:
        return self.sum.matrix(cast(Rules, self._rules[0]).a)
