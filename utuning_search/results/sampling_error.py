"""What a front says within the sampling error of its validation accuracies."""

import json
from collections.abc import Sequence

from utuning_search.results.statistics.wilson import wilson
from utuning_search.search.layout import SPLITS
from utuning_search.search.objectives.registry import USUAL, Objectives
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord, front_of, standing


def validation_images(study: Study) -> int:
    """How many images the study's validation accuracies were measured on; those that could not be read are no part."""
    try:
        index = json.loads((study.folder / SPLITS).read_text(encoding="utf-8"))
        return len(index["validation"]["indices"]) or study.spec.task.data.validation
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # of an older version, elsewhere, or not ours
        return study.validation or study.spec.task.data.validation


def interval_of(record: TrialRecord, images: int | None) -> tuple[float, float] | None:
    """Wilson's 95% interval of a trial's validation accuracy on so many images; None without either."""
    return None if record.accuracy is None or not images else wilson(record.accuracy, images)


def near_front(records: Sequence[TrialRecord], images: int | None, objectives: Objectives = USUAL) -> list[TrialRecord]:
    """Complete trials off the front that stand within its sampling error, in their order; each design once.

    Such a trial is dominated, but the upper end of its accuracy's interval reaches the best accuracy of the front's
    trials that are at least as good in every other objective (by default: that are no larger). It is left out of the
    front by images that happened to be drawn, as far as these validation images can tell. Another draw of its seed
    would move it too, which is not counted.

    Args:
        records: Of a study.
        images: That accuracies were measured on; None where it is unknown, and then there are none.
        objectives: Of the study; where accuracy is not one of them, there are none.
    """
    if "accuracy" not in objectives.names or not images:
        return []
    best, others = front_of(records, objectives), [o for o in objectives if o.name != "accuracy"]
    seen, found = {r.key for r in best}, []
    for record in records:
        interval = interval_of(record, images)
        if record.key in seen or interval is None or not standing(record, objectives):
            continue
        seen.add(record.key)
        ahead = [
            r.values["accuracy"]
            for r in best
            if all(o.gain(r.values[o.name]) >= o.gain(record.values[o.name]) for o in others)
        ]
        if ahead and interval[1] >= max(ahead):
            found.append(record)
    return found
