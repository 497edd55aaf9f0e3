"""What a search is compared with, each as its own package has it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import optuna

from tunerbench.live import Curves
from tunerbench.play import Played, play
from utuning_search.designs.spaces.space import Space
from utuning_search.search.pruners.none import NoPruner
from utuning_search.search.pruners.predicted import PredictedPruner
from utuning_search.search.samplers.base import Sampler
from utuning_search.search.samplers.ehvi import EHVISampler
from utuning_search.search.samplers.wrapped import NSGA2Sampler, OptunaSampler, RandomSampler, TPESampler

Search = Callable[[Curves, int, int], Played]


@dataclass(frozen=True)
class GPSampler(OptunaSampler):
    """Optuna's Gaussian process sampler (logEHVI where there are several objectives)."""

    kind: ClassVar[str] = "gp"
    summary: ClassVar[str] = "Optuna's GPSampler"

    def make(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.GPSampler(seed=seed)


def cold() -> Space:
    """`full` without known methods to begin with: what a sampler of another package starts from."""
    raw: dict[str, Any] = {**Space.load("full").raw, "presets": []}
    return Space.from_dict(raw)


def unpruned(sampler: Sampler) -> Search:
    """A sampler on `full`, each trial trained to its end."""
    return lambda curves, seed, budget: play(curves, cold(), sampler, NoPruner(), (), seed, budget)


def ours(curves: Curves, seed: int, budget: int) -> Played:
    """What `run` does."""
    return play(curves, Space.load("full"), EHVISampler(), PredictedPruner(), curves.task.recipe.rungs, seed, budget)


RIVALS: dict[str, Search] = {
    "ours": ours,
    "random": unpruned(RandomSampler()),
    "tpe": unpruned(TPESampler()),
    "nsgaii": unpruned(NSGA2Sampler(8)),
    "gp": unpruned(GPSampler()),
}
