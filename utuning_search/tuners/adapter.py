"""Bottleneck adapter: U(x) = W_up act(W_down x)."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.tuners.base import (
    ADDITIVE_FORMS,
    CORE_OPERATIONS,
    LINEAR_OPERATIONS,
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
from utuning_search.tuners.references import ADAPTER, RES_TUNING, U_TUNING, UNIFIED_VIEW, Reference
from utuning_search.tuners.sites import Site

MAX_RANK = 4096
ACTIVATIONS = ("gelu", "relu")


@dataclass(frozen=True)
class AdapterConfig(TunerConfig):
    """Attributes: rank, the bottleneck width; activation, "gelu" or "relu"."""

    rank: int
    activation: str = "gelu"

    kind: ClassVar[str] = "adapter"
    summary: ClassVar[str] = "W_up act(W_down x), W_up starts at zero"
    references: ClassVar[tuple[Reference, ...]] = (ADAPTER, UNIFIED_VIEW, U_TUNING, RES_TUNING)

    def __post_init__(self) -> None:
        check_count(self.kind, "rank", self.rank, MAX_RANK)
        check_choice(self.kind, "activation", self.activation, ACTIVATIONS)

    @property
    def operations(self) -> tuple[Operation, ...]:
        return TOKEN_OPERATIONS + CORE_OPERATIONS + LINEAR_OPERATIONS

    @property
    def forms(self) -> tuple[Form, ...]:
        return ADDITIVE_FORMS

    def forms_at(self, operation: Operation) -> tuple[Form, ...]:
        forms = super().forms_at(operation)
        return (*forms, "bypass") if operation == "block" else forms

    def cited(self, form: Form) -> tuple[Reference, ...]:
        by_form: dict[Form, tuple[Reference, ...]] = {
            "parallel": (UNIFIED_VIEW, U_TUNING),
            "sequential": (ADAPTER,),
            "bypass": (RES_TUNING,),
        }
        return by_form.get(form, (ADAPTER, UNIFIED_VIEW, U_TUNING))

    @property
    def per_token(self) -> bool:
        return True

    @property
    def starts_at_zero(self) -> bool:
        return True

    @property
    def size_label(self) -> str:
        return f"r={self.rank}" + ("" if self.activation == "gelu" else f" {self.activation}")

    def num_parameters(self, site: Site) -> int:
        return self.rank * (site.in_dim + site.out_dim + 1) + site.out_dim

    def num_flops(self, site: Site, tokens: int) -> int:
        return low_rank_flops(site, tokens, self.rank)

    def build(self, site: Site) -> nn.Module:
        return Adapter(self, site)


class Adapter(Tuner):
    """The module of AdapterConfig."""

    def __init__(self, config: AdapterConfig, site: Site) -> None:
        super().__init__()
        self.down = nn.Linear(site.in_dim, config.rank)
        self.up = nn.Linear(config.rank, site.out_dim)
        self.act = F.gelu if config.activation == "gelu" else F.relu
        nn.init.xavier_uniform_(self.down.weight)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        out: Tensor = self.up(self.act(self.down(x)))
        return out
