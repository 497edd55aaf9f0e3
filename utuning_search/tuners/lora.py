"""Low-rank adaptation of a linear operation: U(x) = B A x."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.tuners.base import Site
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.low_rank import LowRankConfig, Pair
from utuning_search.tuners.references import LORA, Reference


@dataclass(frozen=True)
class LoraConfig(LowRankConfig):
    """Attributes: rank. The paper's alpha / rank is a constant scale of the placement."""

    kind: ClassVar[str] = "lora"
    summary: ClassVar[str] = "B A x, B starts at zero; merges into the frozen weight"
    references: ClassVar[tuple[Reference, ...]] = (LORA,)

    @property
    def label(self) -> str:
        return "LoRA"

    def build(self, site: Site) -> nn.Module:
        return Lora(self, site)


class Lora(Pair):
    """The module of LoraConfig."""

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        return F.linear(F.linear(x, self.a), self.b)
