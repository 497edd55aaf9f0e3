"""Finals: what the numbers of a confirmation say, and which designs survive it."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from utuning_search.results.finalists import Finalist
from utuning_search.results.outcomes import Outcome


@dataclass(frozen=True)
class Final:
    """A finalist and what its trainings gave, one a seed; `survives` is judged among all finalists."""

    finalist: Finalist
    outcomes: tuple[Outcome, ...]
    survives: bool = False

    @property
    def reason(self) -> str:
        """Why a training failed; else that memory was short in one, which changed no result; or empty."""
        failed = [o.reason for o in self.outcomes if o.accuracy is None]
        return next((reason for reason in failed + [o.reason for o in self.outcomes] if reason), "")

    @property
    def mean(self) -> float | None:
        """Mean test accuracy over seeds; None if a training failed: a mean of the rest would flatter."""
        values = [o.accuracy for o in self.outcomes if o.accuracy is not None]
        return statistics.fmean(values) if values and len(values) == len(self.outcomes) else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None for fewer than two."""
        values = [o.accuracy for o in self.outcomes if o.accuracy is not None]
        return None if self.mean is None or len(values) < 2 else statistics.stdev(values)

    @property
    def se(self) -> float | None:
        """Standard error of the mean; None for fewer than two seeds."""
        return None if self.sd is None else self.sd / math.sqrt(len(self.outcomes))

    def mean_of(self, name: str) -> float | None:
        """Mean over seeds of another measured objective on the test split; None if a training failed."""
        values = [o.others[name] for o in self.outcomes if name in o.others]
        return statistics.fmean(values) if values and len(values) == len(self.outcomes) else None

    @property
    def luck(self) -> float | None:
        """Validation accuracy in the search minus mean test accuracy."""
        validation = self.finalist.validation
        return None if validation is None or self.mean is None else validation - self.mean

    @property
    def memory_mb(self) -> float | None:
        """The most over seeds: later trainings of a process find memory that earlier ones left to it."""
        return max((o.memory_mb for o in self.outcomes if o.memory_mb is not None), default=None)

    def middle(self, name: str) -> float | None:
        """Median over seeds of what was measured of a training, such as "seconds"; None if nothing was."""
        values = [v for v in (getattr(o, name) for o in self.outcomes) if v is not None]
        return statistics.median(values) if values else None

    def to_dict(self) -> dict[str, Any]:
        """The row of finals.csv."""
        who = self.finalist
        return {
            "key": who.design.key,
            "design": str(who.design),
            "preset": who.preset,
            "nearest": who.nearest,
            "parameters": who.parameters,
            "tuner_parameters": who.tuner_parameters,
            "test_mean": self.mean,
            "test_sd": self.sd,
            "test_se": self.se,
            **{f"test_{name}": self.mean_of(name) for name in self.outcomes[0].others},
            "seeds": sum(o.accuracy is not None for o in self.outcomes),
            "validation": who.validation,
            "luck": self.luck,
            "seconds": self.middle("seconds"),
            "memory_mb": self.memory_mb,
            "inference_ratio": self.middle("inference_ratio"),
            "survives": self.survives,
            "merged_ratio": self.middle("merged_ratio"),
            "front": who.on_front,
            "trial": who.trial,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Confirmation:
    """What `confirm` found.

    Attributes:
        finals: One a design, by parameters ascending.
        seeds: Trainings a design.
        epochs: Of each.
        augmented: Whether their images were changed at random.
        test_images: How many images were measured on.
    """

    finals: tuple[Final, ...]
    seeds: int
    epochs: int
    augmented: bool
    test_images: int

    @property
    def survivors(self) -> tuple[Final, ...]:
        """Designs that no other one beats, by parameters ascending."""
        return tuple(f for f in self.finals if f.survives)

    @property
    def front(self) -> tuple[Final, ...]:
        """Designs of the search's front, by parameters ascending."""
        return tuple(f for f in self.finals if f.finalist.on_front)

    @property
    def luck(self) -> float | None:
        """Mean over the search's front of validation minus test accuracy; None without one."""
        values = [f.luck for f in self.front if f.luck is not None]
        return statistics.fmean(values) if values else None


def judge(finals: Iterable[Final]) -> tuple[Final, ...]:
    """The finals by parameters ascending, each with whether it survives.

    A design is beaten by one of no more parameters whose mean is higher by more than one standard error of the
    difference, and by a smaller one that is exactly as accurate in every seed. With one seed there is no
    standard error, and any higher mean beats.
    """
    ordered = sorted(finals, key=lambda f: (f.finalist.parameters, -(f.mean or 0.0), f.finalist.design.key))
    return tuple(
        Final(f.finalist, f.outcomes, f.mean is not None and not any(_beats(other, f) for other in ordered))
        for f in ordered
    )


def _beats(a: Final, b: Final) -> bool:
    if a.mean is None or b.mean is None or a.finalist.parameters > b.finalist.parameters:
        return False
    error, gap = math.hypot(a.se or 0.0, b.se or 0.0), a.mean - b.mean
    smaller = a.finalist.parameters < b.finalist.parameters
    return gap > error or (gap == 0 == error and smaller)
