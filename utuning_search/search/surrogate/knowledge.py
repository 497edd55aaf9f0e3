"""What a history says of designs: those that were trained, and those that were not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from utuning_search.designs.design import Design
from utuning_search.designs.rates import rate_factor
from utuning_search.search.objectives.base import MeasuredObjective, Setting
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.pareto import front
from utuning_search.search.surrogate.acquisition import expected_gain, expected_improvement, sampled_gain
from utuning_search.search.surrogate.costs import places
from utuning_search.search.surrogate.curves import ends
from utuning_search.search.surrogate.features import Floats, matrix
from utuning_search.search.surrogate.model import Model
from utuning_search.search.trials import TrialRecord
from utuning_search.training.recipe import Recipe

TRAINED = ("complete", "pruned", "failed", "running")
TRAINING_NOISE = 0.006  # standard deviation of a final accuracy over seeds of its training
FAILURE = 0.05  # standard deviation of what a failed training stands for, the worst that was measured


@dataclass(frozen=True)
class Circumstances:
    """What the worth of a design depends on besides the history.

    Attributes:
        objectives: Of the study.
        setting: Of the backbone and the task.
        recipe: Of the task.
        validation: Images that quality is measured on.
    """

    objectives: Objectives
    setting: Setting
    recipe: Recipe
    validation: int


@dataclass(frozen=True)
class Prospects:
    """What a trial on its way may come to, in terms of goodness.

    Attributes:
        mean, sd: Of its quality at the end.
        height: How high the other complete trials that cost no more stand; -inf where there are none.
        promised: Expected gain of hypervolume of its design, if it had not been begun.
        gain: The same in the light of what was measured.
    """

    mean: float
    sd: float
    height: float
    promised: float
    gain: float


class Knowledge:
    """A model of each measured objective, and the front as it would be if training were not noisy.

    One training is one noisy draw, so the front is one of posterior means, not of lucky maxima. Everything is in terms
    of goodness (`Objective.goodness`): 0 is the worst that counts, 1 the best.

    Args:
        history: All trials by number; those of no use are left out.
        given: See `Circumstances`.
    """

    def __init__(self, history: Sequence[TrialRecord], given: Circumstances) -> None:
        self._given, self._history = given, history
        usable = [r for r in history if r.design is not None and r.reused is None and r.state in TRAINED]
        quality = given.objectives.quality
        assert isinstance(quality, MeasuredObjective)
        self._quality = quality
        ended = self._ends(usable, quality)
        self._records = [r for r, end in zip(usable, ended, strict=True) if end is not None]
        self._ended = np.array([end for end in ended if end is not None]).reshape(-1, 2)

    @cached_property
    def designs(self) -> list[Design]:
        """Of the trials that something is known of."""
        return [r.design for r in self._records if r.design is not None]

    @cached_property
    def parents(self) -> list[Design]:
        """Designs of the front, twice, and of the front without them."""
        if not self._records:
            return []
        first = front(self._points)
        taken = set(first)
        rest = [i for i in range(len(self._points)) if i not in taken]
        second = [rest[i] for i in front(self._points[rest])] if rest else []
        return [self.designs[i] for i in (*first, *first, *second)]

    def gains(self, designs: Sequence[Design], rng: np.random.Generator) -> Floats:
        """Expected gain of hypervolume of designs that were not tried: (designs,)."""
        return self._gains(designs, rng)

    def _gains(
        self,
        designs: Sequence[Design],
        rng: np.random.Generator,
        own: int | None = None,
        known: tuple[float, float] | None = None,
    ) -> Floats:
        """Beside complete and running trials but `own`, of whose quality mean and standard deviation are `known`."""
        exact, measured = self._given.objectives.exact, self._given.objectives.measured
        cheap = self._places(designs)
        if not self._records:
            return np.asarray(cheap.sum(axis=1))  # nothing is known but the cost
        stands = self._points[[r.state in ("complete", "running") and r.number != own for r in self._records]]
        raw = self._features(designs)
        found = [self._models[o.name].predict(raw) for o in measured]
        mean, sd = (np.stack([f[i] for f in found], axis=1) for i in range(2))
        if known is not None:
            column = [o.name for o in measured].index(self._quality.name)
            mean[:, column], sd[:, column] = known
        if len(exact) == len(measured) == 1:
            return expected_gain(mean[:, 0], sd[:, 0], cheap[:, 0], stands)
        return sampled_gain(mean, sd, cheap, stands, rng)

    def leads(self, designs: Sequence[Design], rivals: Sequence[Sequence[Design]]) -> Floats:
        """How much better than rivals that none is equal to yet designs are expected to be, all told: (designs,).

        A trial that is no rival is equal to one where its posterior mean is at least the rival's and it costs no more.
        Zeros where every rival has its equal, or nothing is known.

        Args:
            designs: Any; what places what a rival does is worth nothing, at whatever rate.
            rivals: Of each its design at several rates, of which the best counts.
        """
        if not self._records or not rivals:
            return np.zeros(len(designs))
        model = self._models[self._quality.name]
        means = model.mean(self._features([d for rates in rivals for d in rates]))
        ends = np.cumsum([len(rates) for rates in rivals])
        heights = np.array([part.max() for part in np.split(means, ends[:-1])])
        costs = self._places([rates[0] for rates in rivals])
        placed = {rates[0].placements for rates in rivals}
        column = [o.name for o in self._given.objectives.measured].index(self._quality.name)
        own = [
            r.state in ("complete", "running") and d.placements not in placed
            for r, d in zip(self._records, self.designs, strict=True)
        ]
        reached = self._points[own, column][:, None] >= heights
        equal = (reached & _cost_no_more(self._costs[own], costs)).any(axis=0)
        mean, sd = model.predict(self._features(designs))
        gains = np.stack([expected_improvement(mean, sd, height) for height in heights], axis=1)
        counts = _cost_no_more(self._places(designs), costs) & ~equal
        found: Floats = (gains * counts).sum(axis=1) * np.array([d.placements not in placed for d in designs])
        return found

    def prospects(self, number: int) -> Prospects:
        """Of a trial that was measured."""
        row = next(i for i, r in enumerate(self._records) if r.number == number)
        design, others = self.designs[row], [r for r in self._history if r.number != number]
        before, same = Knowledge(others, self._given), [np.random.default_rng(0) for _ in range(2)]
        mean, sd = self._learned[self._quality.name][row]
        if before._records:
            expected, spread = before._models[self._quality.name].predict(self._raw[[row]])
            mean, sd = joined(float(expected[0]), float(spread[0]), mean, sd)
        cheap = (self._costs >= self._costs[row]).all(axis=1)
        rivals = [i for i, r in enumerate(self._records) if cheap[i] and r.state == "complete" and r.number != number]
        column = [o.name for o in self._given.objectives.measured].index(self._quality.name)
        return Prospects(
            mean=float(mean),
            sd=float(sd),
            height=float(self._points[rivals, column].max()) if rivals else -np.inf,
            promised=float(before._gains([design], same[0])[0]),
            gain=float(self._gains([design], same[1], number, (mean, sd))[0]),
        )

    def draws(self, designs: Sequence[Design], count: int, rng: np.random.Generator) -> Floats:
        """Goodness of the final quality of designs, as it may be after what is known: (count, designs)."""
        return self._models[self._quality.name].draws(self._features(designs), count, rng)

    @cached_property
    def _points(self) -> Floats:
        """(trials, objectives): posterior means of the measured ones, then the exact ones."""
        means = [self._models[o.name].mean(self._raw) for o in self._given.objectives.measured]
        return np.concatenate([np.stack(means, axis=1), self._costs], axis=1)

    @cached_property
    def _costs(self) -> Floats:
        return self._places(self.designs)

    @cached_property
    def _raw(self) -> Floats:
        return self._features(self.designs)

    @cached_property
    def _models(self) -> Mapping[str, Model]:
        found = {}
        for objective in self._given.objectives.measured:
            ended = self._learned[objective.name]
            known = ~np.isnan(ended[:, 0])
            goodness = ended[known, 0]
            best = float(goodness.max()) if len(goodness) else 0.5
            noise = np.sqrt(TRAINING_NOISE**2 + max(best * (1 - best), 0.01) / self._given.validation)
            always = self._always[known]
            found[objective.name] = Model(self._raw[known], goodness, ended[known, 1], float(noise), always)
        return found

    @cached_property
    def _always(self) -> npt.NDArray[np.bool_]:
        """Trials that no model leaves out: those on their way, and the front as it was measured."""
        found = np.array([r.state == "running" for r in self._records], dtype=bool)
        measured = np.stack([ended[:, 0] for ended in self._learned.values()], axis=1)
        complete = [i for i, r in enumerate(self._records) if r.state == "complete" and not np.isnan(measured[i]).any()]
        points = np.concatenate([measured, self._costs], axis=1)[complete]
        found[[complete[i] for i in front(points)]] = True
        return found

    @cached_property
    def _learned(self) -> Mapping[str, Floats]:
        """Of each measured objective the goodness at the end and its standard deviation; nan where none is known."""
        found = {}
        for objective in self._given.objectives.measured:
            ended = self._ended
            if objective is not self._quality:
                ends = self._ends(self._records, objective)
                ended = np.array([(np.nan, 0.0) if end is None else end for end in ends]).reshape(-1, 2)
            found[objective.name] = ended
        return found

    def _ends(self, records: Sequence[TrialRecord], objective: MeasuredObjective) -> list[tuple[float, float] | None]:
        """Goodness at the end and its standard deviation; None where nothing was measured."""
        recipe, depth = self._given.recipe, self._given.setting.shape.depth
        curves = self._curves(records, objective)
        designs = [r.design or Design() for r in records]
        rates = [(d.learning_rate or recipe.learning_rate, rate_factor(d, depth)) for d in designs]
        handicaps = np.log2(np.array(rates).reshape(-1, 2))
        lowest = min((v for c in curves for v in c.values()), default=0.0)
        found = ends(curves, handicaps, recipe.epochs)
        return [
            (lowest, FAILURE) if end is None and record.state == "failed" else end
            for record, end in zip(records, found, strict=True)
        ]

    def _curves(self, records: Sequence[TrialRecord], objective: MeasuredObjective) -> list[dict[int, float]]:
        """Goodness by epoch; all in one call, for a call a trial takes long."""
        name, found = objective.name, []
        for record in records:
            found.append({epoch: values[name] for epoch, values in record.measured.items() if name in values})
            if record.state == "complete" and name in record.values:
                found[-1][self._given.recipe.epochs] = record.values[name]
        values = [value for curve in found for value in curve.values()]
        goodness = iter(objective.goodness(values, self._given.setting).tolist())
        return [{epoch: next(goodness) for epoch in curve} for curve in found]

    def _places(self, designs: Sequence[Design]) -> Floats:
        return places(self._given.objectives.exact, designs, self._given.setting)

    def _features(self, designs: Sequence[Design]) -> Floats:
        return matrix(designs, self._given.setting.shape, self._given.recipe.learning_rate)


def _cost_no_more(ones: Floats, others: Floats) -> npt.NDArray[np.bool_]:
    """By places of their costs: (ones, others)."""
    return np.asarray((ones[:, None] >= others[None] - 1e-12).all(axis=2))


def joined(mean: float, sd: float, seen: float, unsure: float) -> tuple[float, float]:
    """What was expected of a trial and what its rung says, as one mean and standard deviation.

    As of two measurements; but where they are farther apart than they should be, the expectation counts as less sure by
    that much. For some trainings fail, which no design tells.
    """
    apart = (seen - mean) / np.hypot(sd, unsure)
    expected, said = (sd * max(1.0, abs(apart))) ** 2, max(unsure, 1e-6) ** 2
    share = expected / (expected + said)
    return mean + share * (seen - mean), float(np.sqrt(share * said))
