"""Factor tuning (FacT-TT): low-rank changes of all linear maps, whose outer factors the whole design shares.

With d the width of a token, a weight of (m d, n d) is a grid of m x n blocks of d x d, and each block's change is
V Σ U: U (rank, d) and V (d, rank) are shared by all maps and blocks of the backbone, Σ (rank, rank) is its own. Widths
that are no multiple of d, as in gated MLPs, are rounded up, and what is too much is cut off.
"""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.tuners.base import Form, Site, Tuner, zeros
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.low_rank import LowRankConfig, drawn
from utuning_search.tuners.references import FACT, Reference


@dataclass(frozen=True)
class FactConfig(LowRankConfig):
    """Attributes: rank, of the shared factors."""

    kind: ClassVar[str] = "fact"
    summary: ClassVar[str] = "V Σ U x with U and V shared by all its maps and blocks, V starts at zero; merges"
    references: ClassVar[tuple[Reference, ...]] = (FACT,)

    @property
    def forms(self) -> tuple[Form, ...]:
        return ("parallel",)  # the other forms would bring factors of other widths

    @property
    def label(self) -> str:
        return "FacT"

    def num_parameters(self, site: Site) -> int:
        inputs, outputs = _grid(site)
        return self.rank**2 * inputs * outputs

    def num_flops(self, site: Site, tokens: int) -> int:
        inputs, outputs = _grid(site)
        outer = 2 * tokens * self.rank * _width(site) * (inputs + outputs)
        return outer + 2 * tokens * self.num_parameters(site)

    def build(self, site: Site) -> nn.Module:
        return Fact(self, site)

    def shared_name(self, site: Site) -> str | None:
        return f"fact_{self.rank}_{_width(site)}"

    def num_shared(self, site: Site) -> int:
        return 2 * self.rank * _width(site)

    def build_shared(self, site: Site) -> nn.Module:
        return Factors(self.rank, _width(site))


def _width(site: Site) -> int:
    """d, the width of a token: the smaller width of any linear map of a ViT."""
    return min(site.in_dim, site.out_dim)


def _grid(site: Site) -> tuple[int, int]:
    """How many widths of a token its inputs and its outputs are, rounded up."""
    return -(-site.in_dim // _width(site)), -(-site.out_dim // _width(site))


class Factors(nn.Module):
    """What a design's FacT tuners share; u is (rank, width), v is (width, rank)."""

    def __init__(self, rank: int, width: int) -> None:
        super().__init__()
        self.u = drawn(rank, width)
        self.v = zeros(width, rank)


class Fact(Tuner):
    """The module of FactConfig; core is (outputs * rank, inputs * rank), outputs and inputs in token widths."""

    def __init__(self, config: FactConfig, site: Site) -> None:
        super().__init__()
        self.in_dim, self.out_dim = site.in_dim, site.out_dim
        self.shares = config.shared_name(site)
        inputs, outputs = _grid(site)
        self.core = drawn(config.rank * outputs, config.rank * inputs)
        self._factors: tuple[nn.Module, ...] = ()  # in a tuple, so that they are registered once, by the model

    def connect(self, shared: nn.Module) -> None:
        self._factors = (shared,)

    @property
    def factors(self) -> Factors:
        return cast(Factors, self._factors[0])

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        rank, width = self.factors.u.shape
        excess = -self.in_dim % width
        h = F.pad(x, (0, excess)) if excess else x
        h = F.linear(h.unflatten(-1, (-1, width)), self.factors.u).flatten(-2)
        h = F.linear(h, self.core).unflatten(-1, (-1, rank))
        return F.linear(h, self.factors.v).flatten(-2)[..., : self.out_dim]

    def affine(self, weight: Tensor | None = None) -> tuple[Tensor | None, Tensor | None] | None:
        del weight
        u, v = self.factors.u, self.factors.v
        rows, columns = (n // u.shape[0] for n in self.core.shape)
        left = torch.kron(torch.eye(rows, dtype=v.dtype, device=v.device), v)
        right = torch.kron(torch.eye(columns, dtype=u.dtype, device=u.device), u)
        return (left @ self.core @ right)[: self.out_dim, : self.in_dim], None
