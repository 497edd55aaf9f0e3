"""A new study: checked, then written into its folder and its storage; after an error nothing of it is left."""

import platform
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import tomli_w
from optuna.storages import BaseStorage

from utuning_search.common.errors import InputError, StudyError
from utuning_search.common.files import make_folder, write_atomically
from utuning_search.common.locks import locked
from utuning_search.data.decoded import Store
from utuning_search.data.listing import writable
from utuning_search.designs.design import Design
from utuning_search.designs.legality import check_carries
from utuning_search.designs.presets import parse_presets
from utuning_search.designs.spaces.space import Space
from utuning_search.search.artifacts import OPTION, Artifacts, place_of_artifacts
from utuning_search.search.layout import LOCAL, SPEC, SPLITS, named, sweep
from utuning_search.search.leases import home
from utuning_search.search.masking import mask
from utuning_search.search.objectives.base import Setting
from utuning_search.search.spec import StudySpec, exact_objective
from utuning_search.search.splits_file import write_splits
from utuning_search.search.storage import JOURNAL, is_shared, open_storage, place_of, storage_errors
from utuning_search.search.stored import ARTIFACTS
from utuning_search.training.context import SearchContext

LONGEST = 200  # bytes of a name; files beside the study have longer ones
BUDGET = "budget"  # user attribute of a study in a database, and table of run.toml
CREATING = "creating"  # where a study in a database is being created; empty once it is


def write_study(
    folder: Path,
    spec: StudySpec,
    context: SearchContext,
    storage: str | None,
    device: str,
    data_dir: str | None,
    images: Store | None = None,
    artifacts: str | None = None,
    budget: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Write a study's folder and its storage; `images` are decoded ones that lie in the folder already.

    Where they are given, `artifacts` is the place of a store for files of the study, and `budget` says when it ends.

    Returns:
        Its settings of this machine, as in run.toml.

    Raises:
        StudyError: A study of this name exists, or the folder or storage cannot be written.
        InputError: Nothing fits into a limit, or the space does not fit the backbone.
    """
    _check_presets(spec, context)
    _check_space(spec.space.on(context.shape), context.shape.depth, spec.task.recipe.learning_rate)
    _check_limits(spec, Setting(context.shape, context.data.num_classes))
    _check_outliers(spec)
    local = {"owner": uuid.uuid4().hex, "device": device, "storage": mask(storage or "")}
    local |= {"at": home(folder)} if storage else {}
    if data_dir:
        local |= {"data_dir": str(Path(data_dir).resolve())}
        if not writable(local["data_dir"]):
            raise InputError("--data-dir", "its path is UTF-8", repr(local["data_dir"]), "Rename the folder.")
    if artifacts and not is_shared(storage):
        todo = "Weights lie in the study's folder; of a study in PostgreSQL, in those of all who run it."
        raise InputError(OPTION, "it goes with a study in a PostgreSQL database", f"'{artifacts}'", todo)
    opened = open_storage(storage, folder) if storage else None  # before the folder: if it fails, there is none
    make_folder(folder)
    with locked(folder, folder.name, "runs"), storage_errors(storage, folder):
        check_new(folder)  # again: another process may have been faster
        sweep(folder, images)
        (folder / JOURNAL).unlink(missing_ok=True)  # of a creation that was killed; see check_new
        with _recorded(opened or open_storage(None, folder), folder, storage, spec, context) as created:
            if artifacts:
                place = place_of_artifacts(artifacts)
                Artifacts(place, created, created._storage).check(new=True)
                created.set_user_attr(ARTIFACTS, place)
            if budget and is_shared(storage):  # who joins at the next moment would not know when to stop
                created.set_user_attr(BUDGET, dict(budget))
            write_splits(folder, context.data)
            write_atomically(folder / LOCAL, tomli_w.dumps(local))
            write_atomically(folder / SPEC, spec.to_toml())  # last: from here on there is a study
    return local


@contextmanager
def _recorded(
    storage: BaseStorage, folder: Path, url: str | None, spec: StudySpec, context: SearchContext
) -> Iterator[optuna.Study]:
    """Create the study in its storage; after an error here or inside, nothing of it is left."""
    if url:
        _remove_half(storage, folder)
    try:
        created = optuna.create_study(study_name=folder.name, storage=storage, directions=spec.objectives.directions)
    except optuna.exceptions.DuplicatedStudyError:
        way = "Go on with it where its folder is: utuning-search resume"
        way = "Join it: utuning-search worker" if is_shared(url) else way
        todo = (
            f"{way} {named(folder)} --storage URL  "
            f"Or choose another --name. If its creation was killed somewhere, run it there again."
        )
        raise StudyError(place_of(url, folder), "a new study has a new name", folder.name, todo) from None
    try:
        if url:
            created.set_user_attr(CREATING, _here(folder))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            created.set_metric_names(list(spec.objectives.names))  # for Optuna's dashboard
        created.set_user_attr("shape", context.shape.to_dict())
        created.set_user_attr("classes", list(context.data.classes))
        if is_shared(url):  # elsewhere there is no splits.json until somebody looks at the images
            created.set_user_attr("validation", len(context.data.validation.labels))
        if decoding := context.data.decoding.to_dict():
            created.set_user_attr("decoding", decoding)
        created.set_user_attr("digest", spec.digest)
        created.set_user_attr("spec", spec.to_dict())
        yield created
        if url:
            created.set_user_attr(CREATING, "")
    except BaseException:
        with suppress(Exception):  # the first error says more
            optuna.delete_study(study_name=folder.name, storage=storage)
        for file in (SPEC, LOCAL, SPLITS, JOURNAL):
            (folder / file).unlink(missing_ok=True)
        raise


def _remove_half(storage: BaseStorage, folder: Path) -> None:
    """Remove a study of the folder's name that was killed while it was created: here, or so early that it says nothing.

    Nothing of it can be used: it has no trials, and there is no folder with its spec.
    """
    for half in optuna.get_all_study_summaries(storage):
        if half.study_name == folder.name and not half.n_trials:
            told = half.user_attrs
            if told.get(CREATING) == _here(folder) or not (told.get(CREATING) or "spec" in told):
                optuna.delete_study(study_name=folder.name, storage=storage)


def _here(folder: Path) -> str:
    return f"{platform.node()}:{folder.resolve()}"


def check_new(folder: Path) -> None:
    """Refuse a folder that holds a study. One that was killed while it was created has no spec and no trials."""
    todo = f"Go on with: utuning-search resume {named(folder)}  Or choose another --name."
    if (folder / SPEC).exists():
        raise StudyError(f"study '{folder.name}'", "a new study has a new name", f"one in {folder}", todo)
    if (folder / JOURNAL).exists():
        storage = open_storage(None, folder)
        if any(s.n_trials for s in optuna.get_all_study_summaries(storage)):
            todo = f"Put {SPEC} back, or choose another --name."
            raise StudyError(f"study '{folder.name}'", f"it has its {SPEC}", f"trials in {folder} without it", todo)


def _check_presets(spec: StudySpec, context: SearchContext) -> None:
    """Refuse a known method that was asked for by name, and that the backbone cannot carry."""
    for text in spec.presets:
        for label, asked in parse_presets(text).items() if text != "all" else ():
            check_carries(Design(asked.placements), context.shape, f"preset '{label}' on '{spec.task.backbone.title}'")


def _check_limits(spec: StudySpec, setting: Setting) -> None:
    """Refuse a limit that nothing fits into, before anything is written: a linear probe is the least of all designs."""
    for name, limit in spec.limits:
        known = exact_objective(name, "limits")
        least = known.value(Design(), setting)
        if limit < least:
            option = "--max-params" if name == "parameters" else f"--limit {name}"
            what = "the head of" if name == "parameters" else "a linear probe of"
            rule = f"it is at least {least:,.0f}, {what} {setting.num_classes} classes on this backbone"
            raise InputError(option, rule, f"{limit:,.0f}", "Raise it, or take a backbone of fewer channels.")


def _check_outliers(spec: StudySpec) -> None:
    """Refuse an objective of unknown images on a task that names none."""
    asked = [o.name for o in spec.objectives.measured if o.takes_outliers]
    if asked and not spec.task.data.ood:
        todo = "Give --ood FOLDER, or ood in the task's [data]."
        raise InputError(f"--objectives {asked[0]}", "the task has images of other kinds", "none", todo)


def check_name(name: str) -> None:
    length = len(name.encode(errors="surrogatepass"))  # what is no text is refused below
    if length > LONGEST:
        rule = f"a study's name has at most {LONGEST} bytes"
        raise StudyError("--name", rule, f"{length} of '{name[:20]}...'", "Give a shorter one.")
    if not name or name[0] in ".-" or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        rule = "a study's name has letters, digits, - _ and ., and begins with neither - nor ."
        raise StudyError("--name", rule, f"'{name}'")


def _check_space(space: Space, depth: int, learning_rate: float) -> None:
    """Refuse a space that does not fit the backbone, before anything is written."""
    space.size(depth)  # names patterns of blocks beyond the depth
    for name, design in space.preset_designs(depth, learning_rate).items():
        if not space.contains(design, depth):
            todo = "Widen a set, or take the preset out of the space's list."
            raise StudyError(f"space '{space.name}'", "its presets lie in it", f"'{name}' does not", todo)
