"""What tuners that change a frozen weight as a whole share: W' instead of W, written as U(x) = (W' - W) x.

So a multiplication, a rotation or a normalisation of the weight is a parallel tuner like any other. It computes with
the frozen weight, which is not its own and is never copied.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import cast

import torch.nn.functional as F
from torch import Tensor

from utuning_search.tuners.base import LINEAR_OPERATIONS, Form, Operation, Site, Tuner, TunerConfig
from utuning_search.tuners.frozen_block import FrozenBlock


@dataclass(frozen=True)
class WeightConfig(TunerConfig):
    """A change of a linear operation's weight that starts at zero and merges; a kind adds its options and size."""

    @property
    def operations(self) -> tuple[Operation, ...]:
        return LINEAR_OPERATIONS

    @property
    def forms(self) -> tuple[Form, ...]:
        return ("parallel",)  # W' - W reads what W reads

    @property
    def per_token(self) -> bool:
        return True

    @property
    def starts_at_zero(self) -> bool:
        return True

    @property
    def scalable(self) -> bool:
        return False  # s (W' - W) is no longer a multiple or a rotation of W

    @property
    def mergeable(self) -> bool:
        return True

    @property
    def reads_weight(self) -> bool:
        return True


class WeightTuner(Tuner):
    """The module of a WeightConfig."""

    reads_weight = True

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.operation = cast(Operation, site.operation)

    @abstractmethod
    def change(self, weight: Tensor) -> Tensor:
        """W' - W for the frozen weight W, both (out_dim, in_dim)."""

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        return F.linear(x, self.change(block.weight(self.operation)))

    def affine(self, weight: Tensor | None = None) -> tuple[Tensor | None, Tensor | None] | None:
        return self.change(cast(Tensor, weight)), None


def product_flops(site: Site, tokens: int) -> int:
    """FLOPs of one product of tokens and a matrix of the weight's shape."""
    return 2 * tokens * site.in_dim * site.out_dim
