"""Studies: create, load, run, resume. All of a study lies in one folder."""

import json
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import tomli_w
from optuna.storages import BaseStorage

from utuning_search.common.errors import InputError, StudyError
from utuning_search.common.files import make_folder, write_atomically
from utuning_search.common.locks import locked
from utuning_search.common.toml import read_toml
from utuning_search.designs.spaces.space import Space
from utuning_search.search.pruning import ParetoPruner
from utuning_search.search.runner import Budget, Interrupts, Runner, Snapshot, spent
from utuning_search.search.scheduler import Scheduler
from utuning_search.search.spec import RESTORE, StudySpec
from utuning_search.search.storage import JOURNAL, mask, open_storage, place_of, storage_errors
from utuning_search.search.trials import TrialRecord, front_of, volume_of
from utuning_search.training.context import SearchContext, load_search
from utuning_search.training.pool import InlinePool, Pool, ProcessPool
from utuning_search.training.proxy import ProxyTrainer
from utuning_search.training.runtime import Runtime, default_workers, resolve_device, resolve_precision, runtimes
from utuning_search.training.task import Task
from utuning_search.tuners import BackboneShape

SPEC, LOCAL, WEIGHTS, SPLITS = "spec.toml", "run.toml", "weights", "splits.json"
IMAGES = ".images.safetensors"  # decoded ones, for the workers of one run


class Study:
    """A search of a space on a task, in a folder, with everything that was tried in an Optuna storage.

    Make one with `Study.create` or `Study.load`, then `run()`.
    """

    def __init__(self, folder: Path, spec: StudySpec, storage_url: str | None, local: dict[str, Any]) -> None:
        self.folder, self.spec, self.local = folder, spec, local
        self._loaded: SearchContext | None = None  # by create, for the run that follows it
        self._url = storage_url
        with storage_errors(storage_url, folder):
            self._storage = open_storage(storage_url, folder)
            try:
                self._optuna = optuna.load_study(study_name=folder.name, storage=self._storage)
                attributes = self._optuna.user_attrs
                self.shape = BackboneShape(**attributes["shape"])
                self.classes: list[str] = attributes["classes"]
                stored: dict[str, Any] = attributes["spec"]
            except KeyError:
                raise StudyError(
                    place_of(storage_url, folder), f"it holds the study '{folder.name}'", "nothing of it", RESTORE
                ) from None
        self._stored = StudySpec.from_dict(stored, f"{place_of(storage_url, folder)}, spec")
        self.scheduler = Scheduler(
            self._optuna, self._storage, spec, self.shape, len(self.classes), local["owner"], self._keep_weights
        )

    @property
    def name(self) -> str:
        return self.folder.name

    @classmethod
    def create(
        cls,
        space: Space | str = "full",
        task: Task | str = "digits",
        *,
        name: str | None = None,
        studies_dir: Path | str = "studies",
        storage: str | None = None,
        seed: int = 0,
        sampler: str = "tpe",
        pruner: ParetoPruner | None = ParetoPruner(),
        precision: str = "auto",
        device: str = "auto",
        data_dir: str | None = None,
        presets: Sequence[str] = (),
        max_parameters: int | None = None,
    ) -> "Study":
        """A new study; nothing is written before backbone and data have been loaded and fit.

        Args:
            space: A name, a path to a .toml file, or a space.
            task: Likewise.
            presets: Known methods to try first besides the space's own, such as "adapter-plus:rank=4" or "all";
                they need not lie in the space.
            max_parameters: Larger designs, head included, are proposed but never trained.
            Others: As the options of `utuning-search run`.

        Raises:
            StudyError: A study of this name exists, or the folder or storage cannot be written.
            InputError, DataError, BackboneError: Space, task, data or backbone cannot be used.
        """
        space = Space.load(space) if isinstance(space, str) else space
        task = Task.load(task) if isinstance(task, str) else task
        name = name or f"{space.name}-{task.name}"
        _check_name(name)
        folder = Path(studies_dir) / name
        _check_new(folder)
        resolved = resolve_device(device)
        context = load_search(task, data_dir)
        _check_space(space, context.shape.depth, task.recipe.learning_rate)
        precision = resolve_precision(precision, resolved, task.backbone.name)
        _check_limit(max_parameters, context)
        limits = (tuple(presets), max_parameters or 0)
        spec = StudySpec(space, task, seed, sampler, pruner, precision, context.data.digest, *limits)
        local = {"owner": uuid.uuid4().hex, "device": device, "storage": mask(storage or "")}
        local |= {"data_dir": str(Path(data_dir).resolve())} if data_dir else {}
        opened = open_storage(storage, folder) if storage else None  # before the folder: if it fails, there is none
        make_folder(folder)
        with locked(folder, name, "runs"), storage_errors(storage, folder):
            _check_new(folder)  # again: another process may have been faster
            (folder / JOURNAL).unlink(missing_ok=True)  # of a creation that was killed; see _check_new
            with _recorded(opened or open_storage(None, folder), folder, storage, spec, context):
                write_atomically(folder / SPLITS, json.dumps(context.data.index(), indent=1) + "\n")
                write_atomically(folder / LOCAL, tomli_w.dumps(local))
                write_atomically(folder / SPEC, spec.to_toml())  # last: from here on there is a study
        study = cls(folder, spec, storage, local)
        study._loaded = context
        return study

    @classmethod
    def load(
        cls, name: str, *, studies_dir: Path | str = "studies", storage: str | None = None, **changed: Any
    ) -> "Study":
        """An existing study.

        Args:
            name: Of its folder in `studies_dir`.
            storage: Its URL, where it is not the journal in its folder.
            changed: Parts of the spec (space, task, seed, sampler, ...) that the caller believes it has; a
                difference is refused.

        Raises:
            StudyError: There is none, it is damaged, or its spec is another one (shows the difference).
            InputError: Its spec.toml or run.toml is no TOML.
        """
        folder = Path(studies_dir) / name
        if not (folder / SPEC).exists():
            known = sorted(p.parent.name for p in Path(studies_dir).glob(f"*/{SPEC}"))
            todo = f"Known: {', '.join(known)}." if known else "Start one with: utuning-search run"
            raise StudyError(f"study '{name}'", f"it lies in {studies_dir}", "no such study", todo)
        spec = StudySpec.from_dict(read_toml(folder / SPEC), str(folder / SPEC))
        local = {"owner": name, **(read_toml(folder / LOCAL) if (folder / LOCAL).exists() else {})}
        if local.get("storage") and not storage:
            todo = f"Give --storage {local['storage']} with its password."
            raise StudyError(f"study '{name}'", "its storage is given", "none", todo)
        if not storage and not (folder / JOURNAL).exists():
            raise StudyError(f"journal {folder / JOURNAL}", "it holds the study's trials", "no such file", RESTORE)
        study = cls(folder, spec, storage, local)
        stored = study._stored
        for wanted, place in ((spec, f"{folder / SPEC}"), (replace(spec, **changed), "what was asked for")):
            if wanted.digest != stored.digest:
                lines = wanted.differences(stored)
                shown = "; ".join(lines[:4]) + (f"; and {len(lines) - 4} more" if len(lines) > 4 else "")
                todo = "Start a new study for another spec, with another --name."
                raise StudyError(f"study '{name}', {place}", "a study keeps its spec", shown, todo)
        return study

    def trials(self) -> list[TrialRecord]:
        """All trials but those still waiting."""
        with storage_errors(self._url, self.folder):
            return [r for r in self.scheduler.records() if r.state != "waiting"]

    def front(self) -> list[TrialRecord]:
        """The non-dominated complete trials, by parameters ascending."""
        return front_of(self.trials())

    def hypervolume(self) -> float:
        """Of the front, against full fine-tuning: share in [0, 1] of the box up to the backbone's size."""
        return volume_of(self.front(), self.reference)

    @property
    def reference(self) -> int:
        """Trainable parameters of full fine-tuning, head included."""
        return self.shape.parameters + (self.shape.dim + 1) * len(self.classes)

    def skipped(self) -> dict[str, str]:
        """Images that could not be read and were left out when the study was created, and why, by name."""
        try:
            index = json.loads((self.folder / SPLITS).read_text(encoding="utf-8"))
            return {**index["proxy"]["skipped"], **index["validation"]["skipped"]}
        except (OSError, ValueError, KeyError, TypeError):  # of an older version, or not ours: it decides nothing
            return {}

    def weights_file(self, trial: int) -> Path:
        """Where a complete trial's tuner and head are kept."""
        return self.folder / WEIGHTS / f"{trial:05d}.safetensors"

    def run(
        self,
        budget: Budget = Budget(),
        *,
        workers: int | None = None,
        device: str | None = None,
        data_dir: str | None = None,
        on_change: Callable[[Snapshot], None] | None = None,
    ) -> bool:
        """Run trials until the budget is spent.

        Args:
            budget: When to stop.
            workers: Processes; None for one a core or GPU, 0 to train in this process.
            device: "auto", "cpu", "cuda" or "mps"; None for the one the study was created with.
            data_dir: Where relative data paths are looked up; None for the one it was created with.
            on_change: Called with each change, in this process.

        Returns:
            Whether it ran to its end; False after Ctrl-C.

        Raises:
            StudyError: Another process runs it, its data changed, or the disk is full; what was finished is kept.
        """
        with (
            locked(self.folder, self.name, "runs"),
            storage_errors(self._url, self.folder),
            Interrupts() as interrupts,
        ):
            self.scheduler.reap()
            if spent(self.scheduler, budget, 0.0, 0):
                return True
            try:
                with interrupts.let_in():
                    pool = self._pool(
                        workers, device or self.local.get("device", "auto"), data_dir or self.local.get("data_dir")
                    )
            except KeyboardInterrupt:
                return False
            try:
                return Runner(self.scheduler, pool, budget, self.reference, interrupts, on_change).loop()
            finally:
                pool.close()
                with suppress(OSError):
                    (self.folder / IMAGES).unlink(missing_ok=True)

    def remember(self, **settings: Any) -> None:
        """Keep settings of this machine or user, such as the budget, for a later resume."""
        self.local |= settings
        write_atomically(self.folder / LOCAL, tomli_w.dumps(self.local))

    def _pool(self, workers: int | None, device: str, data_dir: str | None) -> Pool:
        kind = resolve_device(device)
        count = default_workers(kind) if workers is None else workers
        runtime = Runtime(kind, self.spec.precision, data_dir)
        created_with = data_dir is None or str(Path(data_dir).resolve()) == self.local.get("data_dir")
        context = (self._loaded if created_with else None) or load_search(self.spec.task, data_dir)
        self._loaded = None
        if context.data.digest != self.spec.data:
            todo = "Give the data it was created with, or start a new study."
            raise StudyError(f"study '{self.name}', data", f"its digest is {self.spec.data}", context.data.digest, todo)
        if count == 0:
            return InlinePool(ProxyTrainer(self.spec.task, runtime, context))
        images = None
        if self.spec.task.data.source != "digits":  # those are there at once
            images = self.folder / IMAGES
            write_atomically(images, context.data.save)
        del context
        return ProcessPool(self.spec.task, runtimes(runtime, count), images)

    def _keep_weights(self, trial: int, weights: bytes) -> None:
        path = self.weights_file(trial)
        make_folder(path.parent)
        write_atomically(path, weights)


@contextmanager
def _recorded(
    storage: BaseStorage, folder: Path, url: str | None, spec: StudySpec, context: SearchContext
) -> Iterator[None]:
    """Create the study in its storage; after an error here or inside, nothing of it is left."""
    try:
        created = optuna.create_study(study_name=folder.name, storage=storage, directions=["maximize", "minimize"])
    except optuna.exceptions.DuplicatedStudyError:
        todo = f"Go on with: utuning-search resume {folder.name}{_at(folder)} --storage URL  Or choose another --name."
        raise StudyError(place_of(url, folder), "a new study has a new name", folder.name, todo) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            created.set_metric_names(["accuracy", "parameters"])  # for Optuna's dashboard
        created.set_user_attr("shape", vars(context.shape))
        created.set_user_attr("classes", list(context.data.classes))
        created.set_user_attr("digest", spec.digest)
        created.set_user_attr("spec", spec.to_dict())
        yield
    except BaseException:
        with suppress(Exception):  # the first error says more
            optuna.delete_study(study_name=folder.name, storage=storage)
        for file in (SPEC, LOCAL, SPLITS, JOURNAL):
            (folder / file).unlink(missing_ok=True)
        raise


def _check_new(folder: Path) -> None:
    """Refuse a folder that holds a study. One that was killed while it was created has no spec and no trials."""
    todo = f"Go on with: utuning-search resume {folder.name}{_at(folder)}  Or choose another --name."
    if (folder / SPEC).exists():
        raise StudyError(f"study '{folder.name}'", "a new study has a new name", f"one in {folder}", todo)
    if (folder / JOURNAL).exists():
        storage = open_storage(None, folder)
        if any(s.n_trials for s in optuna.get_all_study_summaries(storage)):
            todo = f"Put {SPEC} back, or choose another --name."
            raise StudyError(f"study '{folder.name}'", f"it has its {SPEC}", f"trials in {folder} without it", todo)


def _check_limit(limit: int | None, context: SearchContext) -> None:
    """Refuse a limit that nothing fits into, before anything is written."""
    head = (context.shape.dim + 1) * context.data.num_classes
    if limit is not None and limit < head:
        rule = f"it is at least {head:,}, the head of {context.data.num_classes} classes on this backbone"
        raise InputError("--max-params", rule, f"{limit:,}", "Raise it, or take a backbone of fewer channels.")


def _check_name(name: str) -> None:
    if not name or name.startswith(".") or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise StudyError("--name", "a study's name has letters, digits, - _ and .", f"'{name}'")


def _check_space(space: Space, depth: int, learning_rate: float) -> None:
    """Refuse a space that does not fit the backbone, before anything is written."""
    space.size(depth)  # names patterns of blocks beyond the depth
    for name, design in space.preset_designs(depth, learning_rate).items():
        if not space.contains(design, depth):
            todo = "Widen a set, or take the preset out of the space's list."
            raise StudyError(f"space '{space.name}'", "its presets lie in it", f"'{name}' does not", todo)


def _at(folder: Path) -> str:
    return "" if folder.parent == Path("studies") else f" --studies-dir {folder.parent}"
