"""Weight-decomposed low-rank adaptation (DoRA): W' = m (W + B A) / ‖W + B A‖, a length m for each output."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from utuning_search.tuners.base import Site, check_count, zeros
from utuning_search.tuners.low_rank import MAX_RANK, drawn
from utuning_search.tuners.references import DORA, LORA, Reference
from utuning_search.tuners.weight import WeightConfig, WeightTuner, product_flops


@dataclass(frozen=True)
class DoraConfig(WeightConfig):
    """Attributes: rank, of B A."""

    rank: int

    kind: ClassVar[str] = "dora"
    summary: ClassVar[str] = "m (W + B A) / ‖W + B A‖ - W, B and the change of m start at zero; merges"
    references: ClassVar[tuple[Reference, ...]] = (DORA, LORA)

    def __post_init__(self) -> None:
        check_count(self.kind, "rank", self.rank, MAX_RANK)

    @property
    def label(self) -> str:
        return "DoRA"

    @property
    def size_label(self) -> str:
        return f"r={self.rank}"

    def num_parameters(self, site: Site) -> int:
        return self.rank * (site.in_dim + site.out_dim) + site.out_dim

    def num_flops(self, site: Site, tokens: int) -> int:
        return product_flops(site, tokens) + product_flops(site, self.rank)

    def build(self, site: Site) -> nn.Module:
        return Dora(self, site)


class Dora(WeightTuner):
    """The module of DoraConfig; a is (rank, in_dim), b (out_dim, rank), magnitude (out_dim,), the change of m."""

    def __init__(self, config: DoraConfig, site: Site) -> None:
        super().__init__(site)
        self.a = drawn(config.rank, site.in_dim)
        self.b = zeros(site.out_dim, config.rank)
        self.magnitude = zeros(site.out_dim)

    def change(self, weight: Tensor) -> Tensor:
        turned = weight + self.b @ self.a
        # No gradient goes through the length of what is turned (section 4.3 of the paper): less memory, equal results.
        length = turned.detach().norm(dim=1)
        gain = (weight.norm(dim=1) + self.magnitude) / length
        changed: Tensor = gain.unsqueeze(1) * turned
        return changed - weight
