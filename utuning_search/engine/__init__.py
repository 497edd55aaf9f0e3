"""Many designs on one frozen backbone: what is frozen is computed once and shared."""

from utuning_search.engine.cost import image_seconds
from utuning_search.engine.evaluator import (
    CHECK,
    CHECKED_IMAGES,
    Evaluator,
    Result,
    SearchContext,
    load_backbone,
    load_search,
)
from utuning_search.engine.features import FeatureCache
from utuning_search.engine.pool import Done, Event, Failed, InlinePool, Job, Pool, ProcessPool, Rung
from utuning_search.engine.precision import Runtime, default_workers, resolve_device, resolve_precision, runtimes
from utuning_search.engine.processes import Lost, run_each

__all__ = [
    "CHECK",
    "CHECKED_IMAGES",
    "Done",
    "Evaluator",
    "Event",
    "Failed",
    "FeatureCache",
    "InlinePool",
    "Job",
    "Lost",
    "Pool",
    "ProcessPool",
    "Result",
    "Rung",
    "Runtime",
    "SearchContext",
    "default_workers",
    "image_seconds",
    "load_backbone",
    "load_search",
    "resolve_device",
    "resolve_precision",
    "run_each",
    "runtimes",
]
