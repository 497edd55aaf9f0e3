"""Finals: what the numbers of a confirmation say, and which designs survive it."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from utuning_search.results import metrics
from utuning_search.results.calibration import Calibration, calibration
from utuning_search.results.finalists import Finalist
from utuning_search.results.outcomes import Outcome
from utuning_search.results.predictions import Classes, Floats
from utuning_search.results.statistics.components import Correct
from utuning_search.results.statistics.paired import Comparison, compare, intervals


@dataclass(frozen=True)
class Final:
    """A finalist and what its trainings gave, one a seed.

    Attributes:
        finalist: Who.
        outcomes: One a seed, at least one.
        predictions: What each training answered, (seeds, images); None where one failed, or an older version kept none.
        labels: The classes of the test images, (images,); None likewise.
        confidences: How sure each training was of what it answered, (seeds, images); None likewise.
        metric: What it is judged by: a share of the test images, such as accuracy; see `metrics.py`.
        remeasured: Validation accuracy of fresh trainings on the proxy split, one a seed; see `remeasure.py`.
        interval: 95% of the mean on the test images; None without predictions. Judged among all, as the next two.
        beaten_by: Keys of the designs of no more parameters that are better beyond doubt, by parameters ascending.
        survives: Whether it was trained and nothing beats it.
    """

    finalist: Finalist
    outcomes: tuple[Outcome, ...]
    predictions: Classes | None = field(default=None, compare=False, repr=False)
    labels: Classes | None = field(default=None, compare=False, repr=False)
    confidences: Floats | None = field(default=None, compare=False, repr=False)
    remeasured: tuple[float, ...] = ()
    metric: str = metrics.ACCURACY
    interval: tuple[float, float] | None = None
    beaten_by: tuple[str, ...] = ()
    survives: bool = False

    @property
    def key(self) -> str:
        """Of its design."""
        return self.finalist.design.key

    @property
    def correct(self) -> Correct | None:
        """Whether each training got each test image right, (seeds, images); None without predictions."""
        if self.predictions is None or self.labels is None:
            return None
        right: Correct = self.predictions == self.labels
        return right

    @property
    def added(self) -> Correct | None:
        """What each answer adds to the metric, (seeds, images); None without predictions."""
        if self.predictions is None or self.labels is None:
            return None
        return metrics.added(self.metric, self.labels, self.predictions)

    @property
    def calibration(self) -> Calibration | None:
        """Whether it is right as often as it is sure; None without confidences."""
        if self.predictions is None or self.labels is None or self.confidences is None:
            return None
        return calibration(self.confidences, self.predictions == self.labels)

    @cached_property
    def scores(self) -> tuple[float | None, ...]:
        """The metric on the test images, one a seed; None where a training failed, or nobody kept what it takes."""
        if self.metric == metrics.ACCURACY:
            return tuple(o.accuracy for o in self.outcomes)
        if self.predictions is not None and self.labels is not None:
            return tuple(metrics.score(self.metric, self.labels, row) for row in self.predictions)
        return tuple(o.others.get(self.metric) for o in self.outcomes)

    @property
    def reason(self) -> str:
        """Why a training failed; else that memory was short in one, which changed no result; or empty."""
        failed = [o.reason for o in self.outcomes if o.accuracy is None]
        return next((reason for reason in failed + [o.reason for o in self.outcomes] if reason), "")

    @property
    def mean(self) -> float | None:
        """Mean of the metric over seeds; None if a training failed: a mean of the rest would flatter."""
        values = [score for score in self.scores if score is not None]
        return statistics.fmean(values) if values and len(values) == len(self.outcomes) else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None for fewer than two."""
        values = [score for score in self.scores if score is not None]
        return None if self.mean is None or len(values) < 2 else statistics.stdev(values)

    @property
    def se(self) -> float | None:
        """Standard error of the mean over seeds alone; None for fewer than two."""
        return None if self.sd is None else self.sd / math.sqrt(len(self.outcomes))

    def mean_of(self, name: str) -> float | None:
        """Mean over seeds of accuracy or another measured objective on the test split; None if a training failed."""
        found = [{**o.others, metrics.ACCURACY: o.accuracy} for o in self.outcomes]
        values = [value for row in found if (value := row.get(name)) is not None]
        return statistics.fmean(values) if values and len(values) == len(self.outcomes) else None

    @property
    def bar(self) -> tuple[float, float]:
        """From the mean down and up to the ends of its interval, without one by the standard deviation; shares."""
        mean = self.mean or 0.0
        low, high = self.interval or (mean - (self.sd or 0.0), mean + (self.sd or 0.0))
        return max(mean - low, 0.0), max(high - mean, 0.0)

    @property
    def test_minus_validation(self) -> float | None:
        """The mean minus the same on validation in the search, which trained on fewer images."""
        validation = self.finalist.validation
        return None if validation is None or self.mean is None else self.mean - validation

    @property
    def flattered(self) -> float | None:
        """What validation said in the search minus that of fresh trainings of the same kind; None without those."""
        validation = self.finalist.validation
        return None if validation is None or not self.remeasured else validation - statistics.fmean(self.remeasured)

    @property
    def memory_mb(self) -> float | None:
        """The most over seeds: later trainings of a process find memory that earlier ones left to it."""
        return max((o.memory_mb for o in self.outcomes if o.memory_mb is not None), default=None)

    def middle(self, name: str) -> float | None:
        """Median over seeds of what was measured of a training, such as "seconds"; None if nothing was."""
        values = [v for v in (getattr(o, name) for o in self.outcomes) if v is not None]
        return statistics.median(values) if values else None

    def to_dict(self, names: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The row of finals.csv; with `names` of designs by key it names what beats it."""
        who, (low, high) = self.finalist, self.interval or (None, None)
        return {
            "key": self.key,
            "design": str(who.design),
            "preset": who.preset,
            "nearest": who.nearest,
            "parameters": who.parameters,
            "tuner_parameters": who.tuner_parameters,
            "test_mean": self.mean,
            "test_sd": self.sd,
            "test_se": self.se,
            "test_low": low,
            "test_high": high,
            **({} if self.metric == metrics.ACCURACY else {"test_accuracy": self.mean_of(metrics.ACCURACY)}),
            **{f"test_{name}": self.mean_of(name) for name in self.outcomes[0].others},
            "seeds": sum(o.accuracy is not None for o in self.outcomes),
            "validation": who.validation,
            "test_minus_validation": self.test_minus_validation,
            "validation_again": statistics.fmean(self.remeasured) if self.remeasured else None,
            "seconds": self.middle("seconds"),
            "memory_mb": self.memory_mb,
            "inference_ratio": self.middle("inference_ratio"),
            "survives": self.survives,
            "beaten_by": "; ".join((names or {}).get(key, key) for key in self.beaten_by),
            "merged_ratio": self.middle("merged_ratio"),
            "front": who.on_front,
            "trial": who.trial,
            "reason": self.reason,
            "metric": self.metric,
            "test_ece": None if (found := self.calibration) is None else found.error,
        }


@dataclass(frozen=True)
class Confirmation:
    """What `confirm` found.

    Attributes:
        finals: One a design, by parameters ascending.
        epochs: Of each training.
        augmented: Whether their images were changed at random.
        test_images: How many were measured on.
        classes: Names of the task's classes, by number.
        metric: What finals are judged by.
        comparisons: Of all pairs of finals with predictions; a comes before b among the finals.
        notes: What is odd about the images, a line each.
    """

    finals: tuple[Final, ...]
    epochs: int
    augmented: bool
    test_images: int
    classes: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    notes: tuple[str, ...] = ()
    metric: str = metrics.ACCURACY

    @property
    def seeds(self) -> int:
        """Trainings a design, at most: where time decided, some have fewer."""
        return max((len(f.outcomes) for f in self.finals), default=0)

    @property
    def survivors(self) -> tuple[Final, ...]:
        """Designs that no other one beats, by parameters ascending."""
        return tuple(f for f in self.finals if f.survives)

    @property
    def front(self) -> tuple[Final, ...]:
        """Designs of the search's front, by parameters ascending."""
        return tuple(f for f in self.finals if f.finalist.on_front)

    def named(self, key: str) -> Final:
        """The final of a design."""
        return next(f for f in self.finals if f.key == key)

    def between(self, a: Final, b: Final) -> Comparison | None:
        """Two finals compared, seen from a; None where one has no predictions."""
        pair = {a.key, b.key}
        return next((c.seen_from(a.key) for c in self.comparisons if {c.a, c.b} == pair), None)


def judge(finals: Iterable[Final], metric: str = metrics.ACCURACY) -> tuple[tuple[Final, ...], tuple[Comparison, ...]]:
    """The finals by parameters ascending, each with whether it survives, and all pairs compared.

    A design is beaten only by one of no more parameters that is better beyond doubt: corrected for the number of
    designs, and for the luck of images and of trainings; see `statistics.paired`. What has no predictions can neither
    beat nor be beaten.

    Args:
        finals: Of the same test images.
        metric: What they are judged by.
    """
    asked = [replace(f, metric=metric) for f in finals]
    ordered = sorted(asked, key=lambda f: (f.finalist.parameters, -(f.mean or 0.0), f.key))
    answers = {f.key: values for f in ordered if (values := f.added) is not None}
    labels = next((f.labels for f in ordered if f.key in answers), None)
    strata = None if labels is None else metrics.strata(metric, labels)
    comparisons = tuple(replace(c, metric=metric) for c in compare(answers, strata))
    known = intervals(answers, strata)
    judged = []
    for final in ordered:
        beating = _beating(final, ordered, comparisons)
        survives = final.mean is not None and not beating
        judged.append(replace(final, interval=known.get(final.key), beaten_by=beating, survives=survives))
    return tuple(judged), comparisons


def _beating(final: Final, finals: Sequence[Final], comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    sizes = {f.key: f.finalist.parameters for f in finals}
    seen = [c.seen_from(final.key) for c in comparisons if final.key in (c.a, c.b)]
    return tuple(c.b for c in seen if c.verdict == "worse" and sizes[c.b] <= sizes[final.key])
