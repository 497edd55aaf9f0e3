"""Vector-based random matrix adaptation (VeRA): U(x) = b ⊙ B (d ⊙ A x), A and B random, frozen and shared."""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.tuners.base import Form, Site, Tuner, zeros
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.low_rank import LowRankConfig, drawn
from utuning_search.tuners.references import VERA, Reference

START = 0.1  # of d, as in the paper


@dataclass(frozen=True)
class VeraConfig(LowRankConfig):
    """Attributes: rank, of the frozen pair."""

    kind: ClassVar[str] = "vera"
    summary: ClassVar[str] = "b ⊙ B (d ⊙ A x), A and B random, frozen and shared, b starts at zero; merges"
    references: ClassVar[tuple[Reference, ...]] = (VERA,)

    @property
    def forms(self) -> tuple[Form, ...]:
        return ("parallel",)  # the other forms would bring a pair of other widths

    @property
    def label(self) -> str:
        return "VeRA"

    def num_parameters(self, site: Site) -> int:
        return self.rank + site.out_dim

    def build(self, site: Site) -> nn.Module:
        return Vera(self, site)

    def shared_name(self, site: Site) -> str | None:
        return f"vera_{self.rank}_{site.in_dim}_{site.out_dim}"

    def build_shared(self, site: Site) -> nn.Module:
        return RandomPair(self.rank, site)


class RandomPair(nn.Module):
    """What maps of equal widths share and nobody trains; a is (rank, in_dim), b is (out_dim, rank).

    Both are kept with the trained numbers, so that an export does not hang on a random stream of some version of torch.
    """

    def __init__(self, rank: int, site: Site) -> None:
        super().__init__()
        self.register_buffer("a", drawn(rank, site.in_dim).detach())
        self.register_buffer("b", drawn(site.out_dim, rank).detach())


class Vera(Tuner):
    """The module of VeraConfig; d is (rank,), b is (out_dim,)."""

    def __init__(self, config: VeraConfig, site: Site) -> None:
        super().__init__()
        self.shares = config.shared_name(site)
        self.d = nn.Parameter(torch.full((config.rank,), START))
        self.b = zeros(site.out_dim)
        self._pair: tuple[nn.Module, ...] = ()  # in a tuple, so that it is registered once, by the model

    def connect(self, shared: nn.Module) -> None:
        self._pair = (shared,)

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        a, b = self._random()
        return self.b * F.linear(self.d * F.linear(x, a), b)

    def affine(self, weight: Tensor | None = None) -> tuple[Tensor | None, Tensor | None] | None:
        del weight
        a, b = self._random()
        return (self.b.unsqueeze(1) * b) @ (self.d.unsqueeze(1) * a), None

    def _random(self) -> tuple[Tensor, Tensor]:
        pair = self._pair[0]
        return cast(Tensor, pair.a), cast(Tensor, pair.b)
