"""What can be measured of a trained design, and how objectives ask for it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Measurement:
    """A design on the validation images, during its training or after it.

    Attributes:
        logits: fp32 (images, classes).
        labels: int64 (images,), on the same device.
        latency: Milliseconds an image takes the merged model in batches of 16; measured anew at each call.
        outliers: Logits of the task's unknown images, fp32 (images, classes), computed at each call; None where it
            names none.
    """

    logits: Tensor
    labels: Tensor
    latency: Callable[[], float]
    outliers: Callable[[], Tensor] | None = None


class Measure(Protocol):
    """A figure of merit by name; workers are sent it, so it can be pickled."""

    @property
    def name(self) -> str: ...

    @property
    def at_rungs(self) -> bool:
        """Whether it is measured at rungs too, or of finished trainings only."""
        ...

    def measure(self, measured: Measurement) -> float: ...
