"""Two studies side by side: what each attained at every size, and how far it was after how many epochs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from utuning_search.common.errors import InputError
from utuning_search.results.sampling_error import interval_of, validation_images
from utuning_search.search.objectives.base import Setting
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord, front_of, standing, volume_of

SIZES = 8  # at which two studies are compared in a table


@dataclass(frozen=True)
class Side:
    """One of the studies that are compared.

    Attributes:
        name: Its name.
        records: Its trials.
        objectives: What its front weighs.
        setting: Of its backbone and task.
        images: That accuracies were measured on.
    """

    name: str
    records: Sequence[TrialRecord]
    objectives: Objectives
    setting: Setting
    images: int

    @property
    def front(self) -> list[TrialRecord]:
        return front_of(self.records, self.objectives)

    def attained(self, cost: float) -> TrialRecord | None:
        """The best of its complete trials that cost no more; of equal ones the earliest. None without any."""
        known, best = self.objectives.cost, self.objectives.quality
        cheap = [r for r in self.front if known.gain(r.values[known.name]) >= known.gain(cost)]
        return max(cheap, key=lambda r: (best.gain(r.values[best.name]), -r.number), default=None)

    def progress(self) -> list[tuple[int, float]]:
        """Epochs trained in all and the front's hypervolume after each trial, from (0, 0), in the order of trials."""
        found, best, epochs, volume = [(0, 0.0)], list[TrialRecord](), 0, 0.0
        for record in self.records:
            if not record.settled:
                continue
            epochs += record.epochs
            if standing(record, self.objectives):
                best = front_of([*best, record], self.objectives)
                volume = volume_of(best, self.objectives, self.setting)
            found.append((epochs, volume))
        return found

    def volume_after(self, epochs: int) -> float:
        """The hypervolume of the trials that had ended within so many epochs."""
        return max(volume for at, volume in self.progress() if at <= epochs)

    def epochs_to(self, volume: float) -> int | None:
        """Epochs after which its hypervolume was at least so large; None if it never was."""
        return next((epochs for epochs, reached in self.progress() if reached >= volume), None)


@dataclass(frozen=True)
class Attained:
    """Two studies at one size.

    Attributes:
        cost: No trial here costs more.
        a, b: The best trial of each; None without any.
        interval: 95% interval of the quality of b minus that of a, over the choice of images; None where it is unknown.
    """

    cost: float
    a: TrialRecord | None
    b: TrialRecord | None
    interval: tuple[float, float] | None

    @property
    def ahead(self) -> str:
        """ "a" or "b" where one is beyond the sampling error, else empty."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return ""
        return "b" if self.interval[0] > 0 else "a"


def side_of(study: Study) -> Side:
    """A study as it is compared."""
    return Side(study.name, study.trials(), study.objectives, study.setting, validation_images(study))


def refuse_incomparable(a: Study, b: Study) -> None:
    """Raise InputError where two studies have no common measure: other objectives, classes or backbones' sizes."""
    todo = "Compare studies of one task and one set of objectives."
    if set(a.objectives.names) != set(b.objectives.names):
        got = f"{', '.join(a.objectives.names)} and {', '.join(b.objectives.names)}"
        raise InputError("compare", "both studies weigh the same objectives", got, todo)
    if len(a.classes) != len(b.classes):
        got = f"{len(a.classes)} and {len(b.classes)}"
        raise InputError("compare", "both studies have as many classes", got, todo)
    if a.shape != b.shape:
        got = f"{a.spec.task.backbone.name} and {b.spec.task.backbone.name}"
        raise InputError("compare", "both studies have backbones of one shape", got, todo)


def attainment(a: Side, b: Side, count: int = SIZES) -> list[Attained]:
    """What both attained, from the smallest to the largest size on either front, in even steps of the cost's own scale.

    Args:
        a, b: Of the same objectives, two at least.
        count: Of sizes at most.
    """
    cost = a.objectives.cost
    places = sorted({r.values[cost.name] for side in (a, b) for r in side.front})
    if len(a.objectives) < 2 or not places:
        return []
    scale = np.log10(places) if cost.log else np.array(places)
    wanted = np.linspace(scale[0], scale[-1], count)
    # Sizes of real designs: the largest up to each step.
    chosen = dict.fromkeys(places[int(np.searchsorted(scale, w + 1e-9)) - 1] for w in wanted)
    return [_attained(a, b, c) for c in chosen]


def _attained(a: Side, b: Side, cost: float) -> Attained:
    one, other = a.attained(cost), b.attained(cost)
    interval = None
    if one is not None and other is not None and a.objectives.quality.name == "accuracy":
        interval = difference(one, a.images, other, b.images)
    return Attained(cost, one, other, interval)


def difference(a: TrialRecord, images_a: int, b: TrialRecord, images_b: int) -> tuple[float, float] | None:
    """95% interval of the accuracy of b minus that of a, over the choice of images alone; None without accuracies.

    Newcombe's hybrid of Wilson's intervals (1998, method 10), for samples of their own. Where both were measured on the
    same images it is too wide, so what it tells apart can be told apart.
    """
    one, other = interval_of(a, images_a), interval_of(b, images_b)
    if one is None or other is None or a.accuracy is None or b.accuracy is None:
        return None
    middle = b.accuracy - a.accuracy
    low = middle - math.hypot(b.accuracy - other[0], one[1] - a.accuracy)
    return low, middle + math.hypot(other[1] - b.accuracy, a.accuracy - one[0])
