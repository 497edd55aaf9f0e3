"""Linear maps whose weight or bias a family keeps in several parts: one above the other, or biases by themselves."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from utuning_search.backbones.family import LinearMap, LinearPart


@dataclass(frozen=True)
class StackedLinear(LinearMap):
    """Modules that read the same input, and whose outputs stand one after another."""

    modules: tuple[nn.Linear, ...]

    @property
    def widths(self) -> tuple[int, int]:
        return self.modules[0].in_features, sum(m.out_features for m in self.modules)

    def weight(self) -> Tensor:
        return torch.cat([m.weight for m in self.modules])

    def bias(self) -> Tensor | None:
        own = [cast(Tensor | None, m.bias) for m in self.modules]
        if all(b is None for b in own):
            return None
        return torch.cat([m.weight.new_zeros(m.out_features) if m.bias is None else m.bias for m in self.modules])

    def assign(self, weight: Tensor, bias: Tensor) -> None:
        heights = [m.out_features for m in self.modules]
        for module, rows, constants in zip(self.modules, weight.split(heights), bias.split(heights), strict=True):
            module.weight = nn.Parameter(rows.clone(), requires_grad=False)
            module.bias = nn.Parameter(constants.clone(), requires_grad=False)


@dataclass(frozen=True)
class SplitBias(LinearMap):
    """Rows of an attention's `qkv` whose biases are `q_bias`, `k_bias` and `v_bias` beside it, that of keys all zeros.

    Another bias needs not be zero for the keys. So it becomes that of `qkv` itself, which timm's attention uses where
    it has no `q_bias`; from then on `LinearPart` tells of it.
    """

    attention: Any
    rows: slice

    @property
    def widths(self) -> tuple[int, int]:
        return LinearPart(self.attention.qkv, self.rows).widths

    def weight(self) -> Tensor:
        return LinearPart(self.attention.qkv, self.rows).weight()

    def bias(self) -> Tensor | None:
        return self._whole_bias()[self.rows]

    def assign(self, weight: Tensor, bias: Tensor) -> None:
        attention = self.attention
        attention.qkv.bias = nn.Parameter(self._whole_bias(), requires_grad=False)
        attention.q_bias = attention.k_bias = attention.v_bias = None
        LinearPart(attention.qkv, self.rows).assign(weight, bias)

    def _whole_bias(self) -> Tensor:
        attention = self.attention
        return torch.cat([attention.q_bias, attention.k_bias, attention.v_bias]).detach()
