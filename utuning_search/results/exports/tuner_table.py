"""What tuner.toml says: the design, its backbone and task, how good it is, and where it comes from."""

import platform
from importlib.metadata import version
from typing import Any

from utuning_search.common.errors import StudyError
from utuning_search.common.seeds import derive_seed
from utuning_search.designs import keys
from utuning_search.designs.nearest import references
from utuning_search.results.exported import FORMAT
from utuning_search.results.exports.card import TRAINED_ON
from utuning_search.results.outcomes import EXPORTED_SEED, confirmed_decoding, confirmed_metrics
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord

PACKAGES = ("utuning-search", "torch", "timm", "optuna")


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
