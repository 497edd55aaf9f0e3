"""Compacter: an adapter U(x) = W_up act(W_down x) whose two maps are sums of Kronecker products with shared factors."""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

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
    zeros,
)
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.kronecker import MAX_TERMS, KroneckerSum, Rules, sum_flops, sum_size
from utuning_search.tuners.references import COMPACTER, Reference
from utuning_search.tuners.sites import Site

MAX_RANK = 4096
OWN_RANK = 1  # of each term's own factor, as published


@dataclass(frozen=True)
class CompacterConfig(TunerConfig):
    """Attributes: rank, the bottleneck width; terms, of the Kronecker products that each map is a sum of."""

    rank: int
    terms: int = 4

    kind: ClassVar[str] = "compacter"
    summary: ClassVar[str] = "an adapter of Kronecker sums, their A_i shared by the design, W_up starts at zero"
    references: ClassVar[tuple[Reference, ...]] = (COMPACTER,)

    def __post_init__(self) -> None:
        check_count(self.kind, "rank", self.rank, MAX_RANK)
        check_count(self.kind, "terms", self.terms, MAX_TERMS)

    @property
    def operations(self) -> tuple[Operation, ...]:
        return TOKEN_OPERATIONS + CORE_OPERATIONS

    @property
    def forms(self) -> tuple[Form, ...]:
        return ADDITIVE_FORMS

    @property
    def per_token(self) -> bool:
        return True

    @property
    def starts_at_zero(self) -> bool:
        return True

    @property
    def label(self) -> str:
        return "Compacter"

    @property
    def size_label(self) -> str:
        return f"r={self.rank} terms={self.terms}"

    def num_parameters(self, site: Site) -> int:
        own = sum(sum_size(self.terms, OWN_RANK, *widths) for widths in self._maps(site))
        return own + self.rank + site.out_dim

    def num_flops(self, site: Site, tokens: int) -> int:
        making = sum(sum_flops(self.terms, OWN_RANK, *widths) for widths in self._maps(site))
        return making + low_rank_flops(site, tokens, self.rank)

    def build(self, site: Site) -> nn.Module:
        return Compacter(self, site)

    def shared_name(self, site: Site) -> str | None:
        del site
        return f"compacter_{self.rank}_{self.terms}"

    def num_shared(self, site: Site) -> int:
        del site
        return int(self.terms**3)

    def build_shared(self, site: Site) -> nn.Module:
        del site
        return Rules(self.terms)

    def _maps(self, site: Site) -> tuple[tuple[int, int], tuple[int, int]]:
        return (site.in_dim, self.rank), (self.rank, site.out_dim)


class Compacter(Tuner):
    """The module of CompacterConfig; down and up are Kronecker sums."""

    def __init__(self, config: CompacterConfig, site: Site) -> None:
        super().__init__()
        self.shares = config.shared_name(site)
        self.down = KroneckerSum(config.terms, OWN_RANK, site.in_dim, config.rank, zero=False)
        self.up = KroneckerSum(config.terms, OWN_RANK, config.rank, site.out_dim, zero=True)
        self.down_bias, self.up_bias = zeros(config.rank), zeros(site.out_dim)
        self._rules: tuple[nn.Module, ...] = ()  # in a tuple, so that they are registered once, by the model

    def connect(self, shared: nn.Module) -> None:
        self._rules = (shared,)

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        rules = cast(Rules, self._rules[0]).a
        h = F.gelu(F.linear(x, self.down.matrix(rules), self.down_bias))
        return F.linear(h, self.up.matrix(rules), self.up_bias)
