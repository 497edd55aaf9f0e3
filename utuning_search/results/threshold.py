"""From which probability on a tuner's answer counts: below it an image is unknown."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from utuning_search.common.errors import InputError
from utuning_search.common.toml import build

UNKNOWN = "unknown"  # what is answered then, and what its table in tuner.toml is called


@dataclass(frozen=True)
class Threshold:
    """Below which largest probability an image is unknown, and how it was chosen.

    Attributes:
        probability: The threshold.
        rate: Share of the validation images that may be below it.
        images: How many these are.
        trained_on: Whether the exported weights were trained on them too: fresh images are below it more often.
        test_rate: Share of the test images that is below it, of these very weights; -1 where it is not known.
    """

    probability: float
    rate: float
    images: int
    trained_on: bool
    test_rate: float = -1.0

    def __post_init__(self) -> None:
        for name in ("probability", "rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(name, f"{name} is from 0 to 1", getattr(self, name))

    def to_dict(self) -> dict[str, Any]:
        """The table in tuner.toml; without what is not known."""
        return {name: value for name, value in asdict(self).items() if name != "test_rate" or value >= 0}

    @classmethod
    def from_dict(cls, table: object, where: str) -> "Threshold":
        """The threshold of `to_dict`.

        Raises:
            InputError: It is none.
        """
        if isinstance(table, Mapping):  # what a later version adds says nothing here
            known = {f.name for f in fields(cls)}
            table = {name: value for name, value in table.items() if name in known}
        return build(cls, table, where)

    def __str__(self) -> str:
        seen = ", which these weights were trained on," if self.trained_on else ""
        test = "" if self.test_rate < 0 else f"; of the test images {100 * self.test_rate:.1f}%"
        return (
            f"an image is unknown below a probability of {self.probability:.4f}: at most {100 * self.rate:g}% of the "
            f"{self.images:,} validation images{seen} are{test}"
        )
