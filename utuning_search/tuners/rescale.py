"""Rescaling of a frozen weight: W' = W + l ⊙ W ⊙ r by rows and columns (RLRR), or W ⊙ (1 + r) by columns ((IA)³)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from utuning_search.tuners.base import Site, check_choice, zeros
from utuning_search.tuners.references import IA3, RLRR, Reference
from utuning_search.tuners.weight import WeightConfig, WeightTuner, product_flops

SIDES = ("both", "inputs")


@dataclass(frozen=True)
class RescaleConfig(WeightConfig):
    """Attributes: sides, "both" for rows and columns, "inputs" for columns alone, which scales what the map reads.

    Rows alone scale the map's output, but for its bias, as `scale_shift` does.
    """

    sides: str = "both"

    kind: ClassVar[str] = "rescale"
    summary: ClassVar[str] = "l ⊙ W ⊙ r by rows and columns, l starts at zero; merges into the frozen weight"
    references: ClassVar[tuple[Reference, ...]] = (RLRR, IA3)

    def __post_init__(self) -> None:
        check_choice(self.kind, "sides", self.sides, SIDES)

    @property
    def label(self) -> str:
        return "rescaling" if self.sides == "both" else "rescaling of inputs"

    def num_parameters(self, site: Site) -> int:
        return site.in_dim + (site.out_dim if self.sides == "both" else 0)

    def num_flops(self, site: Site, tokens: int) -> int:
        return product_flops(site, tokens)

    def build(self, site: Site) -> nn.Module:
        return Rescale(self, site)


class Rescale(WeightTuner):
    """The module of RescaleConfig; rows is (out_dim, 1), starting at zero, columns is (in_dim,)."""

    def __init__(self, config: RescaleConfig, site: Site) -> None:
        super().__init__(site)
        both = config.sides == "both"
        self.rows = zeros(site.out_dim, 1) if both else None
        self.columns = nn.Parameter(torch.ones(site.in_dim)) if both else zeros(site.in_dim)

    def change(self, weight: Tensor) -> Tensor:
        scaled = weight * self.columns
        return scaled if self.rows is None else self.rows * scaled
