"""Finals: what is kept of each training of a finalist, and what the numbers say.

Every training of a finalist is one JSON file in the study's `finals` folder, so what was finished is never trained
again, and nothing here depends on the order in which trainings ended.
"""

import json
import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from utuning_search.common.errors import StudyError
from utuning_search.common.files import write_atomically
from utuning_search.results.finalists import Finalist

FINALS = "finals"
WEIGHTS = ".safetensors"
EXPORTED_SEED = 0  # an export takes this training's weights; the best of several on the test split would flatter


@dataclass(frozen=True)
class Outcome:
    """One training of a finalist, as it is kept.

    Attributes:
        key: Of the design.
        design: As a table.
        seed: From 0; the training's own seed is derived from it.
        epochs: Of the schedule.
        augmented: Whether training images were changed at random.
        data: Digest of the training and test images.
        test_images: How many were measured on.
        device, precision: Of the training.
        accuracy: On the test split, in [0, 1]; None where the training failed.
        seconds, memory_mb, inference_ratio, merged_ratio: See `training.full.Trained`; None where it failed.
        reason: Why it failed, or that memory was short; or empty.
        accumulation: In how many parts a batch was taken, because it did not fit into memory.
    """

    key: str
    design: dict[str, Any]
    seed: int
    epochs: int
    augmented: bool
    data: str
    test_images: int
    device: str
    precision: str
    accuracy: float | None = None
    seconds: float | None = None
    memory_mb: float | None = None
    inference_ratio: float | None = None
    merged_ratio: float | None = None
    reason: str = ""
    accumulation: int = 1


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


def outcome_file(folder: Path, key: str, epochs: int, augmented: bool, seed: int) -> Path:
    """Where the outcome of one training is kept; `folder` is the study's."""
    return folder / FINALS / f"{key}_{epochs}epochs{'' if augmented else '_plain'}_seed{seed}.json"


def keep_outcome(folder: Path, outcome: Outcome, weights: bytes = b"") -> None:
    """Write an outcome into the study's folder, and before it the weights beside it, where there are any."""
    path = outcome_file(folder, outcome.key, outcome.epochs, outcome.augmented, outcome.seed)
    if weights:
        write_atomically(path.with_suffix(WEIGHTS), weights)
    write_atomically(path, json.dumps(asdict(outcome), indent=1, ensure_ascii=False) + "\n")


def read_outcome(path: Path) -> Outcome:
    """An outcome as it was kept.

    Raises:
        StudyError: The file is damaged.
    """
    try:
        return Outcome(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        todo = "Remove it; its design is then trained again."
        raise StudyError(f"file {path}", "it is a finalist's outcome", type(error).__name__, todo) from None


def _longest(folder: Path, key: str) -> list[Outcome]:
    """A design's outcomes that count: of trainings of several lengths the longest, of these the augmented ones."""
    outcomes = [read_outcome(p) for p in sorted((folder / FINALS).glob(f"{key}_*.json"))]
    kind = max(((o.epochs, o.augmented) for o in outcomes), default=(0, True))
    return [o for o in outcomes if (o.epochs, o.augmented) == kind]


def confirmed_weights(folder: Path, key: str) -> Path | None:
    """The weights that a design's confirmation left for exports: of its first seed, trained on all training images."""
    for outcome in _longest(folder, key):
        path = outcome_file(folder, key, outcome.epochs, outcome.augmented, EXPORTED_SEED).with_suffix(WEIGHTS)
        if outcome.seed == EXPORTED_SEED and outcome.accuracy is not None and path.exists():
            return path
    return None


def confirmed_metrics(folder: Path, key: str) -> dict[str, float | int]:
    """Test accuracy of a design for its export: mean, deviation and number of seeds; empty if not confirmed.

    Of trainings of several lengths the longest count, of these the augmented ones. The deviation is left out for
    one seed.
    """
    outcomes = _longest(folder, key)
    values = [o.accuracy for o in outcomes]
    known = [v for v in values if v is not None]
    if not known or len(known) < len(values):
        return {}
    found: dict[str, float | int] = {"test_accuracy_mean": statistics.fmean(known), "test_seeds": len(known)}
    return found if len(known) < 2 else {**found, "test_accuracy_sd": statistics.stdev(known)}
