"""The weights that a study's trainings left for exports: which ones, and whether they are what they were."""

from pathlib import Path

import safetensors.torch
from torch import Tensor, nn

from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import StudyError
from utuning_search.designs.design import Design
from utuning_search.results.outcomes import AGAIN, FINALS, WEIGHTS, Outcome, confirmed_weights, outcome_file
from utuning_search.search.layout import named
from utuning_search.search.storage import is_shared
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord
from utuning_search.training.weights import CHECK, SEAL, is_whole


def source_of(study: Study, record: TrialRecord) -> tuple[Path, bool]:
    """Where a complete trial's weights are, and whether they are those of its design's confirmation."""
    if record.state != "complete" or record.design is None:
        raise StudyError(f"trial {record.number}", "only a complete trial has a tuner", record.state)
    confirmed = confirmed_weights(study.folder, record.key)
    if confirmed is not None:
        return confirmed, True
    source = study.found_weights(record.number if record.reused is None else record.reused)
    if not source.exists():
        todo = again(study, record, False)
        if is_shared(study.url) and study.artifacts is None:
            todo = f"It may lie in another machine's folder, as the study was created without --artifacts. {todo}"
        raise StudyError(f"trial {record.number}", "its weights are in the study's folder", f"no {source.name}", todo)
    return source, False


def read_source(study: Study, record: TrialRecord) -> dict[str, Tensor]:
    """The tensors of a complete trial's weights, see `source_of`; they are as they were kept.

    Raises:
        StudyError: They are not.
    """
    path, confirmed = source_of(study, record)
    return read_weights(path, again(study, record, confirmed))


def final_model(study: Study, design: Design, outcome: Outcome, backbone: nn.Module) -> TunedModel | None:
    """A training of a finalist as it ended, in evaluation mode on the backbone's device; None without its weights.

    Older versions kept those of the first seed only.

    Args:
        study: Of the finalist.
        design: Of the finalist.
        outcome: Of the training.
        backbone: The study's, which the model shares.

    Raises:
        StudyError: The weights are damaged.
    """
    path = outcome_file(study.folder, outcome.key, outcome.epochs, outcome.augmented, outcome.seed)
    if outcome.accuracy is None or not path.with_suffix(WEIGHTS).exists():
        return None
    tensors = read_weights(path.with_suffix(WEIGHTS), AGAIN)
    model = TunedModel(backbone, design, len(study.classes))
    model.load_tuner_state_dict({name: t for name, t in tensors.items() if name not in (CHECK, SEAL)})
    return model.to(next(backbone.parameters()).device).eval()


def read_weights(path: Path, todo: str) -> dict[str, Tensor]:
    """The tensors of a kept training; they are as they were kept.

    Raises:
        StudyError: They are not; `todo` says what helps.
    """
    rule = "it holds the weights that were trained"
    try:
        tensors = safetensors.torch.load_file(path)
    except Exception as error:
        raise StudyError(f"file {path}", rule, f"{type(error).__name__}: {error}", todo) from None
    if CHECK not in tensors or not is_whole(tensors):
        raise StudyError(f"file {path}", rule, "others" if CHECK in tensors else f"no {CHECK}", todo)
    if not tensors[CHECK].isfinite().all():
        raise StudyError(f"file {path}", "the logits of its training are finite", "some that are not", todo)
    return tensors


def again(study: Study, record: TrialRecord, confirmed: bool) -> str:
    """How weights that are lost or damaged are trained again: an export takes those of a confirmation."""
    first = f"remove {study.folder / FINALS}/{record.key}_*" if confirmed else ""
    train = f"train it again: utuning-search confirm {named(study.folder)} --trial {record.number}"
    said = f"{first}, and {train}" if first else train
    return f"Put it back as it was, or {said}"
