"""The README.md of an exported tuner: how it is loaded, what it is, how good, and what to cite."""

from typing import Any

from utuning_search.common.text import python_string
from utuning_search.results.ood.summary import about
from utuning_search.results.ood.table import read_ood
from utuning_search.results.threshold import UNKNOWN, Threshold
from utuning_search.results.verdicts import kept_advice
from utuning_search.search.defaults import METRICS
from utuning_search.search.objectives.base import Objective
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord

TRAINED_ON = {True: "all training images", False: "the proxy split"}
# The third of the three lines, for who has loaded a tuner.
USED = 'found = model.predict(["photo.jpg"])  # .names, .probabilities; files, pictures of Pillow, arrays, tensors'
WEIGHTS_SAID = {
    True: "the weights here are those of the first seed",
    False: "the weights here are not those, but the trial's, which saw fewer images",
}


def card(study: Study, record: TrialRecord, table: dict[str, Any], folder: str) -> str:
    """The text; `table` is what tuner.toml holds, `folder` the name to load it by."""
    task, cite = study.spec.task, "\n\n".join(table["provenance"]["cite"])
    where = ', data_dir="DATA_DIR"' if task.backbone.is_local else ""
    lines = [
        f"# A tuner for `{task.backbone.title}` on `{task.name}`",
        "",
        "```python",
        "from utuning_search import load_tuned",
        f"model = load_tuned({python_string(folder)}{where})",
        USED,
        "```",
        "",
        *facts(study, record, table),
    ]
    return "\n".join(lines) + (f"\n\nPlease cite:\n\n```bibtex\n{cite}\n```\n" if cite else "\n")


def facts(
    study: Study, record: TrialRecord, table: dict[str, Any], *, validation: str = "", test: str = ""
) -> list[str]:
    """What a tuner is and how good, a line of a list each.

    Args:
        study, record: Of the trial.
        table: What tuner.toml holds.
        validation, test: What is said in brackets after the accuracy on these images, or nothing.
    """
    chosen = f"{validation}; it was" if validation else "it was"
    return [
        f"- Design: {record.design}",
        f"- Validation accuracy: {record.accuracy:.4f} ({chosen} chosen on these images: measure on your own)",
        *(f"- {o.label[0].upper()}{o.label[1:]}: {o.text(record.values[o.name])}" for o in _others(study)),
        *_confirmed(table["metrics"], table["provenance"]["trained_on"] == TRAINED_ON[True], test),
        *_threshold(table),
        *(f"- {text}" for text in about(read_ood(study.folder), record.key)),
        *(f"- On the test images {text}" for text in (kept_advice(study.folder, record.key),) if text),
        f"- Trainable parameters: {record.parameters:,} with head, {table['metrics']['tuner_parameters']:,} without; "
        f"the frozen backbone has {study.shape.parameters:,}",
        f"- Trial {record.number} of study `{study.name}` (digest {study.spec.digest})",
    ]


def _threshold(table: dict[str, Any]) -> list[str]:
    if UNKNOWN not in table:
        return []
    said = str(Threshold.from_dict(table[UNKNOWN], UNKNOWN))
    return [f"- {said[0].upper()}{said[1:]}: `model.predict(...).known`, `utuning-search predict --unknown`"]


def _others(study: Study) -> list[Objective]:
    """The study's objectives that have no line of their own."""
    return [o for o in study.objectives if o.name not in ("accuracy", "parameters")]


def _confirmed(metrics: dict[str, Any], confirmed: bool, interval: str) -> list[str]:
    if "test_seeds" not in metrics:
        return []
    spread = f" ± {metrics['test_accuracy_sd']:.4f}" if "test_accuracy_sd" in metrics else ""
    seeds = f"{metrics['test_seeds']} seeds" if metrics["test_seeds"] > 1 else "one seed"
    within = f" ({interval})" if interval else ""
    return [
        f"- Test accuracy of the design: {metrics['test_accuracy_mean']:.4f}{spread}{within}, "
        f"trained on all training images with {seeds}; {WEIGHTS_SAID[confirmed]}",
        *(
            f"- Test {name.replace('_', ' ')} of the design: {metrics[f'test_{name}_mean']:.4f}"
            for name in METRICS[1:]
            if f"test_{name}_mean" in metrics
        ),
    ]
