"""The format `tuner`: a folder that loads in three lines, and what all other formats are made of."""

import platform
import shlex
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
import tomli_w
import torch
from torch import Tensor

from utuning_search.common.errors import StudyError
from utuning_search.common.files import whole_folder, write_atomically
from utuning_search.common.seeds import derive_seed
from utuning_search.common.text import python_string
from utuning_search.designs import keys
from utuning_search.designs.nearest import references
from utuning_search.results.checked import difference, tolerance
from utuning_search.results.classifier import TunedClassifier
from utuning_search.results.exported import FORMAT, README, TUNER_TOML, TUNER_WEIGHTS
from utuning_search.results.exports.base import Loaded, Written, check_free
from utuning_search.results.exports.card import TRAINED_ON, USED, card
from utuning_search.results.load import open_tuned
from utuning_search.results.outcomes import EXPORTED_SEED, confirmed_decoding, confirmed_metrics
from utuning_search.results.trained import again, read_source, source_of
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord
from utuning_search.training.context import backbone_digest, checkpoint_of, load_search
from utuning_search.training.weights import (
    CHECK,
    SEAL,
    check_images,
    older_check_images,
    sealed,
    tuner_digest,
)

PACKAGES = ("utuning-search", "torch", "timm", "optuna")


def export(study: Study, record: TrialRecord, out: Path, data_dir: str | None = None) -> Written:
    """As `export_trial`, with how it is used."""
    apart = export_trial(study, record, out, data_dir)
    local = bool(study.spec.task.backbone.checkpoint)
    where = ', data_dir="DATA_DIR"' if local else ""
    lines = ("from utuning_search import load_tuned", f"model = load_tuned({python_string(out)}{where})", USED)
    command = f"utuning-search predict {shlex.quote(str(out))} photo.jpg" + (" --data-dir DATA_DIR" if local else "")
    return Written(f"loaded again, its logits differ from the trial's by at most {apart:.1e}", lines, command)


def export_trial(study: Study, record: TrialRecord, out: Path, data_dir: str | None = None) -> float:
    """Write tuner.toml, tuner.safetensors and README.md into `out`, once they were loaded back and compared.

    A confirmed design is exported as its confirmation's first seed trained it, on all training images; another as
    its trial did. The images of neither need to be there.

    Returns:
        Largest absolute difference between the loaded tuner's logits and those of that training, on images of noise.

    Raises:
        StudyError: There are no weights to export, they are not those that were trained, or loaded back they compute
            something else (beyond `checked.TOLERANCE`); then nothing is written.
    """
    source_of(study, record)
    check_free(out, (TUNER_TOML, TUNER_WEIGHTS, README))
    ready = prepare(study, record, data_dir)
    with whole_folder(out, last=TUNER_TOML) as folder:
        write_atomically(folder / README, card(study, record, ready.table, out.resolve().name))
        return write_tuner(ready, folder).apart


def load_trial(study: Study, record: TrialRecord, data_dir: str | None = None, *, fused: bool = False) -> Loaded:
    """A trial's tuner on its backbone, as an export of it loads; nothing is left of that export.

    Args:
        study, record, data_dir: As of `export_trial`.
        fused: Attention in fused kernels.

    Raises:
        StudyError: As `export_trial`.
    """
    ready = prepare(study, record, data_dir)
    with tempfile.TemporaryDirectory() as folder:
        return write_tuner(ready, Path(folder), fused=fused)


@dataclass(frozen=True)
class Ready:
    """What an exported tuner will hold, and where it comes from.

    Attributes:
        study: Of the trial.
        source: The file with the weights of its training.
        todo: What helps if they are not what they were.
        confirmed: Whether these are those of the design's confirmation.
        tensors: Tuners, head, and the logits to compare with.
        table: Of tuner.toml.
        data_dir: Where relative paths start.
    """

    study: Study
    source: Path
    todo: str
    confirmed: bool
    tensors: dict[str, Tensor]
    table: dict[str, Any]
    data_dir: str | None


def prepare(study: Study, record: TrialRecord, data_dir: str | None = None) -> Ready:
    """Read what an export of a trial holds; nothing is written.

    Raises:
        StudyError: There are no weights to export, or they are not those that were trained.
    """
    source, confirmed = source_of(study, record)
    tensors = read_source(study, record)
    data_dir = data_dir or study.local.get("data_dir")
    digests = backbone_digest(study.spec.task, data_dir), tuner_digest(tensors)
    table = tuner_table(study, record, *digests, confirmed=confirmed)
    return Ready(study, source, again(study, record, confirmed), confirmed, tensors, table, data_dir)


def write_tuner(ready: Ready, folder: Path, *, fused: bool = False) -> Loaded:
    """Write a tuner's weights and tuner.toml into a folder, load them back and compare their logits.

    Args:
        ready: What is written.
        folder: Exists; the caller removes it after an error.
        fused: Attention of the loaded model in fused kernels.

    Raises:
        StudyError: The logits are not those of the training.
    """
    tensors, data_dir, task = dict(ready.tensors), ready.data_dir, ready.study.spec.task
    write_atomically(folder / TUNER_WEIGHTS, safetensors.torch.save(tensors))
    write_atomically(folder / TUNER_TOML, tomli_w.dumps(ready.table))
    loaded, _, _ = open_tuned(folder, data_dir=data_dir, checkpoint=checkpoint_of(task, data_dir), fused=fused)
    inputs, wanted = _checked_on(ready, loaded), tensors[CHECK]
    apart = difference(loaded, inputs, wanted)
    if not apart <= tolerance(wanted):
        rule = f"loaded again, its logits are those of its training, up to {tolerance(wanted):.1e}"
        raise StudyError(f"file {ready.source}", rule, f"a difference of {apart:.1e}", ready.todo)
    if SEAL not in tensors:  # of an older version: from here on it can be checked without images
        with torch.no_grad():
            tensors[CHECK] = loaded(loaded.preprocess(check_images(loaded.preprocessing)))
        write_atomically(folder / TUNER_WEIGHTS, safetensors.torch.save(sealed(tensors)))
    return Loaded(loaded, inputs, wanted, apart)


def _checked_on(ready: Ready, loaded: TunedClassifier) -> Tensor:
    """The normalised images whose logits a training kept: noise, but for trials of older versions."""
    if SEAL in ready.tensors:
        images = check_images(loaded.preprocessing)
    elif ready.confirmed:
        images = older_check_images(loaded.preprocessing)
    else:
        validation = load_search(ready.study.spec.task, ready.data_dir).data.validation
        images = validation.images[: len(ready.tensors[CHECK])]
    return loaded.preprocess(images)


def tuner_table(
    study: Study, record: TrialRecord, backbone: str, tuner: str, *, confirmed: bool = False
) -> dict[str, Any]:
    """What tuner.toml holds.

    Args:
        backbone: Digest of its weights.
        tuner: Digest of the weights of tuners and head.
        confirmed: Whether these are those of the design's confirmation.
    """
    if record.design is None:
        raise StudyError(f"trial {record.number}", "it has a design", "none")
    task = study.spec.task.to_dict()
    decoding = (confirmed_decoding(study.folder, record.key) if confirmed else None) or study.decoding
    return {
        "format": FORMAT,
        "digest": tuner,
        "classes": study.classes,
        "design": record.design.to_dict(),
        "backbone": {**task.pop("backbone"), "digest": backbone},
        "shape": study.shape.to_dict(),
        "task": task,
        **({"decoding": read} if (read := decoding.to_dict()) else {}),
        "metrics": {
            "validation_accuracy": record.accuracy,
            "parameters": record.parameters,
            **{n: v for n, v in record.values.items() if n not in ("accuracy", "parameters")},
            "tuner_parameters": record.design.num_parameters(study.shape),
            "epochs": study.spec.task.recipe.epochs,
            **confirmed_metrics(study.folder, record.key),
        },
        "provenance": {
            "study": study.name,
            "study_digest": study.spec.digest,
            "space": study.spec.space.name,
            "trial": record.number,
            "key": record.key,
            "key_scheme": keys.SCHEME,
            "preset": record.preset,
            "seed": study.spec.seed,
            "trained_on": TRAINED_ON[confirmed],
            "training_seed": derive_seed(
                study.spec.seed, f"final {record.key} {EXPORTED_SEED}" if confirmed else f"training {record.key}"
            ),
            "precision": study.spec.precision,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
            "cite": [r.bibtex() for r in references(record.design, study.shape.depth)],
        },
    }
