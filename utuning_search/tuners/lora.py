"""Low-rank adaptation of a linear operation: U(x) = B A x."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
from utuning_search.tuners.references import LORA, Reference
from utuning_search.tuners.sites import Site

MAX_RANK = 4096


@dataclass(frozen=True)
class LoraConfig(TunerConfig):
    """Attributes: rank. The paper's alpha / rank is a constant scale of the placement."""

    rank: int

    kind: ClassVar[str] = "lora"
    summary: ClassVar[str] = "B A x, B starts at zero; merges into the frozen weight"
    references: ClassVar[tuple[Reference, ...]] = (LORA,)

    def __post_init__(self) -> None:
        check_count(self.kind, "rank", self.rank, MAX_RANK)

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
        return "LoRA"

    @property
    def size_label(self) -> str:
        return f"r={self.rank}"

    def num_parameters(self, site: Site) -> int:
        return self.rank * (site.in_dim + site.out_dim)

    def num_flops(self, site: Site, tokens: int) -> int:
        return low_rank_flops(site, tokens, self.rank)

    def build(self, site: Site) -> nn.Module:
        return Lora(self, site)


class Lora(Tuner):
    """The module of LoraConfig; a is (rank, in_dim), b is (out_dim, rank)."""

    def __init__(self, config: LoraConfig, site: Site) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(config.rank, site.in_dim))
        self.b = zeros(site.out_dim, config.rank)
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor, block: nn.Module) -> Tensor:
        del block
        return F.linear(F.linear(x, self.a), self.b)

    def affine(self) -> tuple[Tensor | None, Tensor | None] | None:
        return self.b @ self.a, None
