"""Write a trial's tuner as a folder that loads in three lines."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
import tomli_w
import torch

from utuning_search.common.errors import StudyError
from utuning_search.common.files import make_folder, write_atomically
from utuning_search.common.seeds import derive_seed
from utuning_search.designs import keys
from utuning_search.designs.nearest import references
from utuning_search.results.card import TRAINED_ON, card
from utuning_search.results.exported import FORMAT, README, TUNER_TOML, TUNER_WEIGHTS
from utuning_search.results.load import load_tuned, weights_digest
from utuning_search.results.outcomes import EXPORTED_SEED, confirmed_metrics, confirmed_weights
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord
from utuning_search.training.context import load_search
from utuning_search.training.weights import CHECK, check_images

PACKAGES = ("utuning-search", "torch", "timm", "optuna")


def export_trial(study: Study, record: TrialRecord, out: Path, data_dir: str | None = None) -> float:
    """Write tuner.toml, tuner.safetensors and README.md into `out`, and load them back.

    A confirmed design is exported as its confirmation's first seed trained it, on all training images; another as
    its trial did.

    Returns:
        Largest absolute difference between the loaded tuner's logits and those of that training, on the first 16
        validation images for a trial and on images of noise for a confirmed design.
    """
    source, confirmed = source_of(study, record)
    check_free(out, (TUNER_TOML, TUNER_WEIGHTS, README))
    data_dir = data_dir or study.local.get("data_dir")
    context = load_search(study.spec.task, data_dir)
    table = tuner_table(study, record, weights_digest(context.backbone), confirmed=confirmed)
    make_folder(out)
    write_atomically(out / TUNER_WEIGHTS, source.read_bytes())
    write_atomically(out / README, card(study, record, table, out.resolve().name))
    write_atomically(out / TUNER_TOML, tomli_w.dumps(table))
    loaded = load_tuned(out, data_dir=data_dir)
    wanted = safetensors.torch.load_file(source)[CHECK]
    with torch.no_grad():
        images = check_images(loaded.preprocessing) if confirmed else context.data.validation.images[: len(wanted)]
        got = loaded(loaded.preprocess(images))
    return float((got - wanted).abs().max())


def source_of(study: Study, record: TrialRecord) -> tuple[Path, bool]:
    """Where a complete trial's weights are, and whether they are those of its design's confirmation."""
    if record.state != "complete" or record.design is None:
        raise StudyError(f"trial {record.number}", "only a complete trial has a tuner", record.state)
    confirmed = confirmed_weights(study.folder, record.key)
    if confirmed is not None:
        return confirmed, True
    source = study.weights_file(record.number if record.reused is None else record.reused)
    if not source.exists():
        raise StudyError(f"trial {record.number}", "its weights are in the study's folder", f"no {source.name}")
    return source, False


def check_free(out: Path, names: tuple[str, ...]) -> None:
    for name in names:  # a README.md may be the user's own
        if (out / name).exists():
            raise StudyError(f"folder {out}", "it holds no exported tuner yet", name, "Choose another with --out.")


def tuner_table(study: Study, record: TrialRecord, backbone_digest: str, *, confirmed: bool = False) -> dict[str, Any]:
    """What tuner.toml holds; `confirmed` says that the weights are those of the design's confirmation."""
    if record.design is None:
        raise StudyError(f"trial {record.number}", "it has a design", "none")
    task = study.spec.task.to_dict()
    return {
        "format": FORMAT,
        "classes": study.classes,
        "design": record.design.to_dict(),
        "backbone": {**task.pop("backbone"), "digest": backbone_digest},
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
