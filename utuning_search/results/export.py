"""Write a trial's tuner as a folder that loads in three lines."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
import tomli_w
import torch
from torch import Tensor

from utuning_search.common.errors import StudyError
from utuning_search.common.files import is_there, whole_folder, write_atomically
from utuning_search.common.seeds import derive_seed
from utuning_search.designs import keys
from utuning_search.designs.nearest import references
from utuning_search.results.card import TRAINED_ON, card
from utuning_search.results.checked import difference, tolerance
from utuning_search.results.classifier import TunedClassifier
from utuning_search.results.exported import FORMAT, README, TUNER_TOML, TUNER_WEIGHTS
from utuning_search.results.load import open_tuned
from utuning_search.results.outcomes import EXPORTED_SEED, confirmed_metrics
from utuning_search.results.trained import again, read_source, source_of
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord
from utuning_search.training.context import backbone_digest, load_search
from utuning_search.training.weights import (
    CHECK,
    SEAL,
    check_images,
    older_check_images,
    sealed,
    tuner_digest,
)

PACKAGES = ("utuning-search", "torch", "timm", "optuna")


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
    source, confirmed = source_of(study, record)
    check_free(out, (TUNER_TOML, TUNER_WEIGHTS, README))
    tensors = read_source(study, record)
    data_dir = data_dir or study.local.get("data_dir")
    digests = backbone_digest(study.spec.task, data_dir), tuner_digest(tensors)
    table = tuner_table(study, record, *digests, confirmed=confirmed)
    with whole_folder(out, last=TUNER_TOML) as folder:
        write_atomically(folder / TUNER_WEIGHTS, safetensors.torch.save(tensors))
        write_atomically(folder / README, card(study, record, table, out.resolve().name))
        write_atomically(folder / TUNER_TOML, tomli_w.dumps(table))
        loaded, _, _ = open_tuned(folder, data_dir=data_dir)
        wanted = tensors[CHECK]
        apart = difference(loaded, _checked_on(study, loaded, tensors, confirmed, data_dir), wanted)
        if not apart <= tolerance(wanted):
            rule = f"loaded again, its logits are those of its training, up to {tolerance(wanted):.1e}"
            raise StudyError(f"file {source}", rule, f"a difference of {apart:.1e}", again(study, record, confirmed))
        if SEAL not in tensors:  # of an older version: from here on it can be checked without images
            with torch.no_grad():
                tensors[CHECK] = loaded(loaded.preprocess(check_images(loaded.preprocessing)))
            write_atomically(folder / TUNER_WEIGHTS, safetensors.torch.save(sealed(tensors)))
    return apart


def _checked_on(
    study: Study, loaded: TunedClassifier, tensors: Mapping[str, Tensor], confirmed: bool, data_dir: str | None
) -> Tensor:
    """The normalised images whose logits a training kept: noise, but for trials of older versions."""
    if SEAL in tensors:
        images = check_images(loaded.preprocessing)
    elif confirmed:
        images = older_check_images(loaded.preprocessing)
    else:
        images = load_search(study.spec.task, data_dir).data.validation.images[: len(tensors[CHECK])]
    return loaded.preprocess(images)


def check_free(out: Path, names: tuple[str, ...]) -> None:
    for name in names:  # a README.md may be the user's own
        if is_there(out / name):
            raise StudyError(f"folder {out}", "it holds no exported tuner yet", name, "Choose another with --out.")


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
    return {
        "format": FORMAT,
        "digest": tuner,
        "classes": study.classes,
        "design": record.design.to_dict(),
        "backbone": {**task.pop("backbone"), "digest": backbone},
        "shape": study.shape.to_dict(),
        "task": task,
        **({"decoding": read} if (read := study.decoding.to_dict()) else {}),
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
