"""Optuna's samplers: each of a space's variables is suggested; a door to optuna.

They carry a random state that a reopened study starts anew, so that a resumed study would propose earlier designs
again. Each is made anew for each proposal, seeded by the request, so that a resumed study equals one never stopped.
"""

import warnings
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import optuna

from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design
from utuning_search.search.samplers.base import Request, Sampler

GENERATIONS = 6  # that a budget should hold at least: fewer are hardly more than random search
SMALLEST, LARGEST = 4, 50  # populations; the largest is Optuna's default


@dataclass(frozen=True)
class OptunaSampler(Sampler):
    """A sampler of Optuna's on the variables of a space."""

    @abstractmethod
    def make(self, seed: int) -> optuna.samplers.BaseSampler:
        """A fresh one of Optuna's."""

    def backend(self, seed: int) -> optuna.samplers.BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return self.make(seed)

    def propose(self, request: Request) -> Design:
        return request.suggest(self.backend(request.seed))


@dataclass(frozen=True)
class TPESampler(OptunaSampler):
    """Tree-structured Parzen estimator, each variable by itself (Ozaki et al., 2022, for several objectives)."""

    kind: ClassVar[str] = "tpe"
    summary: ClassVar[str] = "Optuna's TPE: variables as in good trials, each by itself"

    def make(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(seed=seed, multivariate=False)


@dataclass(frozen=True)
class RandomSampler(OptunaSampler):
    """Each variable uniformly at random."""

    kind: ClassVar[str] = "random"
    summary: ClassVar[str] = "each variable uniformly at random"

    def make(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.RandomSampler(seed=seed)


@dataclass(frozen=True)
class NSGA2Sampler(OptunaSampler):
    """NSGA-II (Deb et al., 2002): crossover and mutation of a population that is kept by dominance and crowding.

    Attributes:
        population: Trials a generation. The first generation is random search.
    """

    population: int = LARGEST

    kind: ClassVar[str] = "nsga2"
    summary: ClassVar[str] = "Optuna's NSGA-II: crossover and mutation of a population"

    def __post_init__(self) -> None:
        if self.population < 2:
            raise InputError("sampler", "population is at least 2", self.population)

    @classmethod
    def for_budget(cls, trials: int | None) -> "NSGA2Sampler":
        """A population of which the budget holds six generations, from 4 to Optuna's 50."""
        return cls() if trials is None else cls(min(max(trials // GENERATIONS, SMALLEST), LARGEST))

    def make(self, seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.NSGAIISampler(population_size=self.population, seed=seed)
