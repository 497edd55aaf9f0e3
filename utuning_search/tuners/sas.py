"""Shared and specific (SaS): U(h) = B A h + B_l A_l h, B A shared by all layers, B_l A_l made by a hypernetwork.

Of each layer's own is an embedding z_l alone: the shared hypernetwork, a linear map, makes A_l and B_l from it. The
abstract says so much (a shared module of low rank, a hypernetwork for what is a layer's own); the rest is our reading.
"""

from dataclasses import dataclass
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.tuners.at_norm import AtNormConfig
from utuning_search.tuners.base import Site, Tuner, check_count, zeros
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.low_rank import drawn
from utuning_search.tuners.references import SAS, Reference

MAX_EMBEDDING = 256


@dataclass(frozen=True)
class SasConfig(AtNormConfig):
    """Attributes: rank, of the shared module and of each layer's; embedding, the width of z_l."""

    embedding: int = 4

    kind: ClassVar[str] = "sas"
    summary: ClassVar[str] = "B A h + B_l A_l h behind a norm, B A shared, B_l A_l of a hypernetwork; merges"
    references: ClassVar[tuple[Reference, ...]] = (SAS,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.kind, "embedding", self.embedding, MAX_EMBEDDING)

    @property
    def label(self) -> str:
        return "SaS"

    @property
    def size_label(self) -> str:
        return f"r={self.rank} z={self.embedding}"

    def num_parameters(self, site: Site) -> int:
        del site
        return self.embedding

    def num_flops(self, site: Site, tokens: int) -> int:
        return 2 * super().num_flops(site, tokens)  # making A_l and B_l is elementwise

    def build(self, site: Site) -> nn.Module:
        return Sas(self, site)

    def shared_name(self, site: Site) -> str | None:
        return f"sas_{self.rank}_{self.embedding}_{site.in_dim}"

    def num_shared(self, site: Site) -> int:
        return (1 + self.embedding) * self.rank * (site.in_dim + site.out_dim)

    def build_shared(self, site: Site) -> nn.Module:
        return SharedModule(self, site)


class SharedModule(nn.Module):
    """What a design's SaS tuners share: a and b, the low-rank module, and the hypernetwork to_a and to_b.

    a is (rank, width), b (width, rank), to_a (rank, width, embedding), to_b (width, rank, embedding).
    """

    def __init__(self, config: SasConfig, site: Site) -> None:
        super().__init__()
        self.a, self.b = drawn(config.rank, site.in_dim), zeros(site.out_dim, config.rank)
        self.to_a = drawn(config.rank, site.in_dim, config.embedding)
        self.to_b = zeros(site.out_dim, config.rank, config.embedding)


class Sas(Tuner):
    """The module of SasConfig; z is (embedding,)."""

    def __init__(self, config: SasConfig, site: Site) -> None:
        super().__init__()
        self.shares = config.shared_name(site)
        self.z = nn.Parameter(torch.randn(config.embedding))
        self._shared: tuple[nn.Module, ...] = ()  # in a tuple, so that it is registered once, by the model

    def connect(self, shared: nn.Module) -> None:
        self._shared = (shared,)

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        a, b = self._specific()
        shared = self.shared
        return F.linear(F.linear(x, shared.a), shared.b) + F.linear(F.linear(x, a), b)

    def affine(self, weight: Tensor | None = None) -> tuple[Tensor | None, Tensor | None] | None:
        del weight
        a, b = self._specific()
        return self.shared.b @ self.shared.a + b @ a, None

    @property
    def shared(self) -> SharedModule:
        return cast(SharedModule, self._shared[0])

    def _specific(self) -> tuple[Tensor, Tensor]:
        """A_l and B_l."""
        return (self.shared.to_a * self.z).sum(-1), (self.shared.to_b * self.z).sum(-1)
