"""What tuners of low rank at linear operations share: claims of their configs, and the pair of matrices B A."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from utuning_search.tuners.base import (
    ADDITIVE_FORMS,
    LINEAR_OPERATIONS,
    Form,
    Operation,
    Site,
    Tuner,
    TunerConfig,
    check_count,
    low_rank_flops,
    zeros,
)

MAX_RANK = 4096


@dataclass(frozen=True)
class LowRankConfig(TunerConfig):
    """A change of low rank to a linear operation, which starts at zero and merges; a kind redefines what differs.

    Attributes:
        rank: From 1 to 4096.
    """

    rank: int

    def __post_init__(self) -> None:
        check_count(self.kind, "rank", self.rank, MAX_RANK)

    @property
    def operations(self) -> tuple[Operation, ...]:
        return LINEAR_OPERATIONS

    @property
    def forms(self) -> tuple[Form, ...]:
        return ADDITIVE_FORMS

    @property
    def per_token(self) -> bool:
        return True

    @property
    def starts_at_zero(self) -> bool:
        return True

    @property
    def mergeable(self) -> bool:
        return True

    @property
    def size_label(self) -> str:
        return f"r={self.rank}"

    def num_parameters(self, site: Site) -> int:
        """Of the pair B A."""
        return self.rank * (site.in_dim + site.out_dim)

    def num_flops(self, site: Site, tokens: int) -> int:
        """Of the pair B A."""
        return low_rank_flops(site, tokens, self.rank)


class Pair(Tuner):
    """U(x) = B A x, or what is that once it is trained; a is (rank, in_dim), b is (out_dim, rank)."""

    def __init__(self, config: LowRankConfig, site: Site) -> None:
        super().__init__()
        self.a = drawn(config.rank, site.in_dim)
        self.b = zeros(site.out_dim, config.rank)

    def affine(self, weight: Tensor | None = None) -> tuple[Tensor | None, Tensor | None] | None:
        del weight
        return self.b @ self.a, None


def drawn(*shape: int) -> nn.Parameter:
    """A trainable tensor of random numbers, as those of a fresh linear layer."""
    parameter = nn.Parameter(torch.empty(*shape))
    nn.init.kaiming_uniform_(parameter, a=math.sqrt(5))
    return parameter
