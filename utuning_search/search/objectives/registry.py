"""The one list of objectives, and sets of them by name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from utuning_search.common.errors import InputError
from utuning_search.common.plugins import Registry
from utuning_search.designs.design import Design
from utuning_search.search.defaults import OBJECTIVES as DEFAULT
from utuning_search.search.objectives.base import (
    Direction,
    ExactObjective,
    Floats,
    MeasuredObjective,
    Objective,
    Setting,
)
from utuning_search.search.objectives.classification import Accuracy, BalancedAccuracy, MacroF1
from utuning_search.search.objectives.cost import Flops, Latency, Parameters
from utuning_search.search.objectives.detection import OodAuroc

OURS: tuple[type[Objective], ...] = (Accuracy, BalancedAccuracy, MacroF1, OodAuroc, Parameters, Flops, Latency)
OBJECTIVES = Registry(
    "utuning_search.objectives",
    OURS,
    Objective,  # type: ignore[type-abstract]  # a base
    "name",
)


def objective(name: str, where: str = "objective") -> Objective:
    """The objective of a name; an error with the nearest known one otherwise."""
    if name not in OBJECTIVES:
        raise InputError(where, "the objective is a known one", f"'{name}'", OBJECTIVES.advice(name))
    return OBJECTIVES[name]()


@dataclass(frozen=True)
class Objectives:
    """What a study weighs, in the order of Optuna's values.

    Args:
        names: Each once; at least one of a measured objective, or nothing would have to be trained.

    Raises:
        InputError: An unknown name, one twice, or nothing that is measured.
    """

    names: tuple[str, ...] = DEFAULT

    def __post_init__(self) -> None:
        if self.names == DEFAULT:  # known to be right; a look-up would import other distributions with this module
            return
        where = "--objectives"
        if len(set(self.names)) < len(self.names):
            raise InputError(where, "each objective is named once", ", ".join(self.names))
        if all(known.exact for known in [objective(name, where) for name in self.names]):
            known = ", ".join(n for n, o in OBJECTIVES.items() if not o.exact)
            got = ", ".join(self.names) or "none"
            raise InputError(where, "at least one objective is measured", got, f"Measured are: {known}.")

    @cached_property
    def _all(self) -> tuple[Objective, ...]:
        return tuple(objective(name) for name in self.names)

    def __iter__(self) -> Iterator[Objective]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def directions(self) -> list[Direction]:
        """As Optuna takes them."""
        return [o.direction for o in self]

    @cached_property
    def exact(self) -> tuple[ExactObjective, ...]:
        return tuple(o for o in self if isinstance(o, ExactObjective))

    @cached_property
    def measured(self) -> tuple[MeasuredObjective, ...]:
        return tuple(o for o in self if isinstance(o, MeasuredObjective))

    @property
    def quality(self) -> Objective:
        """What a single design is called best by: the first measured one that is maximized, else the first measured."""
        return next((o for o in self.measured if o.direction == "maximize"), self.measured[0])

    @property
    def cost(self) -> Objective:
        """What fronts are listed by: the first exact one, else the first that is minimized, else the last."""
        if self.exact:
            return self.exact[0]
        return next((o for o in self if o.direction == "minimize"), self._all[-1])

    def exact_values(self, design: Design, setting: Setting) -> dict[str, float]:
        """What is known of a design before it is trained, by name."""
        return {o.name: o.value(design, setting) for o in self.exact}

    def gains(self, rows: Sequence[Mapping[str, float]]) -> Floats:
        """(rows, objectives), all to be maximized: values, negated where they are minimized."""
        signs = np.array([1.0 if o.direction == "maximize" else -1.0 for o in self])
        found: Floats = np.array([[row[n] for n in self.names] for row in rows], dtype=np.float64)
        signed: Floats = found.reshape(len(rows), len(self)) * signs
        return signed

    def scaled(self, rows: Sequence[Mapping[str, float]]) -> Floats:
        """(rows, objectives) as gains, each on its objective's own scale: its logarithm where that is compared by."""
        found = self.gains(rows)
        for column, known in enumerate(self):
            if known.log:
                found[:, column] = np.sign(found[:, column]) * np.log10(np.abs(found[:, column]))
        return found

    @property
    def columns(self) -> tuple[int, int]:
        """Where `quality` and `cost` stand among the objectives."""
        return self.names.index(self.quality.name), self.names.index(self.cost.name)

    def goodness(self, rows: Sequence[Mapping[str, float]], setting: Setting) -> Floats:
        """(rows, objectives) as places between each objective's bounds; see `Objective.goodness`."""
        columns = [o.goodness([row[o.name] for row in rows], setting) for o in self]
        return np.stack(columns, axis=1) if rows else np.zeros((0, len(self)))


USUAL = Objectives()


def measures(objectives: Objectives) -> tuple[MeasuredObjective, ...]:
    """What trainers measure: accuracy in any case, then the objectives that are measured."""
    found: dict[str, MeasuredObjective] = {"accuracy": Accuracy()}
    found.update((o.name, o) for o in objectives.measured)
    return tuple(found.values())
