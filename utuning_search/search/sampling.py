"""Samplers whose next proposal is a function of (seed, number of trials so far, history)."""

import warnings

import optuna

from utuning_search.common.errors import InputError, nearest
from utuning_search.common.seeds import derive_seed
from utuning_search.search.defaults import SAMPLERS


def check_sampler(name: str) -> None:
    if name not in SAMPLERS:
        raise InputError("--sampler", "the sampler is a known one", f"'{name}'", nearest(name, SAMPLERS))


def make_sampler(name: str, seed: int, count: int) -> optuna.samplers.BaseSampler:
    """A fresh sampler for the trial after `count` others.

    Optuna's samplers carry a random state that a reopened study starts anew, so that a resumed study would
    propose earlier designs again. Rebuilding before each ask makes a resumed study equal to one never stopped.
    """
    check_sampler(name)
    mixed = derive_seed(seed, f"sampler {count}")
    if name == "random":
        return optuna.samplers.RandomSampler(seed=mixed)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=mixed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=mixed, multivariate=False)
