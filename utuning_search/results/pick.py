"""A trial of a study, named by what one wants of it."""

from collections.abc import Callable, Sequence

from utuning_search.common.counts import parse_count
from utuning_search.common.errors import InputError, StudyError
from utuning_search.results.defaults import PICKS
from utuning_search.search.objectives.base import Objective
from utuning_search.search.objectives.registry import USUAL, Objectives
from utuning_search.search.pareto import knee
from utuning_search.search.trials import TrialRecord, front_of

SHORT = {"params": "parameters"}  # as --max-params says it


def pick_trial(records: Sequence[TrialRecord], how: str, objectives: Objectives = USUAL) -> TrialRecord:
    """The complete trial that `how` names.

    Args:
        records: Of the study.
        how: "best", the best in the first measured objective; "knee"; "max-NAME=N" or "min-NAME=N", the best within a
            limit on an objective, such as "max-params=50k"; or "trial=N".
        objectives: Of the study.
    """
    best = front_of(records, objectives)
    kind, _, value = how.partition("=")
    if not best and kind != "trial":
        raise StudyError("--pick", "the study has a complete trial", "none", "Let it run on.")
    quality, cost = objectives.columns
    choices: dict[str, Callable[[], TrialRecord]] = {
        "best": lambda: _best(best, objectives.quality),
        "knee": lambda: best[knee(objectives.scaled([r.values for r in best]), quality, cost)],
        "trial": lambda: _numbered(records, value),
    }
    for objective in objectives:
        bound = "max" if objective.direction == "minimize" else "min"
        for name in (objective.name, *(short for short, full in SHORT.items() if full == objective.name)):
            limited = f"{bound}-{name}"
            choices[limited] = lambda known=objective, named=limited: _within(  # type: ignore[misc]  # bound as defaults
                best, known, _limit(value, named, known), objectives
            )
    if kind not in choices or bool(value) != (kind not in ("best", "knee")):
        raise InputError("--pick", f"pick is {PICKS}", f"'{how}'")
    return choices[kind]()


def _best(records: Sequence[TrialRecord], objective: Objective) -> TrialRecord:
    """The best in one objective; of equal ones the first, which is the cheapest."""
    return max(records, key=lambda r: objective.gain(r.values[objective.name]))


def _limit(value: str, kind: str, objective: Objective) -> float:
    if objective.exact:
        return parse_count(value, f"--pick {kind}")
    try:
        return float(value)
    except ValueError:
        raise InputError(f"--pick {kind}", "a limit is a number such as 0.9", f"'{value}'") from None


def _within(best: Sequence[TrialRecord], objective: Objective, limit: float, objectives: Objectives) -> TrialRecord:
    fitting = [r for r in best if objective.gain(r.values[objective.name]) >= objective.gain(limit)]
    if not fitting:
        nearest = _best(best, objective).values[objective.name]
        shown = "{:.0f}" if objective.exact else "{:g}"
        some, extreme = ("at most", "smallest") if objective.direction == "minimize" else ("at least", "largest")
        rule = f"a front design has {some} {shown.format(limit)} {objective.unit or objective.name}"
        todo = "Raise the limit: the head alone counts too." if objective.name == "parameters" else "Change the limit."
        raise StudyError("--pick", rule, f"the {extreme} has {shown.format(nearest)}", todo)
    other = objectives.quality if objective.name != objectives.quality.name else objectives.cost
    return _best(fitting, other)


def _numbered(records: Sequence[TrialRecord], value: str) -> TrialRecord:
    found = [r for r in records if str(r.number) == value]
    if not found:
        raise InputError("--pick", "trial is the number of a trial in the study", f"'{value}'")
    return found[0]
