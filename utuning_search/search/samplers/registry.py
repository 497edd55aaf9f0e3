"""The one list of samplers: ours, and those of other distributions (entry point `utuning_search.samplers`)."""

from utuning_search.common.configured import from_table
from utuning_search.common.plugins import Registry
from utuning_search.search.samplers.base import Sampler
from utuning_search.search.samplers.ehvi import EHVISampler
from utuning_search.search.samplers.wrapped import NSGA2Sampler, RandomSampler, TPESampler

OURS: tuple[type[Sampler], ...] = (EHVISampler, TPESampler, RandomSampler, NSGA2Sampler)
SAMPLERS = Registry(
    "utuning_search.samplers",
    OURS,
    Sampler,  # type: ignore[type-abstract]  # a base
    "kind",
)


def sampler(raw: object, where: str = "--sampler") -> Sampler:
    """A sampler from its name, or from a table of `kind` and options.

    Raises:
        InputError: An unknown kind or option, or an illegal value.
    """
    return from_table(SAMPLERS, raw, where, "sampler")


def sampler_for(kind: str, trials: int | None, where: str = "--sampler") -> Sampler:
    """A sampler by name, with options that fit a study of so many trials."""
    return type(sampler(kind, where)).for_budget(trials)
