"""What linear adapters behind a norm share: they read the normed tokens, and fold into the maps that read these."""

from dataclasses import dataclass

from utuning_search.tuners.base import NORM_OPERATIONS, Form, Operation
from utuning_search.tuners.low_rank import LowRankConfig


@dataclass(frozen=True)
class AtNormConfig(LowRankConfig):
    """h + U(h) instead of a norm's output h, U affine and of low rank; it starts at zero and merges.

    A kind adds its size.
    """

    @property
    def operations(self) -> tuple[Operation, ...]:
        return NORM_OPERATIONS

    @property
    def forms(self) -> tuple[Form, ...]:
        return ("sequential",)

    @property
    def mixes_channels(self) -> bool:
        return True
