"""What a design costs: trainable parameters, FLOPs and latency of inference."""

from typing import ClassVar

from utuning_search.designs.design import Design
from utuning_search.search.objectives.base import Direction, ExactObjective, MeasuredObjective, Setting
from utuning_search.training.measurement import Measurement


def short_count(value: float) -> str:
    """A count in the field's shorthand: 650, 1.8k, 25k, 0.27M, 1.2G."""
    if value >= 1e8:
        return f"{value / 1e9:.2f}".rstrip("0").rstrip(".") + "G"
    if value >= 1e5:
        return f"{value / 1e6:.2f}".rstrip("0").rstrip(".") + "M"
    return f"{value / 1e3:.1f}".rstrip("0").rstrip(".") + "k" if value >= 1e3 else f"{value:.0f}"


class Parameters(ExactObjective):
    """Trainable parameters, head included."""

    name: ClassVar[str] = "parameters"
    label: ClassVar[str] = "trainable parameters, head included"
    direction: ClassVar[Direction] = "minimize"
    unit: ClassVar[str] = "parameters"
    log: ClassVar[bool] = True

    def value(self, design: Design, setting: Setting) -> float:
        return float(design.num_parameters(setting.shape, setting.num_classes))

    def bounds(self, setting: Setting) -> tuple[float, float]:
        """From full fine-tuning, head included, to a single parameter."""
        return float(full_fine_tuning(setting)), 1.0

    def short(self, value: float) -> str:
        return short_count(value)


class Latency(MeasuredObjective):
    """Milliseconds an image takes the merged model on the device that trained it, in batches of 16.

    It is measured, so it depends on the machine and what else it does, and two studies compare on one machine only.
    """

    name: ClassVar[str] = "latency"
    label: ClassVar[str] = "latency (ms an image, merged)"
    direction: ClassVar[Direction] = "minimize"
    unit: ClassVar[str] = "ms"
    log: ClassVar[bool] = True
    at_rungs: ClassVar[bool] = False  # training does not change it

    def measure(self, measured: Measurement) -> float:
        return measured.latency()

    def bounds(self, setting: Setting) -> tuple[float, float]:
        """From 10 s to a microsecond: whatever the device, it lies within."""
        del setting
        return 1e4, 1e-3

    def text(self, value: float) -> str:
        return f"{value:.3g} ms"


def full_fine_tuning(setting: Setting) -> int:
    """Trainable parameters of full fine-tuning, head included."""
    return setting.shape.parameters + (setting.shape.dim + 1) * setting.num_classes
