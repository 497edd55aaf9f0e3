"""What finals answered, image by image, so that they can be compared on the same images, and how sure they were.

Beside each outcome in the study's `finals` folder lie an array of class numbers and one of their probabilities, and
once for all of them the classes that are right. Outcomes of older versions have none.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from utuning_search.common.errors import StudyError
from utuning_search.common.files import write_atomically
from utuning_search.results.outcomes import FINALS, Outcome, outcome_file

PREDICTIONS, CONFIDENCES, LABELS = ".npy", "_confidence.npy", "test_labels.npy"
AGAIN_WITHOUT = "Remove it: finals then say nothing of calibration."
AGAIN = "Remove it and the .json beside it; its design is then trained again."
Classes = npt.NDArray[np.int64]  # (images,), numbers of classes
Floats = npt.NDArray[np.float64]


def predictions_file(folder: Path, outcome: Outcome) -> Path:
    """Where a training's predictions are kept; `folder` is the study's."""
    path = outcome_file(folder, outcome.key, outcome.epochs, outcome.augmented, outcome.seed)
    return path.with_suffix(PREDICTIONS)


def keep_predictions(folder: Path, outcome: Outcome, predictions: Classes) -> None:
    """Write a training's predictions; before its outcome, so that no outcome is without them."""
    write_atomically(predictions_file(folder, outcome), _packed(predictions))


def confidences_file(folder: Path, outcome: Outcome) -> Path:
    """Where it is kept how sure a training was."""
    path = predictions_file(folder, outcome)
    return path.with_name(f"{path.stem}{CONFIDENCES}")


def keep_confidences(folder: Path, outcome: Outcome, confidences: npt.NDArray[np.float32]) -> None:
    """Write how sure a training was of each prediction; before its outcome too."""
    content = io.BytesIO()
    np.save(content, confidences.astype(np.float32), allow_pickle=False)
    write_atomically(confidences_file(folder, outcome), content.getvalue())


def keep_labels(folder: Path, labels: Classes) -> None:
    """Write the test images' classes, unless they are there."""
    path, content = folder / FINALS / LABELS, _packed(labels)
    if not path.exists() or path.read_bytes() != content:
        write_atomically(path, content)


def read_labels(folder: Path) -> Classes | None:
    """The test images' classes; None where an older version kept none.

    Raises:
        StudyError: The file is damaged.
    """
    path = folder / FINALS / LABELS
    return _read(path, None, "Remove it, and confirm again.") if path.exists() else None


def read_predictions(folder: Path, outcomes: Sequence[Outcome]) -> Classes | None:
    """What each training answered, (trainings, images); None where one of them failed or kept no predictions.

    Raises:
        StudyError: A file is damaged.
    """
    paths = [predictions_file(folder, o) for o in outcomes]
    if not paths or any(o.accuracy is None or not p.exists() for o, p in zip(outcomes, paths, strict=True)):
        return None
    return np.stack([_read(p, o.test_images, AGAIN) for o, p in zip(outcomes, paths, strict=True)])


def read_confidences(folder: Path, outcomes: Sequence[Outcome]) -> Floats | None:
    """How sure each training was of each prediction, (trainings, images); None where one of them kept none.

    Raises:
        StudyError: A file is damaged.
    """
    paths = [confidences_file(folder, o) for o in outcomes]
    if not paths or not all(p.exists() for p in paths):
        return None
    return np.stack([_read_shares(p, o.test_images) for p, o in zip(paths, outcomes, strict=True)])


def _read_shares(path: Path, images: int) -> Floats:
    rule = "it holds a probability for each test image"
    found = _array(path, rule, AGAIN_WITHOUT)
    if found.dtype != np.float32 or found.shape != (images,) or not ((found >= 0) & (found <= 1)).all():
        raise StudyError(f"file {path}", rule, f"{found.dtype} {found.shape}", AGAIN_WITHOUT)
    shares: Floats = found.astype(np.float64)
    return shares


def _packed(classes: Classes) -> bytes:
    """As a .npy file, two bytes an image where that is enough."""
    most = int(classes.max(initial=0))
    content = io.BytesIO()
    np.save(content, classes.astype(np.uint16 if most < 2**16 else np.uint32), allow_pickle=False)
    return content.getvalue()


def _read(path: Path, images: int | None, todo: str) -> Classes:
    rule = "it holds the number of a class for each test image"
    found = _array(path, rule, todo)
    if found.ndim != 1 or found.dtype.kind != "u" or (images is not None and len(found) != images):
        raise StudyError(f"file {path}", rule, f"{found.dtype} {found.shape}", todo)
    classes: Classes = found.astype(np.int64)
    return classes


def _array(path: Path, rule: str, todo: str) -> npt.NDArray[Any]:
    """What a .npy file holds; a StudyError where that is no array."""
    try:
        found = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except Exception as error:  # whatever numpy makes of a damaged header, or of an archive
        raise StudyError(f"file {path}", rule, type(error).__name__, todo) from None
    if not isinstance(found, np.ndarray):
        raise StudyError(f"file {path}", rule, type(found).__name__, todo)
    return found
