"""How many blocks a design tunes: the fewer, the more of a backbone can be shared, cached or served as it is."""

from typing import ClassVar

from utuning_search.designs.design import Design
from utuning_search.search.objectives.base import Direction, ExactObjective, Setting


class TunedBlocks(ExactObjective):
    """Blocks with a tuner, from 0 to the depth of the backbone."""

    name: ClassVar[str] = "tuned_blocks"
    label: ClassVar[str] = "blocks with a tuner"
    direction: ClassVar[Direction] = "minimize"
    unit: ClassVar[str] = "blocks"

    def value(self, design: Design, setting: Setting) -> float:
        del setting
        return float(len({block for placement in design.placements for block in placement.block_numbers()}))

    def bounds(self, setting: Setting) -> tuple[float, float]:
        """(worst, best): every block, and none, which is a linear probe."""
        return float(setting.shape.depth), 0.0
