"""LayerNorm tuning: learned changes of the weight and bias of the norm before attention or MLP."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.common.errors import BackboneError
from utuning_search.tuners.base import Form, InsideTuner, Operation, TunerConfig, zeros
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.references import LN_TUNING, Reference
from utuning_search.tuners.sites import Site


@dataclass(frozen=True)
class NormConfig(TunerConfig):
    """No options. At `attention` and at `mlp` it tunes the norm before it."""

    kind: ClassVar[str] = "norm"
    summary: ClassVar[str] = "changes of the LayerNorm's weight and bias, start at zero; merges into them"
    references: ClassVar[tuple[Reference, ...]] = (LN_TUNING,)

    @property
    def operations(self) -> tuple[Operation, ...]:
        return ("attention", "mlp")

    @property
    def forms(self) -> tuple[Form, ...]:
        return ("inside",)

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
    def changes_norm(self) -> bool:
        return True

    @property
    def label(self) -> str:
        return "norm"

    def num_parameters(self, site: Site) -> int:
        return 2 * site.in_dim

    def num_flops(self, site: Site, tokens: int) -> int:
        del site, tokens
        return 0  # elementwise

    def build(self, site: Site) -> nn.Module:
        return Norm(site)


class Norm(InsideTuner):
    """The module of NormConfig; weight and bias are (dim,) changes, not values."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.weight = zeros(site.in_dim)
        self.bias = zeros(site.in_dim)

    def normalise(self, norm: nn.Module, x: Tensor) -> Tensor:
        weight, bias, eps, shape = _affine(norm)
        return F.layer_norm(x, shape, weight + self.weight, bias + self.bias, eps)

    def fold(self, block: FrozenBlock, operation: Operation) -> bool:
        weight, bias, _, _ = _affine(block.norm(operation))
        with torch.no_grad():
            weight += self.weight
            bias += self.bias
        return True


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor, float, list[int]]:
    if not isinstance(norm, nn.LayerNorm) or norm.weight is None or norm.bias is None:
        raise BackboneError(
            "tuner 'norm'", "the backbone's norms are LayerNorm with weight and bias", type(norm).__name__
        )
    return norm.weight, norm.bias, norm.eps, list(norm.normalized_shape)
