"""What linear adapters behind a norm share: they read the normed tokens, and fold into the maps that read these."""

from dataclasses import dataclass

from utuning_search.tuners.base import NORM_OPERATIONS, Form, Operation, TunerConfig, check_count

MAX_RANK = 4096


@dataclass(frozen=True)
class AtNormConfig(TunerConfig):
    """h + U(h) instead of a norm's output h, U affine; it starts at zero and merges. A kind adds its size.

    Attributes:
        rank: From 1 to 4096.
    """

    rank: int

    def __post_init__(self) -> None:
        check_count(self.kind, "rank", self.rank, MAX_RANK)

    @property
    def operations(self) -> tuple[Operation, ...]:
        return NORM_OPERATIONS

    @property
    def forms(self) -> tuple[Form, ...]:
        return ("sequential",)

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
    def mixes_channels(self) -> bool:
        return True

    @property
    def size_label(self) -> str:
        return f"r={self.rank}"
