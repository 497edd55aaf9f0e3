"""Scale and shift of an operation's output (SSF): OP(x) + γ ⊙ OP(x) + β, the sequential U(z) = γ ⊙ z + β."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from utuning_search.common.errors import InputError
from utuning_search.tuners.base import (
    LINEAR_OPERATIONS,
    NORM_OPERATIONS,
    OUTSIDE_OPERATIONS,
    TOKEN_OPERATIONS,
    Form,
    Operation,
    Tuner,
    TunerConfig,
    zeros,
)
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.references import IA3, SSF, Reference
from utuning_search.tuners.sites import Site


@dataclass(frozen=True)
class ScaleShiftConfig(TunerConfig):
    """Attributes: shift, whether there is a β. SSF's own scale is 1 + γ, which starts at one; (IA)³ has no β."""

    shift: bool = True

    kind: ClassVar[str] = "scale_shift"
    summary: ClassVar[str] = "γ ⊙ OP(x) + β, both start at zero; merges into the linear operation before it"
    references: ClassVar[tuple[Reference, ...]] = (SSF,)

    def __post_init__(self) -> None:
        if not isinstance(self.shift, bool):
            raise InputError(f"tuner '{self.kind}'", "shift is true or false", repr(self.shift))

    def cited(self, form: Form) -> tuple[Reference, ...]:
        del form
        return (SSF,) if self.shift else (IA3,)

    @property
    def operations(self) -> tuple[Operation, ...]:
        return TOKEN_OPERATIONS + NORM_OPERATIONS + LINEAR_OPERATIONS + OUTSIDE_OPERATIONS

    @property
    def forms(self) -> tuple[Form, ...]:
        return ("sequential",)

    @property
    def per_token(self) -> bool:
        return True

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
        return "scale-shift" if self.shift else "scaling"

    def num_parameters(self, site: Site) -> int:
        return (1 + self.shift) * site.out_dim

    def num_flops(self, site: Site, tokens: int) -> int:
        del site, tokens
        return 0  # elementwise

    def build(self, site: Site) -> nn.Module:
        return ScaleShift(self, site)


class ScaleShift(Tuner):
    """The module of ScaleShiftConfig; gamma and beta are (out_dim,)."""

    def __init__(self, config: ScaleShiftConfig, site: Site) -> None:
        super().__init__()
        self.gamma = zeros(site.out_dim)
        self.beta = zeros(site.out_dim) if config.shift else None

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        scaled = self.gamma * x
        return scaled if self.beta is None else scaled + self.beta

    def affine(self, weight: Tensor | None = None) -> tuple[Tensor | None, Tensor | None] | None:
        del weight
        return torch.diag(self.gamma), self.beta
