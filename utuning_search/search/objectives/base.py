"""What an objective is: a figure of merit by name, known exactly before training or measured after it.

To add one, extend `ExactObjective` or `MeasuredObjective` and name the class as an entry point of the group
`utuning_search.objectives`. It is made without arguments, is pickled to worker processes, and has no state.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from utuning_search.designs.design import Design
from utuning_search.training.measurement import Measurement
from utuning_search.tuners import BackboneShape

Direction = Literal["maximize", "minimize"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """What exact objectives and bounds depend on besides the design.

    Attributes:
        shape: Of the backbone.
        num_classes: Of the task: the width of the head.
    """

    shape: BackboneShape
    num_classes: int


class Objective(ABC):
    """A figure of merit.

    Attributes:
        name: On the command line, in specs and as a column of tables: a word of a-z, 0-9 and _.
        label: On the axis of a picture, such as "trainable parameters, head included".
        direction: "maximize" or "minimize".
        unit: Of a value, such as "parameters"; empty for a share in [0, 1], which is shown as a percentage.
        log: Whether values are compared by their logarithm: on axes, in the hypervolume and for the knee.
        exact: Whether it is known before training. Only exact objectives decide limits and peers.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    direction: ClassVar[Direction]
    unit: ClassVar[str] = ""
    log: ClassVar[bool] = False
    exact: ClassVar[bool]

    @abstractmethod
    def bounds(self, setting: Setting) -> tuple[float, float]:
        """(worst, best) value that counts in the hypervolume: the same for every study of a setting."""

    def goodness(self, values: npt.ArrayLike, setting: Setting) -> Floats:
        """Values (n,) as places between the bounds: 0 is the worst, 1 the best; beyond them below 0 or above 1."""
        worst, best = self.bounds(setting)
        found = np.asarray(values, dtype=np.float64)
        if self.log:
            worst, best, found = np.log10(worst), np.log10(best), np.log10(found)
        placed: Floats = (found - worst) / (best - worst)
        return placed

    def gain(self, value: float) -> float:
        """The value, negated where it is minimized: the more the better."""
        return value if self.direction == "maximize" else -value

    def text(self, value: float) -> str:
        """A value as a table shows it."""
        return f"{100 * value:.2f}%" if not self.unit else f"{value:,.0f}"

    def short(self, value: float) -> str:
        """A value as a picture's axis shows it."""
        return f"{100 * value:g}" if not self.unit else f"{value:g}"


class ExactObjective(Objective):
    """Known before training, from the design and the setting alone."""

    exact: ClassVar[bool] = True

    @abstractmethod
    def value(self, design: Design, setting: Setting) -> float:
        """The value of a design, resolved for the backbone's depth."""


class MeasuredObjective(Objective):
    """Measured on the validation images of a trained design.

    Attributes:
        at_rungs: Whether it is measured at rungs too, so that a pruner can compare by it.
        takes_outliers: Whether it needs `Measurement.outliers`: the task has to name unknown images.
    """

    exact: ClassVar[bool] = False
    at_rungs: ClassVar[bool] = True
    takes_outliers: ClassVar[bool] = False

    @abstractmethod
    def measure(self, measured: Measurement) -> float:
        """The value of what was trained."""
