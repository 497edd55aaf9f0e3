"""The contract of objectives."""

import math
import pickle
import re

import numpy as np
import torch

from utuning_search.designs.design import Design
from utuning_search.designs.presets import PRESETS
from utuning_search.search.objectives.base import ExactObjective, MeasuredObjective, Objective
from utuning_search.testing.pretend import SETTING, SHAPE
from utuning_search.training.measurement import Measurement


class ObjectiveContract:
    """Inherit it in a test module and set `objective`:

    class TestMine(ObjectiveContract):
        objective = MyObjective()
    """

    objective: Objective

    def test_it_has_a_name_and_a_direction(self) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", self.objective.name)
        assert self.objective.direction in ("maximize", "minimize")
        assert self.objective.label

    def test_it_is_made_without_arguments_and_can_be_sent_to_workers(self) -> None:
        assert type(self.objective)().name == self.objective.name
        assert pickle.loads(pickle.dumps(self.objective)).name == self.objective.name

    def test_it_is_exact_or_measured(self) -> None:
        assert self.objective.exact is isinstance(self.objective, ExactObjective)
        assert self.objective.exact is not isinstance(self.objective, MeasuredObjective)

    def test_bounds_are_finite_and_in_its_direction(self) -> None:
        worst, best = self.objective.bounds(SETTING)
        assert math.isfinite(worst)
        assert math.isfinite(best)
        assert (worst < best) is (self.objective.direction == "maximize")
        if self.objective.log:
            assert min(worst, best) > 0, "a logarithm needs bounds above 0"

    def test_goodness_goes_from_the_worst_to_the_best(self) -> None:
        worst, best = self.objective.bounds(SETTING)
        places = np.geomspace(worst, best, 9) if self.objective.log else np.linspace(worst, best, 9)
        good = self.objective.goodness(places, SETTING)
        assert good[0] == 0
        assert good[-1] == 1
        assert (np.diff(good) > 0).all()

    def test_values_are_told_in_words(self) -> None:
        for value in self.objective.bounds(SETTING):
            assert self.objective.text(value)
            assert self.objective.short(value)

    def test_its_value_is_a_finite_function_of_what_it_is_given(self) -> None:
        for value, again in self._values():
            assert math.isfinite(value)
            assert value == again

    def _values(self) -> list[tuple[float, float]]:
        """Values of a few designs or measurements, each found twice."""
        if isinstance(self.objective, ExactObjective):
            designs = [Design(p.placements()).resolve(SHAPE.depth) for p in PRESETS]
            known = self.objective
            return [(known.value(d, SETTING), known.value(Design(d.placements, 0.5), SETTING)) for d in designs]
        assert isinstance(self.objective, MeasuredObjective)
        found = []
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            logits = torch.randn(40, SETTING.num_classes, generator=generator)
            labels = torch.randint(SETTING.num_classes, (40,), generator=generator)
            unknown = torch.randn(30, SETTING.num_classes, generator=generator)
            measured = Measurement(logits, labels, lambda: 1.5, unknown.clone)
            found.append((self.objective.measure(measured), self.objective.measure(measured)))
        return found
