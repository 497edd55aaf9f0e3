"""Look at a folder of images, and make of it a study that fits into a time."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.common.errors import StudyError
from utuning_search.data.given import OwnData
from utuning_search.data.looking import look_at
from utuning_search.data.places import is_there
from utuning_search.data.spec import STORED, DataSpec
from utuning_search.data.survey import Survey
from utuning_search.designs.spaces.space import Space
from utuning_search.results.exported import README, TUNER_TOML, TUNER_WEIGHTS
from utuning_search.results.metrics import ACCURACY, BALANCED
from utuning_search.results.permitted import look_ahead
from utuning_search.results.recommend.plan import Cost, plan_search
from utuning_search.results.recommend.search import Search, at_once
from utuning_search.search.defaults import OBJECTIVES
from utuning_search.search.layout import SPEC
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.study import Study
from utuning_search.training.balance import NONE, WEIGHTS
from utuning_search.training.context import SearchContext, load_backbone, pinned, warn
from utuning_search.training.cost import image_seconds
from utuning_search.training.runtime import Runtime, resolve_device, resolve_precision
from utuning_search.training.task import Task

STUDY, SPACE = "study", "full"
PRESETS = ("ssf", "bitfit")  # the strongest of the small ones where they were compared, besides those of the space
BASE = BackboneSpec("vit_base_patch16_224.orig_in21k")
SMALL = BackboneSpec("vit_tiny_patch16_224.augreg_in21k_ft_in1k", image_size=96)  # what a CPU can search in minutes
WIDE, RATES = 384, (0.005, 0.002)  # wider backbones want smaller steps


def prepare(
    data: Path | OwnData,
    out: Path,
    *,
    max_parameters: int,
    seconds: float,
    backbone: str | None = None,
    checkpoint: str | None = None,
    image_size: int | None = None,
    mirror: bool = False,
    metric: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    seed: int = 0,
    on_survey: Callable[[Survey], object] | None = None,
    say: Callable[[str], object] = warn,
) -> Search:
    """Look at the images, measure what one costs, and create a study that fits into the time; or find an earlier one.

    Args:
        metric: What designs are chosen by; None for balanced accuracy where classes are unbalanced
            (`Survey.unbalanced`), and accuracy elsewhere. With balanced accuracy, or macro F1, the loss is weighted so
            that classes of unequal size count alike in training too: on three digits with 100, 5 and 5 images BitFit
            gained 3 points of balanced accuracy by that and a linear probe 7, by sampling 0 and 5 (of three draws).
        on_survey: Called with what is in the folder, before anything that takes time.
        say: Called with one line where the hub cannot be asked, so that a backbone is the one that the cache has.
        Others: As the options of `utuning-search recommend`.

    Raises:
        InputError, DataError: The folder, its images or a setting cannot be used; nothing has been written.
        StudyError: `out` holds a recommendation already, or the study of another call.
    """
    found = look_at(data)
    if on_survey is not None:
        on_survey(found)
    check_free(out)
    kind = resolve_device(device)
    spec = _backbone(kind, backbone, checkpoint, image_size)
    data_spec = replace(found.spec(), views=2 if mirror else 1)
    data_dir = None if found.source == STORED else str(found.root.parent)
    if (out / STUDY / SPEC).exists():
        return _earlier(out, found, spec, data_spec, max_parameters, seconds, seed, metric)
    draft = pinned(Task(found.name, spec, data_spec), say)
    model, preprocessing = load_backbone(draft, data_dir)
    runtime = Runtime(kind, resolve_precision("auto", kind, spec.name), data_dir)
    cost = Cost(*image_seconds(model, preprocessing, runtime))
    rate = RATES[adapter_of(model).shape.dim > WIDE]
    chosen_by = metric or (BALANCED if found.unbalanced else ACCURACY)
    plan = plan_search(found.trained, len(found.classes), cost, seconds, at_once(device, workers), learning_rate=rate)
    split = replace(data_spec, proxy=plan.proxy, validation=plan.validation, limit=plan.limit)
    recipe = replace(plan.recipe, balance=NONE if chosen_by == ACCURACY else WEIGHTS)
    notes: list[str] = []

    def examine(context: SearchContext) -> None:
        notes.extend(look_ahead(replace(draft, data=split), context, data_dir))

    study = Study.create(
        Space.load(SPACE),
        replace(draft, data=split, recipe=recipe, description=f"images of {found.root.name}"),
        name=STUDY,
        studies_dir=out,
        seed=seed,
        device=device,
        data_dir=data_dir,
        data=data if isinstance(data, OwnData) else None,
        presets=PRESETS,
        max_parameters=max_parameters,
        objectives=_weighed(chosen_by),
        examine=examine,
    )
    # Every recommendation's study is a `study`: elsewhere it is known by the folder.
    study.remember(called=out.resolve().name, recommend={"seconds": seconds, "search_seconds": plan.search_seconds})
    return Search(study, found, plan, seconds, plan.search_seconds, tuple(notes))


def check_free(out: Path) -> None:
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
    out: Path,
    found: Survey,
    backbone: BackboneSpec,
    data: DataSpec,
    limit: int,
    seconds: float,
    seed: int,
    metric: str | None,
) -> Search:
    """The study of a call that was stopped, if this call asks for the same; how much is trained was decided then."""
    there = Study.load(STUDY, studies_dir=out)
    task, folder = there.spec.task, there.local.get("data_dir", "")
    before = Path(folder) / task.data.root
    moved = found.source != STORED and before != found.root  # those were kept when the study was created
    if moved and is_there(before):
        todo = "Choose another folder with --out."
        raise StudyError(f"study in {there.folder}", f"its images lie in {folder}", found.root.parent, todo)
    if moved and found.root.name != task.data.root:
        todo = "Give the folder its name back, or choose another folder with --out."
        raise StudyError(
            f"study in {there.folder}", f"its images lie in a '{task.data.root}'", f"'{found.root.name}'", todo
        )
    same = replace(data, proxy=task.data.proxy, validation=task.data.validation, limit=task.data.limit)
    wanted = replace(task, name=found.name, backbone=backbone, data=same)
    asked: dict[str, Any] = {} if metric is None else {"objectives": Objectives(_weighed(metric))}
    study = Study.load(STUDY, studies_dir=out, task=wanted, max_parameters=limit, seed=seed, **asked)
    if moved:  # whether these are the images it was created with, their digest says
        study.remember(data_dir=str(found.root.parent))
    kept = study.local.get("recommend", {})
    return Search(study, found, None, kept.get("seconds", seconds), kept.get("search_seconds", seconds / 2))


def _weighed(metric: str) -> tuple[str, ...]:
    return (metric, *OBJECTIVES[1:])
