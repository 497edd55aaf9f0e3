"""Graph adapter (G-Adapter): U(x) = W_up act(S W_down x), S the normalised adjacency of a graph of the tokens.

The abstract names a graph convolution, with the adjacency of the data's graph, in a bottleneck; where its activation
and biases stand is our reading. S = D^-1/2 (A + I) D^-1/2, as graph convolutions have it (Kipf & Welling, 2017, arXiv
1609.02907). On images graphs are read off the patch grid, or made of nearest tokens.
"""

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
    check_choice,
    check_count,
    low_rank_flops,
)
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.references import G_ADAPTER, Reference
from utuning_search.tuners.sites import Site

MAX_RANK = 4096
GRAPHS = ("grid4", "grid8", "nearest")
NEAREST = 8  # tokens that each is joined to


@dataclass(frozen=True)
class GraphConfig(TunerConfig):
    """Attributes:
    rank: Bottleneck width.
    graph: "grid4" and "grid8" join each patch to its 4 or 8 neighbours on the grid, "nearest" each token to the 8
        that are most alike by the cosine of what the tuner reads.
    joined: Whether class, register and prompt tokens are joined to all others on a grid, or to none.
    """

    rank: int
    graph: str = "grid4"
    joined: bool = False

    kind: ClassVar[str] = "graph"
    summary: ClassVar[str] = "W_up act(S W_down x), S the normalised adjacency of patches, W_up starts at zero"
    references: ClassVar[tuple[Reference, ...]] = (G_ADAPTER,)

    def __post_init__(self) -> None:
        check_count(self.kind, "rank", self.rank, MAX_RANK)
        check_choice(self.kind, "graph", self.graph, GRAPHS)
        if not isinstance(self.joined, bool):
            raise InputError(f"tuner '{self.kind}'", "joined is true or false", repr(self.joined))

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
        return "graph adapter"

    @property
    def size_label(self) -> str:
        return f"r={self.rank}"

    def num_parameters(self, site: Site) -> int:
        return self.rank * (site.in_dim + site.out_dim + 1) + site.out_dim

    def num_flops(self, site: Site, tokens: int) -> int:
        alike = site.in_dim if self.graph == "nearest" else 0
        return low_rank_flops(site, tokens, self.rank) + 2 * tokens**2 * (self.rank + alike)

    def build(self, site: Site) -> nn.Module:
        return GraphAdapter(self, site)


class GraphAdapter(Tuner):
    """The module of GraphConfig."""

    def __init__(self, config: GraphConfig, site: Site) -> None:
        super().__init__()
        self.graph, self.joined = config.graph, config.joined
        self.down = nn.Linear(site.in_dim, config.rank)
        self.up = nn.Linear(config.rank, site.out_dim)
        nn.init.xavier_uniform_(self.down.weight)
        for tensor in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(tensor)
        # Known from the grid, so it is no part of what is stored.
        self.register_buffer("grid", grid_adjacency(site.grid, diagonal=config.graph == "grid8"), persistent=False)

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        adjacency = nearest_adjacency(x.detach()) if self.graph == "nearest" else self._adjacency(x.shape[1])
        adjacency = adjacency + torch.eye(x.shape[1], dtype=adjacency.dtype, device=x.device)
        root = adjacency.sum(dim=-1).rsqrt()
        h = self.down(x)
        mixed = (root.unsqueeze(-1) * adjacency * root.unsqueeze(-2)).to(h.dtype) @ h
        out: Tensor = self.up(F.gelu(mixed))
        return out

    def _adjacency(self, tokens: int) -> Tensor:
        """(tokens, tokens) for tokens that end with the patches of the grid."""
        grid = cast(Tensor, self.grid)
        others = tokens - len(grid)
        if not len(grid) or others < 0:
            rule = "the backbone's tokens end with a grid of patches"
            raise BackboneError("tuner 'graph'", rule, f"{len(grid)} patches in {tokens} tokens")
        whole = F.pad(grid, (others, 0, others, 0), value=float(self.joined))
        return whole - torch.diag_embed(whole.diagonal())


def grid_adjacency(grid: tuple[int, int], *, diagonal: bool) -> Tensor:
    """(patches, patches), one where two patches, row by row, are neighbours: by an edge, or by a corner too."""
    height, width = grid
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).view(-1, 2)
    gaps = (places[:, None] - places[None]).abs()
    reach = gaps.amax(-1) if diagonal else gaps.sum(-1)
    return (reach == 1).to(torch.float32)


def nearest_adjacency(x: Tensor) -> Tensor:
    """(batch, tokens, tokens) for x (batch, tokens, dim), one where either token is among the other's nearest."""
    unit = F.normalize(x, dim=-1)
    alike = (
        (unit @ unit.transpose(1, 2)).float().diagonal_scatter(torch.full(x.shape[:2], -2.0, device=x.device), 0, 1, 2)
    )
    near = alike.topk(min(NEAREST, x.shape[1] - 1), dim=-1).indices
    chosen = torch.zeros_like(alike).scatter(2, near, 1.0)
    return torch.maximum(chosen, chosen.transpose(1, 2))
