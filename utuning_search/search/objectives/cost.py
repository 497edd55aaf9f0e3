"""What a design costs: trainable parameters, FLOPs and latency of inference."""

from typing import ClassVar

from utuning_search.common.counts import short
from utuning_search.designs.design import Design
from utuning_search.designs.flops import num_flops
from utuning_search.search.objectives.base import Direction, ExactObjective, MeasuredObjective, Setting
from utuning_search.training.measurement import Measurement


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
        return short(value)


class Flops(ExactObjective):
    """Floating point operations of inference: one image through the merged model, head included.

    By the convention of `designs/flops.py`: two a multiply-add. What merges into the frozen weights costs nothing.
    """

    name: ClassVar[str] = "flops"
    label: ClassVar[str] = "FLOPs an image, merged"
    direction: ClassVar[Direction] = "minimize"
    unit: ClassVar[str] = "FLOPs"
    log: ClassVar[bool] = True

    def value(self, design: Design, setting: Setting) -> float:
        return float(num_flops(design, setting.shape, setting.num_classes))

    def bounds(self, setting: Setting) -> tuple[float, float]:
        """From twice the linear probe's to the linear probe's: the frozen backbone is paid for in any case."""
        least = self.value(Design(), setting)
        return 2 * least, least

    def short(self, value: float) -> str:
        return short(value)


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
    return setting.shape.parameters + (setting.shape.num_features + 1) * setting.num_classes
