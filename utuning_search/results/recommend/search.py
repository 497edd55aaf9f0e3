"""A search for a recommendation, within its time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from utuning_search.data.survey import Survey
from utuning_search.results.recommend.plan import Plan
from utuning_search.search.budget import Budget
from utuning_search.search.callbacks.base import Callback
from utuning_search.search.callbacks.telling import warn
from utuning_search.search.needs import Needs
from utuning_search.search.runner import Snapshot
from utuning_search.search.study import Study
from utuning_search.training.runtime import default_workers, resolve_device

MOST_DESIGNS = 200  # a search that is this quick has nothing left to find


@dataclass(frozen=True)
class Search:
    """A search that is ready to run, or to go on.

    Attributes:
        study: In the output folder.
        survey: Of the images.
        plan: What fits into the time; None where an earlier call made it and this one goes on.
        seconds: For search and finals together.
        search_seconds: For the search.
        notes: What is odd about the test images, a line each.
    """

    study: Study
    survey: Survey
    plan: Plan | None
    seconds: float
    search_seconds: float
    notes: tuple[str, ...] = ()


def search(
    prepared: Search,
    *,
    workers: int | None = None,
    on_change: Callable[[Snapshot], None] | None = None,
    on_loaded: Callable[[Needs], object] | None = None,
    callbacks: Sequence[Callback] = (),
    on_trouble: Callable[[str], None] = warn,
) -> bool:
    """Run the search for the time it has left; False after Ctrl-C. All else is as for `Study.run`."""
    study = prepared.study
    spent = sum(r.seconds for r in study.trials()) / at_once(study.local.get("device", "auto"), workers)
    # At least a moment: what one earlier call found may be nothing yet.
    budget = Budget(MOST_DESIGNS, seconds=max(prepared.search_seconds - spent, 1.0))
    return study.run(
        budget,
        workers=workers,
        on_change=on_change,
        on_loaded=on_loaded,
        callbacks=callbacks,
        on_trouble=on_trouble,
    )


def at_once(device: str, workers: int | None) -> int:
    """Trainings at a time."""
    return max(default_workers(resolve_device(device)) if workers is None else workers, 1)
