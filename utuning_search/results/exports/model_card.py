"""README.md of a repository on the Hugging Face hub: a header for machines, and what people need to know of a tuner."""

from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from utuning_search.backbones.origin import Origin, origin_of
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.common.text import python_string
from utuning_search.designs.nearest import references
from utuning_search.results.exports.card import TRAINED_ON, USED, facts
from utuning_search.results.sampling_error import interval_of, validation_images
from utuning_search.results.verdicts import kept_interval
from utuning_search.search.study import Study
from utuning_search.search.trials import TrialRecord
from utuning_search.training.task import Task
from utuning_search.tuners.references import U_TUNING

LIBRARY, KIND = "utuning-search", "image-classification"
TAGS = ("parameter-efficient-tuning", "u-tuning", "vision-transformer")
METRICS = {"accuracy": "accuracy", "macro_f1": "f1"}  # of ours those that the hub has a name for
NAMED = 20  # classes; there may be thousands


def model_card(study: Study, record: TrialRecord, table: dict[str, Any], repository: str) -> str:
    """The text.

    Args:
        study, record: Of the trial.
        table: What tuner.toml holds.
        repository: USER/NAME, that it is loaded from.
    """
    spec = study.spec.task.backbone
    origin, images = origin_of(spec.name, spec.checkpoint), validation_images(study)
    header = _header(study, record, table, origin, images).to_yaml()
    return "\n".join(["---", header.strip(), "---", "", *_text(study, record, table, repository, origin, images), ""])


def _header(study: Study, record: TrialRecord, table: dict[str, Any], origin: Origin, images: int) -> ModelCardData:
    dataset = _dataset(study)
    measured = {"validation": record.accuracy, "test": table["metrics"].get("test_accuracy_mean")}
    results = [
        EvalResult(
            task_type=KIND,
            dataset_type=dataset.lower(),
            dataset_name=dataset,
            dataset_split=split,
            metric_type="accuracy",
            metric_value=round(value, 4),
            metric_name=f"accuracy ({images:,} images)" if split == "validation" else "accuracy (mean of trainings)",
        )
        for split, value in measured.items()
        if value is not None
    ]
    design = record.design
    kinds = () if design is None else dict.fromkeys(p.tuner.kind for p in design.placements)
    return ModelCardData(
        license=origin.licence or None,
        library_name=LIBRARY,
        pipeline_tag=KIND,
        base_model=origin.repository or None,
        tags=[*TAGS, *(kind.replace("_", "-") for kind in kinds)],
        datasets=[dataset.lower()],
        metrics=[theirs for ours, theirs in METRICS.items() if ours == "accuracy" or ours in record.values],
        model_name=f"{table['provenance']['study']}, trial {record.number}",
        eval_results=results,
    )


def _text(
    study: Study, record: TrialRecord, table: dict[str, Any], repository: str, origin: Origin, images: int
) -> list[str]:
    task, classes = study.spec.task, study.classes
    local = checkpoint_said(task.backbone)
    named = ", ".join(classes[:NAMED]) + (f", and {len(classes) - NAMED:,} more" if len(classes) > NAMED else "")
    frozen = f"`{origin.repository}`" if origin.repository else f"`{task.backbone.title}`"
    had = ": give its file or folder" if local else " and is fetched where it is loaded"
    commit = f", commit {task.backbone.revision}" if task.backbone.revision else ""
    kept = TRAINED_ON[True] == table["provenance"]["trained_on"]
    return [
        f"# A tuner for `{task.backbone.title}` on `{task.name}`",
        "",
        f"The weights of tuners and head for images of {len(classes):,} classes, found by utuning-search. The frozen "
        f"backbone, {frozen}, is not in here{had}.",
        "",
        "```python",
        "from huggingface_hub import snapshot_download",
        "from utuning_search import load_tuned",
        f"model = load_tuned(snapshot_download({python_string(repository)}){local})",
        USED,
        "```",
        "",
        "## How good it is",
        "",
        *_measured(study, record, table, images),
        "",
        "## What it is",
        "",
        f"- Backbone: `{task.backbone.title}`{commit}, digest `{table['backbone']['digest']}`",
        *([f"- Licence of the backbone: {origin.licence}, as it is published"] if origin.licence else []),
        f"- Data: `{_dataset(study)}`" + (f", {task.description}" if task.description else ""),
        f"- Trained on {_trained_on(task, kept)}",
        f"- Classes: {named}",
        "- All settings: `tuner.toml`",
        "",
        "## Please cite",
        "",
        "```bibtex",
        _citations(study, record),
        "```",
    ]


def _trained_on(task: Task, everything: bool) -> str:
    if task.data.shots:
        return f"{task.data.shots} training images of each class"
    return "all training images" if everything else f"{task.data.proxy:,} of the training images"


def checkpoint_said(spec: BackboneSpec) -> str:
    """What is said of a backbone's place where a tuner is loaded; nothing where it is fetched."""
    if not spec.is_local:
        return ""
    return f', checkpoint="{"FILE" if spec.checkpoint else "FOLDER"}"'


def _dataset(study: Study) -> str:
    data = study.spec.task.data
    return data.dataset or (study.spec.task.name if data.root else data.source)


def _measured(study: Study, record: TrialRecord, table: dict[str, Any], images: int) -> list[str]:
    """The facts of an export's card, accuracies with their 95% intervals."""
    validation, test = interval_of(record, images), kept_interval(study.folder, record.key)
    return facts(
        study,
        record,
        table,
        validation="" if validation is None else f"{_said(validation)} over {images:,} images",
        test="" if test is None else f"{_said(test)} over images and trainings",
    )


def _said(interval: tuple[float, float]) -> str:
    return f"95%: {interval[0]:.4f} to {interval[1]:.4f}"


def _citations(study: Study, record: TrialRecord) -> str:
    own = () if record.design is None else references(record.design, study.shape.depth)
    return "\n\n".join(r.bibtex() for r in dict.fromkeys((*own, U_TUNING)))
