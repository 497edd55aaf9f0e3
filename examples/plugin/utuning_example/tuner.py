"""Gated linear unit: U(x) = W_up (W_down x ⊙ σ(W_gate x)), an adapter whose hidden units open and close by token."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from utuning_search.tuners import ADDITIVE_FORMS, TOKEN_OPERATIONS, FrozenBlock, Reference, Site, Tuner, TunerConfig
from utuning_search.tuners.base import check_count

GLU = Reference("shazeer2020glu", "GLU Variants Improve Transformer", "Shazeer, Noam", 2020, "2002.05202")


@dataclass(frozen=True)
class GluConfig(TunerConfig):
    """Attributes: rank, the width of the gated layer, from 1 to 4096."""

    rank: int

    kind: ClassVar[str] = "glu"
    summary: ClassVar[str] = "W_up (W_down x * sigmoid(W_gate x)), W_up starts at zero"
    references: ClassVar[tuple[Reference, ...]] = (GLU,)
    operations: ClassVar = TOKEN_OPERATIONS
    forms: ClassVar = ADDITIVE_FORMS
    starts_at_zero: ClassVar = True

    def __post_init__(self) -> None:
        check_count(self.kind, "rank", self.rank, 4096)

    @property
    def size_label(self) -> str:
        return f"r={self.rank}"

    def num_parameters(self, site: Site) -> int:
        return self.rank * (2 * site.in_dim + site.out_dim)

    def num_flops(self, site: Site, tokens: int) -> int:
        return 2 * tokens * self.num_parameters(site)

    def build(self, site: Site) -> nn.Module:
        return Glu(self, site)


class Glu(Tuner):
    """The module of GluConfig."""

    def __init__(self, config: GluConfig, site: Site) -> None:
        super().__init__()
        self.down, self.gate = (nn.Linear(site.in_dim, config.rank, bias=False) for _ in range(2))
        self.up = nn.Linear(config.rank, site.out_dim, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        """x (batch, tokens, in_dim) to (batch, tokens, out_dim)."""
        del block
        out: Tensor = self.up(self.down(x) * torch.sigmoid(self.gate(x)))
        return out
