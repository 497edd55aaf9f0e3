"""What a search is compared with, each as its own package has it, on the same space and the same trainings."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import optuna

from tunerbench.halving import ParetoHalvingPruner
from tunerbench.live import Curves
from tunerbench.outside import moasha, optunahub
from tunerbench.play import Played, cold, play
from utuning_search.designs.spaces.space import Space
from utuning_search.search.pruners.base import Pruner
from utuning_search.search.pruners.none import NoPruner
from utuning_search.search.pruners.pareto import ParetoPruner
from utuning_search.search.pruners.predicted import PredictedPruner
from utuning_search.search.samplers.base import Sampler
from utuning_search.search.samplers.ehvi import EHVISampler
from utuning_search.search.samplers.wrapped import NSGA2Sampler, OptunaSampler, RandomSampler, TPESampler

Search = Callable[[Curves, int, int], Played]
BEFORE = Path(__file__).with_name("full_before.toml")
GENERATIONS = 6  # of NSGA-II within the budget


@dataclass(frozen=True)
class GPSampler(OptunaSampler):
    """Optuna's Gaussian process sampler (logEHVI where there are several objectives)."""

    kind: ClassVar[str] = "gp"
    summary: ClassVar[str] = "Optuna's GPSampler"

    def make(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)


def unpruned(make: Callable[[int], Sampler]) -> Search:
    """A sampler of another package on `full`, each trial trained to its end; it begins from nothing.

    Args:
        make: The sampler for a budget of so many whole trainings.
    """

    def search(curves: Curves, seed: int, budget: int) -> Played:
        return play(curves, cold(), make(budget // curves.epochs[-1]), NoPruner(), (), seed, budget)

    return search


def pruned_by(pruner: Pruner, since: float = 0.0) -> Search:
    """Our sampler with any pruner.

    Args:
        pruner: Asked at the task's rungs.
        since: Share of the epochs before which it is not asked.
    """

    def search(curves: Curves, seed: int, budget: int) -> Played:
        rungs = [e for e in curves.task.recipe.rungs if e >= since * curves.epochs[-1]]
        return play(curves, Space.load("full"), EHVISampler(), pruner, rungs, seed, budget)

    return search


def today(curves: Curves, seed: int, budget: int) -> Played:
    """What it did before it had a sampler of its own: TPE, its narrower space, known methods at one rate."""
    rungs = curves.task.recipe.rungs
    space = Space.load(str(BEFORE))
    return play(curves, space, TPESampler(), ParetoPruner(), rungs, seed, budget, rates="task")


RIVALS: dict[str, Search] = {
    "ours": pruned_by(PredictedPruner()),  # what `utuning-search run` does
    "random": unpruned(lambda _: RandomSampler()),
    "tpe": unpruned(lambda _: TPESampler()),
    "nsgaii": unpruned(lambda trials: NSGA2Sampler(max(trials // GENERATIONS, 4))),
    "gp": unpruned(lambda _: GPSampler()),
    "today": today,
    "optunahub": optunahub,
    "moasha": moasha,
}
VARIANTS: dict[str, Search] = {
    "ours-unpruned": pruned_by(NoPruner()),
    "ours-pareto": pruned_by(ParetoPruner()),
    "ours-pareto-late": pruned_by(ParetoPruner(), 0.25),
    "ours-halving": pruned_by(ParetoHalvingPruner()),
}
PRUNING = ("today", "optunahub", "moasha")
WANTED: dict[str, Any] = {"random": 5.0, "tpe": 4.0, "pruning": 1.5}
