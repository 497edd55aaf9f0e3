"""What formats have in common: a folder that is free, and logits that are those of the training."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from utuning_search.backbones.merge import merge
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import StudyError
from utuning_search.common.files import is_there
from utuning_search.results.checked import tolerance
from utuning_search.results.classifier import TunedClassifier
from utuning_search.search.trials import TrialRecord

ONE = 1  # image: the other size of a batch that a program is checked at


@dataclass(frozen=True)
class Written:
    """What an export did, and how its folder is used.

    Attributes:
        checked: What was compared and how far it is off, in words that go on a sentence; empty where nothing was.
        lines: Of Python that use it.
        command: One that uses it; may be empty.
    """

    checked: str
    lines: tuple[str, ...]
    command: str = ""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A trial's tuner on its backbone, whose logits have been found to be those of its training.

    Attributes:
        model: In evaluation mode, on the CPU, not merged.
        inputs: Normalised images (images, channels, size, size).
        wanted: The logits of `inputs` that the training kept, (images, classes).
        apart: Largest absolute difference of the model's logits from those.
    """

    model: TunedClassifier
    inputs: Tensor
    wanted: Tensor
    apart: float

    def merged(self) -> TunedModel:
        """A copy with everything folded that can be, frozen."""
        return merge(self.model.model).eval().requires_grad_(False)


def check_free(out: Path, names: tuple[str, ...]) -> None:
    """Raise StudyError where a folder holds one of the files already."""
    for name in names:  # a README.md may be the user's own
        if is_there(out / name):
            raise StudyError(f"folder {out}", "it holds no exported tuner yet", name, "Choose another with --out.")


@torch.no_grad()
def check_logits(run: Callable[[Tensor], Tensor], loaded: Loaded, record: TrialRecord, what: str) -> str:
    """Compare what was exported with the training, one image at a time and all at once.

    Args:
        run: What was written, read back: normalised images to logits.
        loaded: What it was made of.
        record: Of the trial.
        what: It is, for the error.

    Returns:
        What was found, for `Written.checked`.

    Raises:
        StudyError: It computes something else, beyond `checked.tolerance`.
    """
    most, apart = tolerance(loaded.wanted), 0.0
    sizes = (ONE, len(loaded.inputs))
    for size in sizes:
        got, wanted = run(loaded.inputs[:size]), loaded.wanted[:size]
        found = float((got.float() - wanted).abs().max()) if got.shape == wanted.shape else float("nan")
        if not found <= most:
            rule = f"{what}, its logits of a batch of {size} are those of its training, up to {most:.1e}"
            todo = "Export it as it was trained: --format tuner."
            raise StudyError(f"trial {record.number}", rule, f"a difference of {found:.1e}", todo)
        apart = max(apart, found)
    batches, allowed = " and ".join(map(str, sizes)), f"{most:.1e} is allowed"
    return f"{what}, its logits at batches of {batches} differ from the trial's by at most {apart:.1e} ({allowed})"
