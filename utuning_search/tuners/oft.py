"""Orthogonal fine-tuning (OFT): W' = W Rᵀ, R a block-diagonal rotation by Cayley's transform of skew matrices.

The rows of W are the paper's neurons; its W is transposed, so that this is its R W. All of them are turned alike, which
keeps the angles between them.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from utuning_search.tuners.base import Site, check_count, zeros
from utuning_search.tuners.references import OFT, Reference
from utuning_search.tuners.weight import WeightConfig, WeightTuner, product_flops

MAX_PARTS = 4096


@dataclass(frozen=True)
class OftConfig(WeightConfig):
    """Attributes: parts, the number of equal parts that the inputs are cut into, each with a rotation of its own.

    A part has two inputs at least; inputs that are left over where the width is no multiple stay as they are.
    """

    parts: int

    kind: ClassVar[str] = "oft"
    summary: ClassVar[str] = "W (R - I)ᵀ, R a rotation in each part of the inputs, R starts at I; merges"
    references: ClassVar[tuple[Reference, ...]] = (OFT,)

    def __post_init__(self) -> None:
        check_count(self.kind, "parts", self.parts, MAX_PARTS)

    @property
    def label(self) -> str:
        return "OFT"

    @property
    def size_label(self) -> str:
        return f"parts={self.parts}"

    def num_parameters(self, site: Site) -> int:
        count, size = _cut(self.parts, site)
        return count * (size * (size - 1) // 2)

    def num_flops(self, site: Site, tokens: int) -> int:
        count, size = _cut(self.parts, site)
        return product_flops(site, tokens) + 2 * count * size**2 * site.out_dim

    def build(self, site: Site) -> nn.Module:
        return Oft(self, site)


def _cut(parts: int, site: Site) -> tuple[int, int]:
    """How many rotations there are, and how many inputs each turns."""
    size = max(site.in_dim // parts, 2)
    return site.in_dim // size, size


class Oft(WeightTuner):
    """The module of OftConfig; angles is (rotations, size (size - 1) / 2), the upper triangles of skew matrices."""

    def __init__(self, config: OftConfig, site: Site) -> None:
        super().__init__(site)
        self.count, self.size = _cut(config.parts, site)
        self.angles = zeros(self.count, self.size * (self.size - 1) // 2)

    def change(self, weight: Tensor) -> Tensor:
        rows, columns = torch.triu_indices(self.size, self.size, 1, device=weight.device)
        half = torch.zeros(self.count, self.size, self.size, dtype=self.angles.dtype, device=weight.device)
        half = half.index_put((torch.arange(self.count, device=weight.device)[:, None], rows, columns), self.angles)
        skew = half - half.transpose(1, 2)
        eye = torch.eye(self.size, dtype=skew.dtype, device=weight.device)
        # ONNX knows no solver; what is traced for an export eliminates by hand.
        solve = eliminated if torch.compiler.is_exporting() else torch.linalg.solve
        turn = solve(eye + skew, eye - skew) - eye  # R - I, exactly zero for angles of zero
        turned = self.count * self.size
        parts = weight[:, :turned].unflatten(1, (self.count, self.size)).transpose(0, 1)  # (count, out_dim, size)
        changed = (parts @ turn.transpose(1, 2)).transpose(0, 1).flatten(1)
        return nn.functional.pad(changed, (0, weight.shape[1] - turned))


def eliminated(a: Tensor, b: Tensor) -> Tensor:
    """a^-1 b for (count, size, size), a = I + a skew-symmetric matrix, whose pivots never vanish."""
    joined = torch.cat([a, b], dim=2)
    for i in range(a.shape[1]):
        row = joined[:, i : i + 1] / joined[:, i : i + 1, i : i + 1]
        others = joined[:, :, i : i + 1].clone()
        others[:, i] = 0
        joined = joined - others * row
        joined = torch.cat([joined[:, :i], row, joined[:, i + 1 :]], dim=1)
    return joined[:, :, a.shape[2] :]
