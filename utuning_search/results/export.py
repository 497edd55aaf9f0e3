"""Write a trial's tuner as a folder that loads in three lines."""

import platform
import re
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import tomli_w
import torch

from utuning_search.backbones.vit import GLYPH_VIT
from utuning_search.common.errors import InputError, StudyError
from utuning_search.common.files import make_folder, write_atomically
from utuning_search.common.seeds import derive_seed
from utuning_search.designs.design import Design
from utuning_search.designs.nearest import references
from utuning_search.results.finals import EXPORTED_SEED, confirmed_metrics, confirmed_weights
from utuning_search.results.load import FORMAT, TUNER_TOML, TUNER_WEIGHTS, load_tuned, weights_digest
from utuning_search.results.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, check_peft, write_peft
from utuning_search.search.pareto import knee
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord, front_of
from utuning_search.training.context import load_search
from utuning_search.training.weights import CHECK, check_images

README = "README.md"
TRAINED_ON = {True: "all training images", False: "the proxy split"}
WEIGHTS_SAID = {
    True: "the weights here are those of the first seed",
    False: "the weights here are not those, but the trial's, which saw fewer images",
}
PACKAGES = ("utuning-search", "torch", "timm", "optuna")
PICKS = "best, knee, max-params=50k or trial=17"
_COUNT = re.compile(r"(\d+(?:\.\d+)?)([kKmM]?)")


def parse_count(text: str, where: str) -> int:
    """A number of parameters such as 50000, 50k or 1.2M."""
    match = _COUNT.fullmatch(text)
    if match is None:
        raise InputError(where, "a count is a number such as 50000, 50k or 1.2M", f"'{text}'")
    return round(float(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2].lower()])


def pick_trial(records: list[TrialRecord], how: str) -> TrialRecord:
    """The complete trial that `how` names: "best", "knee", "max-params=N" or "trial=N"."""
    best = front_of(records)
    kind, _, value = how.partition("=")
    if not best and kind != "trial":
        raise StudyError("--pick", "the study has a complete trial", "none", "Let it run on.")
    choices: dict[str, Callable[[], TrialRecord]] = {
        "best": lambda: best[-1],
        "knee": lambda: best[knee([r.accuracy or 0 for r in best], [r.parameters for r in best])],
        "max-params": lambda: _largest_within(best, parse_count(value, "--pick max-params")),
        "trial": lambda: _numbered(records, value),
    }
    if kind not in choices or bool(value) != (kind in ("max-params", "trial")):
        raise InputError("--pick", f"pick is {PICKS}", f"'{how}'")
    return choices[kind]()


def export_trial(study: Study, record: TrialRecord, out: Path, data_dir: str | None = None) -> float:
    """Write tuner.toml, tuner.safetensors and README.md into `out`, and load them back.

    A confirmed design is exported as its confirmation's first seed trained it, on all training images; another as
    its trial did.

    Returns:
        Largest absolute difference between the loaded tuner's logits and those of that training, on the first 16
        validation images for a trial and on images of noise for a confirmed design.
    """
    source, confirmed = _source(study, record)
    _check_free(out, (TUNER_TOML, TUNER_WEIGHTS, README))
    data_dir = data_dir or study.local.get("data_dir")
    context = load_search(study.spec.task, data_dir)
    table = tuner_table(study, record, weights_digest(context.backbone), confirmed=confirmed)
    make_folder(out)
    write_atomically(out / TUNER_WEIGHTS, source.read_bytes())
    write_atomically(out / README, _readme(study, record, table, out.resolve().name))
    write_atomically(out / TUNER_TOML, tomli_w.dumps(table))
    loaded = load_tuned(out, data_dir=data_dir)
    wanted = safetensors.torch.load_file(source)[CHECK]
    with torch.no_grad():
        images = check_images(loaded.preprocessing) if confirmed else context.data.validation.images[: len(wanted)]
        got = loaded(loaded.preprocess(images))
    return float((got - wanted).abs().max())


def export_peft(study: Study, record: TrialRecord, out: Path) -> list[str]:
    """Write a LoRA trial as Hugging Face peft's adapter_config.json and adapter_model.safetensors.

    Returns:
        The lines that load it with peft and timm.

    Raises:
        InputError: peft cannot hold the design; says why.
    """
    source, design = _source(study, record)[0], cast(Design, record.design)
    check_peft(design)
    _check_free(out, (ADAPTER_CONFIG, ADAPTER_WEIGHTS, README))
    make_folder(out)
    backbone = study.spec.task.backbone
    write_peft(design, safetensors.torch.load_file(source), study.shape, backbone.name, out)
    lines = _peft_lines(study, out)
    text = ["# A LoRA in peft's format", "", "```python", *lines, "```", "", f"Design: {design}", ""]
    write_atomically(out / README, "\n".join(text))
    return lines


def _peft_lines(study: Study, out: Path) -> list[str]:
    spec, classes = study.spec.task.backbone, len(study.classes)
    size = f", img_size={spec.image_size}" if spec.image_size else ""
    weights = f'pretrained_cfg_overlay={{"file": "{spec.checkpoint}"}}, ' if spec.checkpoint else ""
    if spec.name == GLYPH_VIT:
        base = [
            "from utuning_search.backbones.vit import load_backbone",
            f'base = load_backbone("{GLYPH_VIT}")',
            f"base.reset_classifier({classes})",
        ]
    else:
        made = f'"{spec.name}", pretrained=True, {weights}num_classes={classes}{size}'
        base = ["import timm", f"base = timm.create_model({made})"]
    return ["import peft", *base, f'model = peft.PeftModel.from_pretrained(base, "{out}").eval()']


def _source(study: Study, record: TrialRecord) -> tuple[Path, bool]:
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


def _check_free(out: Path, names: tuple[str, ...]) -> None:
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
        "shape": {**asdict(study.shape), "grid": list(study.shape.grid)},
        "task": task,
        "metrics": {
            "validation_accuracy": record.accuracy,
            "parameters": record.parameters,
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


def _largest_within(best: list[TrialRecord], limit: int) -> TrialRecord:
    fitting = [r for r in best if r.parameters <= limit]
    if not fitting:
        todo = "Raise the limit: the head alone counts too."
        raise StudyError(
            "--pick", f"a front design has at most {limit} parameters", f"the smallest has {best[0].parameters}", todo
        )
    return fitting[-1]


def _numbered(records: list[TrialRecord], value: str) -> TrialRecord:
    found = [r for r in records if str(r.number) == value]
    if not found:
        raise InputError("--pick", "trial is the number of a trial in the study", f"'{value}'")
    return found[0]


def _readme(study: Study, record: TrialRecord, table: dict[str, Any], folder: str) -> str:
    task, cite = study.spec.task, "\n\n".join(table["provenance"]["cite"])
    where = ', data_dir="DATA_DIR"' if task.backbone.checkpoint else ""
    size = study.shape
    lines = [
        f"# A tuner for `{task.backbone.name}` on `{task.name}`",
        "",
        "```python",
        "from utuning_search import load_tuned",
        f'model = load_tuned("{folder}"{where})',
        "logits = model(model.preprocess(images))  # images: uint8 (batch, channels, size, size)",
        "```",
        "",
        f"- Design: {record.design}",
        f"- Validation accuracy: {record.accuracy:.4f} (it was chosen on these images: measure on your own)",
        *_confirmed(table["metrics"], table["provenance"]["trained_on"] == TRAINED_ON[True]),
        f"- Trainable parameters: {record.parameters:,} with head, {table['metrics']['tuner_parameters']:,} without; "
        f"the frozen backbone has {size.parameters:,}",
        f"- Trial {record.number} of study `{study.name}` (digest {study.spec.digest})",
    ]
    return "\n".join(lines) + (f"\n\nPlease cite:\n\n```bibtex\n{cite}\n```\n" if cite else "\n")


def _confirmed(metrics: dict[str, Any], confirmed: bool) -> list[str]:
    if "test_seeds" not in metrics:
        return []
    spread = f" ± {metrics['test_accuracy_sd']:.4f}" if "test_accuracy_sd" in metrics else ""
    seeds = f"{metrics['test_seeds']} seeds" if metrics["test_seeds"] > 1 else "one seed"
    return [
        f"- Test accuracy of the design: {metrics['test_accuracy_mean']:.4f}{spread}, trained on all training images "
        f"with {seeds}; {WEIGHTS_SAID[confirmed]}"
    ]
