"""A trial of a study, named by what one wants of it."""

from collections.abc import Callable

from utuning_search.common.counts import parse_count
from utuning_search.common.errors import InputError, StudyError
from utuning_search.results.defaults import PICKS
from utuning_search.search.pareto import knee
from utuning_search.search.trials import TrialRecord, front_of


def pick_trial(records: list[TrialRecord], how: str) -> TrialRecord:
    """The complete trial that `how` names: "best", "knee", "max-params=N" or "trial=N"."""
    best = front_of(records)
    kind, _, value = how.partition("=")
    if not best and kind != "trial":
        raise StudyError("--pick", "the study has a complete trial", "none", "Let it run on.")
    choices: dict[str, Callable[[], TrialRecord]] = {
        "best": lambda: best[-1],
        "knee": lambda: best[knee([r.accuracy or 0 for r in best], [r.parameters for r in best])],
        "max-params": lambda: _largest_within(best, parse_count(value, "--pick max-params")),
        "trial": lambda: _numbered(records, value),
    }
    if kind not in choices or bool(value) != (kind in ("max-params", "trial")):
        raise InputError("--pick", f"pick is {PICKS}", f"'{how}'")
    return choices[kind]()


def _largest_within(best: list[TrialRecord], limit: int) -> TrialRecord:
    fitting = [r for r in best if r.parameters <= limit]
    if not fitting:
        todo = "Raise the limit: the head alone counts too."
        raise StudyError(
            "--pick", f"a front design has at most {limit} parameters", f"the smallest has {best[0].parameters}", todo
        )
    return fitting[-1]


def _numbered(records: list[TrialRecord], value: str) -> TrialRecord:
    found = [r for r in records if str(r.number) == value]
    if not found:
        raise InputError("--pick", "trial is the number of a trial in the study", f"'{value}'")
    return found[0]
