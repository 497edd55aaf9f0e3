"""LoRA as rank-1 experts with expert dropout (MLAE): U(x) = Σ_i m_i b_i (a_i x)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.common.errors import InputError
from utuning_search.tuners.base import (
    ADDITIVE_FORMS,
    LINEAR_OPERATIONS,
    Form,
    Operation,
    Tuner,
    TunerConfig,
    check_count,
    low_rank_flops,
    zeros,
)
from utuning_search.tuners.references import LORA, MLAE, Reference
from utuning_search.tuners.sites import Site

MAX_RANK = 4096


@dataclass(frozen=True)
class ExpertsConfig(TunerConfig):
    """Attributes: rank, the number of rank-1 experts; dropout, the share of them left out in a training step."""

    rank: int
    dropout: float = 0.5

    kind: ClassVar[str] = "experts"
    summary: ClassVar[str] = "B A x as rank-1 experts, each left out at random while training; merges"
    references: ClassVar[tuple[Reference, ...]] = (MLAE, LORA)

    def __post_init__(self) -> None:
        check_count(self.kind, "rank", self.rank, MAX_RANK)
        rate = self.dropout
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate < 1:
            raise InputError(f"tuner '{self.kind}'", "dropout is a number in [0, 1)", repr(rate))
        object.__setattr__(self, "dropout", float(rate))

    @property
    def operations(self) -> tuple[Operation, ...]:
        return LINEAR_OPERATIONS

    @property
    def forms(self) -> tuple[Form, ...]:
        return ADDITIVE_FORMS

    @property
    def starts_at_zero(self) -> bool:
        return True

    @property
    def mergeable(self) -> bool:
        return True

    @property
    def label(self) -> str:
        return "LoRA experts"

    @property
    def size_label(self) -> str:
        return f"r={self.rank} dropout={self.dropout:g}"

    def num_parameters(self, site: Site) -> int:
        return self.rank * (site.in_dim + site.out_dim)

    def num_flops(self, site: Site, tokens: int) -> int:
        return low_rank_flops(site, tokens, self.rank)

    def build(self, site: Site) -> nn.Module:
        return Experts(self, site)


class Experts(Tuner):
    """The module of ExpertsConfig; a is (rank, in_dim), b is (out_dim, rank). Without dropout it is LoRA."""

    def __init__(self, config: ExpertsConfig, site: Site) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.a = nn.Parameter(torch.empty(config.rank, site.in_dim))
        self.b = zeros(site.out_dim, config.rank)
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        # A stream of its own: which experts are left out is a function of the training seed, and of nothing global.
        self._stream = torch.Generator().manual_seed(int(torch.randint(2**31, ())))

    def forward(self, x: Tensor, block: nn.Module) -> Tensor:
        del block
        h = F.linear(x, self.a)
        if self.training and self.dropout > 0:
            kept = torch.rand(h.shape[-1], generator=self._stream) >= self.dropout
            h = h * (kept.to(h) / (1 - self.dropout))
        return F.linear(h, self.b)

    def affine(self) -> tuple[Tensor | None, Tensor | None] | None:
        return self.b @ self.a, None
