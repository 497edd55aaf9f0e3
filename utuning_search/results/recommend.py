"""From a folder of images to a tuner: make a task of it, search within a time, confirm what was found, export it.

The tuner is chosen on validation images; test images only say how good it is.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.common.errors import StudyError
from utuning_search.common.files import make_folder
from utuning_search.data.spec import DataSpec
from utuning_search.data.survey import Survey, survey
from utuning_search.designs.spaces.space import Space
from utuning_search.results.confirm import Progress, confirm
from utuning_search.results.export import README, export_trial
from utuning_search.results.finalists import strongest_presets
from utuning_search.results.finals import Confirmation, Final
from utuning_search.results.load import TUNER_TOML, TUNER_WEIGHTS
from utuning_search.results.plan import Cost, Plan, plan_finals, plan_search
from utuning_search.search.runner import Budget, Snapshot
from utuning_search.search.study import SPEC, Study
from utuning_search.search.trials import TrialRecord
from utuning_search.training.context import load_backbone
from utuning_search.training.cost import image_seconds
from utuning_search.training.runtime import Runtime, default_workers, resolve_device, resolve_precision
from utuning_search.training.task import Task

STUDY, SPACE = "study", "full"
PRESETS = ("ssf", "bitfit")  # the strongest of the small ones where they were compared, besides those of the space
MOST_DESIGNS = 200  # a search that is this quick has nothing left to find
BASE = BackboneSpec("vit_base_patch16_224.orig_in21k")
SMALL = BackboneSpec("vit_tiny_patch16_224.augreg_in21k_ft_in1k", image_size=96)  # what a CPU can search in minutes
WIDE, RATES = 384, (0.005, 0.002)  # wider backbones want smaller steps


@dataclass(frozen=True)
class Search:
    """A search that is ready to run, or to go on.

    Attributes:
        study: In the output folder.
        survey: Of the images.
        plan: What fits into the time; None where an earlier call made it and this one goes on.
        seconds: For search and finals together.
        search_seconds: For the search.
    """

    study: Study
    survey: Survey
    plan: Plan | None
    seconds: float
    search_seconds: float


@dataclass(frozen=True)
class Recommendation:
    """What `recommend` found.

    Attributes:
        trial: The most accurate design on validation images that is small enough.
        final: It, trained on all training images, on test images.
        probe: The linear probe, likewise; None where there was no time.
        known: The most accurate known method that is small enough, likewise; None if it is one of the others, or
            there was no time.
        confirmation: All finals.
        folder: Of the exported tuner.
        difference: Largest difference of its logits from the training's, once loaded.
    """

    trial: TrialRecord
    final: Final
    probe: Final | None
    known: Final | None
    confirmation: Confirmation
    folder: Path
    difference: float


def prepare(
    data: Path,
    out: Path,
    *,
    max_parameters: int,
    seconds: float,
    backbone: str | None = None,
    checkpoint: str | None = None,
    image_size: int | None = None,
    mirror: bool = False,
    workers: int | None = None,
    device: str = "auto",
    seed: int = 0,
) -> Search:
    """Look at the images, measure what one costs, and create a study that fits into the time; or find an earlier one.

    Raises:
        InputError, DataError: The folder, its images or a setting cannot be used; nothing has been written.
        StudyError: `out` holds a recommendation already, or the study of another call.
    """
    found = survey(data)
    _check_free(out)
    kind = resolve_device(device)
    spec = _backbone(kind, backbone, checkpoint, image_size)
    data_spec = DataSpec(
        "imagefolder",
        found.root.name or str(found.root),
        held_out=found.held_out,
        train_folder=found.train_folder or "train",
        test_folder=found.test_folder or "test",
        scarce=True,
        views=2 if mirror else 1,
    )
    data_dir = str(found.root.parent)
    if (out / STUDY / SPEC).exists():
        return _earlier(out, found, spec, data_spec, max_parameters, seconds, seed)
    draft = Task(_name(found.root), spec, data_spec)
    model, preprocessing = load_backbone(draft, data_dir)
    runtime = Runtime(kind, resolve_precision("auto", kind, spec.name), data_dir)
    cost = Cost(*image_seconds(model, preprocessing, runtime))
    rate = RATES[adapter_of(model).shape.dim > WIDE]
    plan = plan_search(found.trained, len(found.classes), cost, seconds, _at_once(device, workers), learning_rate=rate)
    split = replace(data_spec, proxy=plan.proxy, validation=plan.validation, limit=plan.limit)
    study = Study.create(
        Space.load(SPACE),
        replace(draft, data=split, recipe=plan.recipe, description=f"images of {found.root.name}"),
        name=STUDY,
        studies_dir=out,
        seed=seed,
        device=device,
        data_dir=data_dir,
        presets=PRESETS,
        max_parameters=max_parameters,
    )
    study.remember(recommend={"seconds": seconds, "search_seconds": plan.search_seconds})
    return Search(study, found, plan, seconds, plan.search_seconds)


def search(
    prepared: Search, *, workers: int | None = None, on_change: Callable[[Snapshot], None] | None = None
) -> bool:
    """Run the search for the time it has left; False after Ctrl-C."""
    study = prepared.study
    spent = sum(r.seconds for r in study.trials()) / _at_once(study.local.get("device", "auto"), workers)
    # At least a moment: what one earlier call found may be nothing yet.
    budget = Budget(MOST_DESIGNS, seconds=max(prepared.search_seconds - spent, 1.0))
    return study.run(budget, workers=workers, on_change=on_change)


def finish(
    prepared: Search,
    out: Path,
    seconds: float,
    *,
    workers: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Recommendation:
    """Choose on validation images, confirm on test images, export.

    Args:
        prepared: Its search is over.
        out: Where the tuner goes.
        seconds: That are left for finals; one training is done in any case.
        workers: Processes.
        on_progress: As for `confirm`.
    """
    study = prepared.study
    front, records = study.front(), study.trials()
    if not front:
        todo = "Give more --time, a smaller --image-size, or a smaller --backbone; see the trials in study/trials.csv."
        raise StudyError(f"study in {study.folder}", "a design was trained to the end", "none", todo)
    best = front[-1]
    probe = next((r for r in records if r.preset == "linear-probe" and r.state == "complete"), None)
    known = [r for r in strongest_presets(records) if r.preset != "linear-probe"][:1]
    wanted = {r.key: r for r in (best, *([probe] if probe else []), *known)}  # each design once, in this order
    count = _at_once(study.local.get("device", "auto"), workers)
    chosen = list(wanted.values())
    number, seeds = plan_finals([_final_seconds(prepared, r) for r in chosen], seconds, count)
    found = confirm(
        study,
        trials=[r.number for r in chosen[:number]],
        seeds=seeds,
        workers=workers,
        on_progress=on_progress,
    )
    by_key = {f.finalist.design.key: f for f in found.finals}
    _check_free(out)
    for name in (README, TUNER_WEIGHTS) if (out / TUNER_WEIGHTS).exists() else ():  # of an export that was killed
        (out / name).unlink(missing_ok=True)
    make_folder(out)
    difference = export_trial(study, best, out)
    return Recommendation(
        trial=best,
        final=by_key[best.key],
        probe=by_key.get(probe.key) if probe else None,
        known=next((by_key[r.key] for r in known if r.key in by_key and r.key != best.key), None),
        confirmation=found,
        folder=out,
        difference=difference,
    )


def _at_once(device: str, workers: int | None) -> int:
    """Trainings at a time."""
    return max(default_workers(resolve_device(device)) if workers is None else workers, 1)


def _check_free(out: Path) -> None:
    """Refuse a folder with a tuner, or with a README.md of the user's own: an export begins with its weights."""
    taken = (TUNER_TOML,) if (out / TUNER_WEIGHTS).exists() else (TUNER_TOML, README)
    for name in taken:
        if (out / name).exists():
            raise StudyError(f"folder {out}", "it holds no recommendation yet", name, "Choose another with --out.")


def _backbone(kind: str, name: str | None, checkpoint: str | None, image_size: int | None) -> BackboneSpec:
    """What was asked for; without a name what the device can search in minutes."""
    usual = SMALL if kind == "cpu" else BASE
    spec = usual if name is None or name == usual.name else BackboneSpec(name)
    spec = replace(spec, checkpoint=checkpoint or "")
    return spec if image_size is None else replace(spec, image_size=image_size)


def _earlier(
    out: Path, found: Survey, backbone: BackboneSpec, data: DataSpec, limit: int, seconds: float, seed: int
) -> Search:
    """The study of a call that was stopped, if this call asks for the same; how much is trained was decided then."""
    there = Study.load(STUDY, studies_dir=out)
    task, folder = there.spec.task, there.local.get("data_dir", "")
    if folder != str(found.root.parent):
        todo = "Choose another folder with --out."
        raise StudyError(f"study in {there.folder}", f"its images lie in {folder}", found.root.parent, todo)
    same = replace(data, proxy=task.data.proxy, validation=task.data.validation, limit=task.data.limit)
    wanted = replace(task, name=_name(found.root), backbone=backbone, data=same)
    study = Study.load(STUDY, studies_dir=out, task=wanted, max_parameters=limit, seed=seed)
    kept = study.local.get("recommend", {})
    return Search(study, found, None, kept.get("seconds", seconds), kept.get("search_seconds", seconds / 2))


def _final_seconds(prepared: Search, record: TrialRecord) -> float:
    """About how long a final of a trial takes: its own time an image, which measuring at rungs is part of."""
    data = prepared.study.spec.task.data
    everything = min(prepared.survey.trained, data.limit or prepared.survey.trained)
    return record.seconds * everything / max(min(data.proxy, everything), 1)


def _name(folder: Path) -> str:
    """A task's name from a folder's."""
    return "".join(c if c.isalnum() else "-" for c in folder.name).strip("-") or "images"
