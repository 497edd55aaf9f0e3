"""What sums of Kronecker products share: Σ_i A_i ⊗ s_i t_iᵀ, the A_i shared by the whole design.

Widths that are no multiple of the number of terms are rounded up, and what is too much is cut off.
"""

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from utuning_search.tuners.base import Site, Tuner, check_count, zeros
from utuning_search.tuners.low_rank import LowRankConfig, drawn

MAX_TERMS = 256


@dataclass(frozen=True)
class KroneckerSumConfig(LowRankConfig):
    """A tuner of Kronecker sums, which starts at zero; a kind redefines what differs.

    Attributes:
        terms: Number of products, which is also the width of each A_i; from 1 to 256.
    """

    terms: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.kind, "terms", self.terms, MAX_TERMS)

    @property
    def size_label(self) -> str:
        return f"r={self.rank} terms={self.terms}"

    def shared_name(self, site: Site) -> str | None:
        del site
        return f"{self.kind}_{self.rank}_{self.terms}"

    def num_shared(self, site: Site) -> int:
        del site
        return int(self.terms**3)

    def build_shared(self, site: Site) -> nn.Module:
        del site
        return Rules(self.terms)


class Rules(nn.Module):
    """What a design's Kronecker sums share; a is (terms, terms, terms), one A_i each."""

    def __init__(self, terms: int) -> None:
        super().__init__()
        self.a = drawn(terms, terms, terms)


class KroneckerTuner(Tuner):
    """The base of modules that are made of Kronecker sums."""

    def __init__(self, config: KroneckerSumConfig, site: Site) -> None:
        super().__init__()
        self.shares = config.shared_name(site)
        self._rules: tuple[nn.Module, ...] = ()  # in a tuple, so that they are registered once, by the model

    def connect(self, shared: nn.Module) -> None:
        self._rules = (shared,)

    @property
    def rules(self) -> Tensor:
        """The A_i, (terms, terms, terms)."""
        return cast(Rules, self._rules[0]).a


class KroneckerSum(nn.Module):
    """The numbers of a map's own of Σ_i A_i ⊗ s_i t_iᵀ, (outputs, inputs); s is zero at first where `zero` says so."""

    def __init__(self, terms: int, rank: int, inputs: int, outputs: int, *, zero: bool) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.s = (zeros if zero else drawn)(terms, -(-outputs // terms), rank)
        self.t = drawn(terms, rank, -(-inputs // terms))

    def matrix(self, rules: Tensor) -> Tensor:
        """The sum with A_i of (terms, terms, terms)."""
        small = (self.s @ self.t).flatten(1)
        blocks = rules.flatten(1).T @ small  # (terms², outputs / terms * inputs / terms)
        shape = rules.shape[1], rules.shape[2], self.s.shape[1], self.t.shape[2]
        whole = blocks.view(shape).transpose(1, 2).flatten(2, 3).flatten(0, 1)
        return whole[: self.outputs, : self.inputs]


def sum_size(terms: int, rank: int, inputs: int, outputs: int) -> int:
    """Number of parameters of a `KroneckerSum`."""
    return terms * rank * (-(-outputs // terms) - (-inputs // terms))


def sum_flops(terms: int, rank: int, inputs: int, outputs: int) -> int:
    """FLOPs of `KroneckerSum.matrix`."""
    area = -(-outputs // terms) * -(-inputs // terms)
    return 2 * terms * area * (rank + terms**2)
