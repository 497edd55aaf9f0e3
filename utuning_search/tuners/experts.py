"""LoRA as rank-1 experts with expert dropout (MLAE): U(x) = Σ_i m_i b_i (a_i x)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.common.errors import InputError
from utuning_search.tuners.base import Site
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.low_rank import LowRankConfig, Pair
from utuning_search.tuners.references import LORA, MLAE, Reference


@dataclass(frozen=True)
class ExpertsConfig(LowRankConfig):
    """Attributes: rank, the number of rank-1 experts; dropout, the share of them left out in a training step."""

    dropout: float = 0.5

    kind: ClassVar[str] = "experts"
    summary: ClassVar[str] = "B A x as rank-1 experts, each left out at random while training; merges"
    references: ClassVar[tuple[Reference, ...]] = (MLAE, LORA)

    def __post_init__(self) -> None:
        super().__post_init__()
        rate = self.dropout
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate < 1:
            raise InputError(f"tuner '{self.kind}'", "dropout is a number in [0, 1)", repr(rate))
        object.__setattr__(self, "dropout", float(rate))

    @property
    def label(self) -> str:
        return "LoRA experts"

    @property
    def size_label(self) -> str:
        return f"r={self.rank} dropout={self.dropout:g}"

    def build(self, site: Site) -> nn.Module:
        return Experts(self, site)


class Experts(Pair):
    """The module of ExpertsConfig. Without dropout it is LoRA."""

    def __init__(self, config: ExpertsConfig, site: Site) -> None:
        super().__init__(config, site)
        self.dropout = config.dropout
        # A stream of its own: which experts are left out is a function of the training seed, and of nothing global.
        self._stream = torch.Generator().manual_seed(int(torch.randint(2**31, ())))

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        del block
        h = F.linear(x, self.a)
        if self.training and self.dropout > 0:
            kept = torch.rand(h.shape[-1], generator=self._stream) >= self.dropout
            h = h * (kept.to(h) / (1 - self.dropout))
        return F.linear(h, self.b)
