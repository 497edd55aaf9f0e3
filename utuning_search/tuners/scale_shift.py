"""Scale and shift of an operation's output (SSF): OP(x) + γ ⊙ OP(x) + β, the sequential U(z) = γ ⊙ z + β."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from utuning_search.tuners.base import (
    LINEAR_OPERATIONS,
    NORM_OPERATIONS,
    TOKEN_OPERATIONS,
    Form,
    Operation,
    Tuner,
    TunerConfig,
    zeros,
)
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.references import SSF, Reference
from utuning_search.tuners.sites import Site


@dataclass(frozen=True)
class ScaleShiftConfig(TunerConfig):
    """No options. SSF's own scale is 1 + γ, which starts at one."""

    kind: ClassVar[str] = "scale_shift"
    summary: ClassVar[str] = "γ ⊙ OP(x) + β, both start at zero; merges into the linear operation before it"
    references: ClassVar[tuple[Reference, ...]] = (SSF,)

    @property
    def operations(self) -> tuple[Operation, ...]:
        return TOKEN_OPERATIONS + NORM_OPERATIONS + LINEAR_OPERATIONS

    @property
    def forms(self) -> tuple[Form, ...]:
        return ("sequential",)

    @property
    def starts_at_zero(self) -> bool:
        return True

    @property
    def scalable(self) -> bool:
        return False  # a scale before γ and β would only rename them

    @property
    def mergeable(self) -> bool:
        return True

    @property
    def label(self) -> str:
        return "scale-shift"

    def num_parameters(self, site: Site) -> int:
        return 2 * site.out_dim

    def num_flops(self, site: Site, tokens: int) -> int:
        del site, tokens
        return 0  # elementwise

    def build(self, site: Site) -> nn.Module:
        return ScaleShift(site)


class ScaleShift(Tuner):
    """The module of ScaleShiftConfig; gamma and beta are (out_dim,)."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.gamma = zeros(site.out_dim)
        self.beta = zeros(site.out_dim)

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        return self.gamma * x + self.beta

    def affine(self) -> tuple[Tensor | None, Tensor | None] | None:
        return torch.diag(self.gamma), self.beta
