"""What a history says of designs: those that were trained, and those that were not."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from utuning_search.designs.design import Design
from utuning_search.search.objectives.base import Setting
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.pareto import front
from utuning_search.search.surrogate.acquisition import expected_gain
from utuning_search.search.surrogate.curves import ends
from utuning_search.search.surrogate.features import Floats
from utuning_search.search.surrogate.model import Model, Observed
from utuning_search.search.trials import TrialRecord
from utuning_search.training.recipe import Recipe

TRAINED = ("complete", "pruned", "failed", "running")
TRAINING_NOISE = 0.006  # standard deviation of a final accuracy over seeds of its training


class Knowledge:
    """What a history says of designs."""

    def __init__(
        self,
        history: Sequence[TrialRecord],
        objectives: Objectives,
        setting: Setting,
        recipe: Recipe,
        validation: int,
    ) -> None:
        self._objectives, self._setting, self._recipe, self._validation = objectives, setting, recipe, validation
        quality = objectives.quality.name
        records = [r for r in history if r.design is not None and r.reused is None and r.state in TRAINED]
        curves = [_curve(r, quality, recipe.epochs) for r in records]
        lowest = min((v for c in curves for v in c.values()), default=0.0)
        kept = []
        for record, end in zip(records, ends(curves, recipe.epochs), strict=True):
            if end is None and record.state == "failed":
                end = (lowest, 0.05)
            if end is not None:
                kept.append((record, end))
        self._records = [r for r, _ in kept]
        self._quality, self._sd = np.array([e[0] for _, e in kept]), np.array([e[1] for _, e in kept])

    @cached_property
    def _designs(self) -> list[Design]:
        return [r.design for r in self._records if r.design is not None]

    @cached_property
    def _model(self) -> Model | None:
        if not self._records:
            return None
        top = float(np.max(self._quality))
        noise = np.sqrt(TRAINING_NOISE**2 + max(top * (1 - top), 0.01) / self._validation)
        observed = Observed(self._designs, self._quality, self._sd)
        return Model(observed, self._setting.shape, self._recipe.learning_rate, float(noise))

    @cached_property
    def _points(self) -> Floats:
        """(trials, 2): posterior mean and place of each trial."""
        assert self._model is not None
        mean, _ = self._model.predict(self._designs)
        return np.stack([mean, self._places(self._designs)], axis=1)

    @cached_property
    def parents(self) -> list[Design]:
        """Designs of the front of posterior means, twice, and of the one behind it."""
        if not self._records:
            return []
        indices = list(range(len(self._points)))
        first = front(self._points)
        rest = [i for i in indices if i not in set(first)]
        second = [rest[i] for i in front(self._points[rest])] if rest else []
        return [self._designs[i] for i in (*first, *first, *second)]

    def gains(self, designs: Sequence[Design]) -> Floats:
        """Expected gain of hypervolume of designs that were not tried."""
        places = self._places(designs)
        if self._model is None:
            return places
        mean, sd = self._model.predict(designs)
        stands = np.array([r.state in ("complete", "running") for r in self._records])
        return expected_gain(mean, sd, places, self._points[stands])

    def prospects(self, number: int) -> tuple[float, float, float]:
        """Of a trial that was measured: mean and standard deviation of its end, and how high the front of the other
        complete trials stands at its cost.
        """
        assert self._model is not None
        row = next(i for i, r in enumerate(self._records) if r.number == number)
        mean, sd = self._model.predict([self._designs[row]])
        place = self._points[row, 1]
        others = np.array([r.state == "complete" and r.number != number for r in self._records])
        rivals = self._points[others & (self._points[:, 1] >= place)]
        height = float(rivals[:, 0].max()) if len(rivals) else -np.inf
        return float(mean[0]), float(sd[0]), height

    def _places(self, designs: Sequence[Design]) -> Floats:
        cost, setting = self._objectives.exact[0], self._setting
        return cost.goodness([cost.value(d, setting) for d in designs], setting)


def _curve(record: TrialRecord, quality: str, last: int) -> dict[int, float]:
    curve = {epoch: values[quality] for epoch, values in record.measured.items() if quality in values}
    return {**curve, last: record.values[quality]} if record.state == "complete" else curve
