"""Factor tuning (FacT-TT): low-rank changes of all linear maps, whose outer factors the whole design shares.

With d the width of a token, a weight of (m d, n d) is a grid of m x n blocks of d x d, and each block's change is
V Σ U: U (rank, d) and V (d, rank) are shared by all maps and blocks of the backbone, Σ (rank, rank) is its own.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.tuners.base import (
    LINEAR_OPERATIONS,
    Form,
    Operation,
    Tuner,
    TunerConfig,
    check_count,
    low_rank_flops,
    zeros,
)
from utuning_search.tuners.references import FACT, Reference
from utuning_search.tuners.sites import Site

MAX_RANK = 4096


@dataclass(frozen=True)
class FactConfig(TunerConfig):
    """Attributes: rank, of the shared factors."""

    rank: int

    kind: ClassVar[str] = "fact"
    summary: ClassVar[str] = "V Σ U x with U and V shared by all its maps and blocks, V starts at zero; merges"
    references: ClassVar[tuple[Reference, ...]] = (FACT,)

    def __post_init__(self) -> None:
        check_count(self.kind, "rank", self.rank, MAX_RANK)

    @property
    def operations(self) -> tuple[Operation, ...]:
        return LINEAR_OPERATIONS

    @property
    def forms(self) -> tuple[Form, ...]:
        return ("parallel",)  # the other forms would bring factors of other widths

    @property
    def starts_at_zero(self) -> bool:
        return True

    @property
    def mergeable(self) -> bool:
        return True

    @property
    def label(self) -> str:
        return "FacT"

    @property
    def size_label(self) -> str:
        return f"r={self.rank}"

    def num_parameters(self, site: Site) -> int:
        width = _width(site)
        return self.rank**2 * (site.in_dim // width) * (site.out_dim // width)

    def num_flops(self, site: Site, tokens: int) -> int:
        width = _width(site)
        core = 2 * tokens * self.rank**2 * (site.in_dim // width) * (site.out_dim // width)
        return low_rank_flops(site, tokens, self.rank) + core

    def build(self, site: Site) -> nn.Module:
        return Fact(self, site)

    def shared_name(self, site: Site) -> str | None:
        return f"fact_{self.rank}_{_width(site)}"

    def num_shared(self, site: Site) -> int:
        return 2 * self.rank * _width(site)

    def build_shared(self, site: Site) -> nn.Module:
        return Factors(self.rank, _width(site))


def _width(site: Site) -> int:
    """The width of a token: what both widths of a linear map of a ViT are multiples of."""
    return math.gcd(site.in_dim, site.out_dim)


class Factors(nn.Module):
    """What a design's FacT tuners share; u is (rank, width), v is (width, rank)."""

    def __init__(self, rank: int, width: int) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.empty(rank, width))
        self.v = zeros(width, rank)
        nn.init.kaiming_uniform_(self.u, a=math.sqrt(5))


class Fact(Tuner):
    """The module of FactConfig; core is (outputs * rank, inputs * rank), outputs and inputs in token widths."""

    def __init__(self, config: FactConfig, site: Site) -> None:
        super().__init__()
        self.width = _width(site)
        self.shares = config.shared_name(site)
        shape = (config.rank * (site.out_dim // self.width), config.rank * (site.in_dim // self.width))
        self.core = nn.Parameter(torch.empty(shape))
        nn.init.kaiming_uniform_(self.core, a=math.sqrt(5))
        self._factors: tuple[nn.Module, ...] = ()  # in a tuple, so that they are registered once, by the model

    def connect(self, shared: nn.Module) -> None:
        self._factors = (shared,)

    @property
    def factors(self) -> Factors:
        return cast(Factors, self._factors[0])

    def forward(self, x: Tensor, block: nn.Module) -> Tensor:
        del block
        h = F.linear(x.unflatten(-1, (-1, self.width)), self.factors.u).flatten(-2)
        h = F.linear(h, self.core).unflatten(-1, (-1, self.factors.v.shape[1]))
        return F.linear(h, self.factors.v).flatten(-2)

    def affine(self) -> tuple[Tensor | None, Tensor | None] | None:
        u, v = self.factors.u, self.factors.v
        rows, columns = (n // u.shape[0] for n in self.core.shape)
        left = torch.kron(torch.eye(rows, dtype=v.dtype, device=v.device), v)
        right = torch.kron(torch.eye(columns, dtype=u.dtype, device=u.device), u)
        return left @ self.core @ right, None
