"""The one list of pruners: ours, and those of other distributions (entry point `utuning_search.pruners`)."""

from utuning_search.common.configured import from_table
from utuning_search.common.plugins import Registry
from utuning_search.search.pruners.base import Pruner
from utuning_search.search.pruners.none import NoPruner
from utuning_search.search.pruners.pareto import ParetoPruner
from utuning_search.search.pruners.predicted import PredictedPruner
from utuning_search.search.pruners.wrapped import HalvingPruner, MedianPruner

OURS: tuple[type[Pruner], ...] = (PredictedPruner, ParetoPruner, NoPruner, MedianPruner, HalvingPruner)
PRUNERS = Registry(
    "utuning_search.pruners",
    OURS,
    Pruner,  # type: ignore[type-abstract]  # a base
    "kind",
)


def pruner(raw: object, where: str = "--pruner") -> Pruner:
    """A pruner from its name, or from a table of `kind` and options.

    Raises:
        InputError: An unknown kind or option, or an illegal value.
    """
    return from_table(PRUNERS, raw, where, "pruner")
