"""A learned bias on an operation's output (BitFit, one operation at a time): U(x) = b."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

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
from utuning_search.tuners.references import BITFIT, Reference
from utuning_search.tuners.sites import Site


@dataclass(frozen=True)
class BiasConfig(TunerConfig):
    """No options."""

    kind: ClassVar[str] = "bias"
    summary: ClassVar[str] = "b, starts at zero; merges into the frozen bias"
    references: ClassVar[tuple[Reference, ...]] = (BITFIT,)

    @property
    def operations(self) -> tuple[Operation, ...]:
        # A bias of all keys shifts each query's logits alike, and softmax does not see it: nothing to learn at `k`.
        linear = tuple(o for o in LINEAR_OPERATIONS if o != "k")
        return TOKEN_OPERATIONS + NORM_OPERATIONS + linear + OUTSIDE_OPERATIONS

    @property
    def forms(self) -> tuple[Form, ...]:
        return ("parallel",)  # U is constant, so every form is the same function

    @property
    def per_token(self) -> bool:
        return True

    @property
    def starts_at_zero(self) -> bool:
        return True

    @property
    def scalable(self) -> bool:
        return False

    @property
    def mergeable(self) -> bool:
        return True

    @property
    def is_constant(self) -> bool:
        return True

    def num_parameters(self, site: Site) -> int:
        return site.out_dim

    def num_flops(self, site: Site, tokens: int) -> int:
        del site, tokens
        return 0  # elementwise

    def build(self, site: Site) -> nn.Module:
        return Bias(site)


class Bias(Tuner):
    """The module of BiasConfig; bias is (out_dim,)."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.bias = zeros(site.out_dim)

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        return self.bias.expand(*x.shape[:-1], -1)

    def affine(self, weight: Tensor | None = None) -> tuple[Tensor | None, Tensor | None] | None:
        del weight
        return None, self.bias
