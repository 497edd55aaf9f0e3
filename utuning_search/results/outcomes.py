"""What is kept of each training of a finalist.

Every one is a JSON file in the study's `finals` folder, so what was finished is never trained again, and nothing here
depends on the order in which trainings ended.
"""

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from utuning_search.common.errors import InputError, StudyError
from utuning_search.common.files import write_atomically
from utuning_search.common.toml import build
from utuning_search.data.decoding import Decoding
from utuning_search.search.defaults import METRICS

FINALS, SEED = "finals", "_seed"
OUTCOME, SHOWN = "it is a finalist's outcome", 80  # characters of a name in an error
AGAIN = "Remove it; its design is then trained again."
WEIGHTS = ".safetensors"
T = TypeVar("T")
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
        others: What the study's other measured objectives say of the test split, by name.
        decoding: How pictures were read, see `Decoding.to_dict`; None where an older version kept nothing of it.
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
    others: dict[str, float] = field(default_factory=dict)
    decoding: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        check_share("accuracy", self.accuracy)
        Decoding.from_dict(self.decoding or {})


def outcome_file(folder: Path, key: str, epochs: int, augmented: bool, seed: int) -> Path:
    """Where the outcome of one training is kept; `folder` is the study's."""
    return folder / FINALS / f"{key}_{epochs}epochs{'' if augmented else '_plain'}{SEED}{seed}.json"


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
    found = read_kept(Outcome, path, OUTCOME)
    named = outcome_file(Path(), found.key, found.epochs, found.augmented, found.seed).name
    if named != path.name:
        raise StudyError(f"file {path}", OUTCOME, f"that of {named[:SHOWN]}", AGAIN)
    return found


def read_kept(cls: type[T], path: Path, rule: str) -> T:
    """A dataclass from the JSON file that it was kept in.

    Raises:
        StudyError: The file is damaged, which breaks the rule.
    """
    try:
        return build(cls, json.loads(path.read_text(encoding="utf-8")), path.name)
    except (OSError, ValueError, RecursionError) as error:
        got = f"{type(error).__name__}: {str(error).removesuffix('.')}"
        raise StudyError(f"file {path}", rule, got, AGAIN) from None


def check_share(name: str, value: float | None) -> None:
    """Raise InputError if an accuracy, where there is one, is no share."""
    if value is not None and not 0 <= value <= 1:
        raise InputError(name, f"{name} is from 0 to 1", value)


def _longest(folder: Path, key: str) -> list[Outcome]:
    """A design's outcomes that count: of trainings of several lengths the longest, of these the augmented ones."""
    outcomes = [read_outcome(p) for p in sorted((folder / FINALS).glob(f"{key}_*.json"))]
    kind = max(((o.epochs, o.augmented) for o in outcomes), default=(0, True))
    return [o for o in outcomes if (o.epochs, o.augmented) == kind]


def confirmed_weights(folder: Path, key: str) -> Path | None:
    """The weights that a design's confirmation left for exports: of its first seed, trained on all training images."""
    outcome = _exported(folder, key)
    return None if outcome is None else _weights_file(folder, outcome)


def confirmed_decoding(folder: Path, key: str) -> Decoding | None:
    """How the pictures of that training were read; None where nothing is kept of it.

    A search has drawn some of the images only, among which may be none of a kind that others are of.
    """
    outcome = _exported(folder, key)
    return None if outcome is None or outcome.decoding is None else Decoding.from_dict(outcome.decoding)


def _exported(folder: Path, key: str) -> Outcome | None:
    """The training of a design whose weights exports take, if they are there."""
    for outcome in _longest(folder, key):
        if outcome.seed == EXPORTED_SEED and outcome.accuracy is not None and _weights_file(folder, outcome).exists():
            return outcome
    return None


def _weights_file(folder: Path, outcome: Outcome) -> Path:
    path = outcome_file(folder, outcome.key, outcome.epochs, outcome.augmented, EXPORTED_SEED)
    return path.with_suffix(WEIGHTS)


def confirmed_metrics(folder: Path, key: str) -> dict[str, float | int]:
    """Test accuracy of a design for its export, and other metrics: mean, deviation and number of seeds.

    Empty if it is not confirmed.

    Of trainings of several lengths the longest count, of these the augmented ones. The deviation is left out for
    one seed.
    """
    outcomes = _longest(folder, key)
    values = [o.accuracy for o in outcomes]
    known = [v for v in values if v is not None]
    if not known or len(known) < len(values):
        return {}
    found: dict[str, float | int] = {"test_accuracy_mean": statistics.fmean(known), "test_seeds": len(known)}
    for name in METRICS:
        if all(name in o.others for o in outcomes):
            others = [o.others[name] for o in outcomes]
            found[f"test_{name}_mean"] = statistics.fmean(others)
            if len(others) > 1:
                found[f"test_{name}_sd"] = statistics.stdev(others)
    return found if len(known) < 2 else {**found, "test_accuracy_sd": statistics.stdev(known)}
