"""The weights that a study's trainings left for exports: which ones, and whether they are what they were."""

from pathlib import Path

import safetensors.torch
from torch import Tensor

from utuning_search.common.errors import StudyError
from utuning_search.results.outcomes import FINALS, confirmed_weights
from utuning_search.search.layout import named
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord
from utuning_search.training.weights import CHECK, is_whole


def source_of(study: Study, record: TrialRecord) -> tuple[Path, bool]:
    """Where a complete trial's weights are, and whether they are those of its design's confirmation."""
    if record.state != "complete" or record.design is None:
        raise StudyError(f"trial {record.number}", "only a complete trial has a tuner", record.state)
    confirmed = confirmed_weights(study.folder, record.key)
    if confirmed is not None:
        return confirmed, True
    source = study.weights_file(record.number if record.reused is None else record.reused)
    if not source.exists():
        todo = again(study, record, False)
        raise StudyError(f"trial {record.number}", "its weights are in the study's folder", f"no {source.name}", todo)
    return source, False


def read_source(study: Study, record: TrialRecord) -> dict[str, Tensor]:
    """The tensors of a complete trial's weights, see `source_of`; they are as they were kept.

    Raises:
        StudyError: They are not.
    """
    path, confirmed = source_of(study, record)
    rule, todo = "it holds the weights that were trained", again(study, record, confirmed)
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
