"""Studies: create, load, run, resume. All of a study lies in one folder."""

import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import tomli_w
from optuna.storages import BaseStorage

from utuning_search.common.errors import StudyError
from utuning_search.common.files import is_there, make_folder, write_atomically
from utuning_search.common.locks import first, locked
from utuning_search.common.toml import read_toml
from utuning_search.data.decoded import Store
from utuning_search.data.given import OwnData
from utuning_search.data.loading import write_given
from utuning_search.data.looking import look_at
from utuning_search.data.spec import STORED
from utuning_search.designs.spaces.narrowing import left_out
from utuning_search.designs.spaces.space import Space
from utuning_search.search.artifacts import Artifacts, place_of_artifacts
from utuning_search.search.budget import Budget, spent
from utuning_search.search.callbacks.base import Callback, FinalRecord, Started
from utuning_search.search.callbacks.telling import Telling, warn
from utuning_search.search.checkpoints import Checkpoints
from utuning_search.search.creation import BUDGET, check_name, check_new, write_study
from utuning_search.search.defaults import OBJECTIVES, OWN_TASK, PRUNER, SAMPLER, TASK
from utuning_search.search.interrupts import Interrupts
from utuning_search.search.joining import join, refuse_others
from utuning_search.search.kept_spec import refuse_another, settings
from utuning_search.search.layout import LOCAL, SPEC, SPLITS, WEIGHTS, images_in, removed, sweep_study
from utuning_search.search.leases import Heart, home
from utuning_search.search.local import read_local
from utuning_search.search.needs import Needs, needs_of
from utuning_search.search.objectives.base import Setting
from utuning_search.search.objectives.cost import full_fine_tuning
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.pools import pool_for
from utuning_search.search.pruners.base import Pruner
from utuning_search.search.pruners.registry import pruner as pruner_of
from utuning_search.search.runner import Runner, Snapshot
from utuning_search.search.samplers.base import Sampler
from utuning_search.search.samplers.registry import sampler as sampler_of
from utuning_search.search.scheduler import Scheduler
from utuning_search.search.spec import RESTORE, StudySpec
from utuning_search.search.splits_file import notes_on_images, skipped_images, write_splits
from utuning_search.search.storage import JOURNAL, is_shared, storage_errors
from utuning_search.search.stored import open_study
from utuning_search.search.trials import TrialRecord, front_of, volume_of
from utuning_search.training.context import SearchContext, load_backbone, load_search, pinned
from utuning_search.training.runtime import resolve_device, resolve_precision
from utuning_search.training.task import Task


class Study:
    """A search of a space on a task, in a folder, with everything that was tried in an Optuna storage.

    Make one with `Study.create` or `Study.load`, then `run()`.
    """

    def __init__(
        self,
        folder: Path,
        spec: StudySpec,
        storage_url: str | None,
        local: dict[str, Any],
        artifacts: str | None = None,
    ) -> None:
        self.folder, self.local = folder, local
        # By create, for the run that follows it: the loaded task, and where its decoded images lie.
        self._loaded: tuple[SearchContext, Store | None] | None = None
        self.url = storage_url  # with its password; None for the journal in its folder
        self._storage, self._optuna, kept = open_study(storage_url, folder)
        self._stored, self.shape, self.decoding, self.classes = kept.spec, kept.shape, kept.decoding, kept.classes
        self.validation = kept.validation
        place = place_of_artifacts(artifacts) if artifacts else kept.artifacts
        self.artifacts = Artifacts(place, self._optuna, self._storage) if place else None
        self.setting = Setting(self.shape, len(self.classes))
        self.spec = spec.on(self.shape)
        checkpoints = Checkpoints(folder, f"{folder.name}-{spec.digest}", self.artifacts)
        self.scheduler = Scheduler(
            self._optuna, self._storage, self.spec, self.setting, local["owner"], self._keep_weights, checkpoints
        )

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def optuna(self) -> optuna.Study:
        """The study as Optuna has it, for its plots; to be read, not to be asked for trials."""
        return self._optuna

    @property
    def storage(self) -> BaseStorage:
        """Optuna's storage of it."""
        return self._storage

    @property
    def objectives(self) -> Objectives:
        """What its front weighs."""
        return self.spec.objectives

    @classmethod
    def create(
        cls,
        space: Space | str = "full",
        task: Task | str | None = None,
        *,
        data: Path | str | OwnData | None = None,
        name: str | None = None,
        studies_dir: Path | str = "studies",
        storage: str | None = None,
        artifacts: str | None = None,
        seed: int = 0,
        sampler: Sampler | str = SAMPLER,
        pruner: Pruner | str | None = PRUNER,
        objectives: Sequence[str] = OBJECTIVES,
        precision: str = "auto",
        device: str = "auto",
        data_dir: str | None = None,
        presets: Sequence[str] = (),
        max_parameters: int | None = None,
        limits: Mapping[str, float] | None = None,
        budget: Mapping[str, float] | None = None,
        examine: Callable[[SearchContext], object] | None = None,
    ) -> "Study":
        """A new study; nothing is written before backbone and data have been loaded and fit.

        Args:
            space: A name, a path to a .toml file, or a space.
            task: Likewise; None for "digits", or with `data` for "imagefolder", of which backbone and recipe are taken.
            data: Images instead of the task's: a folder, a CSV or Parquet files, as `utuning-search run --data`; or
                what `own_data` makes of a dataset or of arrays, which is decoded into the study's folder.
            sampler: A name or a sampler: what proposes designs.
            pruner: A name or a pruner: what stops trials at rungs; None for none.
            objectives: Names of what a front weighs.
            presets: Known methods to try first besides the space's own, such as "adapter-plus:rank=4" or "all";
                they need not lie in the space.
            max_parameters: Larger designs, head included, are proposed but never trained.
            limits: The same for any exact objective by name, such as {"flops": 3e9}.
            budget: Fields of a Budget, for machines that join a study in a database as soon as it is there.
            examine: Called with the loaded task before anything is written; what it raises is raised.
            Others: As the options of `utuning-search run`.

        Raises:
            StudyError: A study of this name exists, or the folder or storage cannot be written.
            InputError, DataError, BackboneError: Space, task, data or backbone cannot be used.
        """
        space = Space.load(space) if isinstance(space, str) else space
        task = Task.load(task or (TASK if data is None else OWN_TASK)) if not isinstance(task, Task) else task
        given = data if isinstance(data, OwnData) else None
        if data is not None and (given is None or task.data.source != STORED):
            task, data_dir = task.on_data(look_at(data if isinstance(data, OwnData) else Path(data)), data_dir)
        chosen = sampler_of(sampler) if isinstance(sampler, str) else sampler
        stops = pruner_of(pruner or "none") if isinstance(pruner, str | None) else pruner
        weighed = Objectives(tuple(objectives))
        most = {**(limits or {}), **({} if max_parameters is None else {"parameters": max_parameters})}
        name = name or f"{space.name}-{task.name}"
        check_name(name)
        folder = Path(studies_dir) / name
        check_new(folder)
        resolved, task = resolve_device(device), pinned(task)
        store = images_in(folder, task)
        kept = None if given is None else Store(folder / task.data.root)
        with removed(kept, only_after_errors=True), removed(store, only_after_errors=True):
            if given is not None and kept is not None:
                write_given(given, kept.folder, load_backbone(task, data_dir)[1])
            context = load_search(task, data_dir, store=store, home=folder)
            if examine is not None:
                examine(context)
            spec = StudySpec(
                space=space,
                task=task,
                seed=seed,
                sampler=chosen,
                pruner=stops,
                precision=resolve_precision(precision, resolved, task.backbone.name),
                data=context.data.digest,
                presets=tuple(presets),
                limits=tuple(most.items()),
                objectives=weighed,
            )
            local = write_study(folder, spec, context, storage, device, data_dir, store, artifacts, budget)
            study = cls(folder, spec, storage, local)
        study._loaded = context, store
        if store is not None:  # nobody may ever run it
            weakref.finalize(study, store.remove)
        return study

    @classmethod
    def load(
        cls,
        name: str,
        *,
        studies_dir: Path | str = "studies",
        storage: str | None = None,
        artifacts: str | None = None,
        **changed: Any,
    ) -> "Study":
        """An existing study.

        Args:
            name: Of its folder in `studies_dir`.
            storage: Its URL, where it is not the journal in its folder. A study that is there and has no folder here
                gets one; its images are looked at when they are needed.
            artifacts: Where its artifact store is found from here, if that is another place than it was created with.
            changed: Parts of the spec (space, task, seed, sampler, ...) that the caller believes it has; a
                difference is refused.

        Raises:
            StudyError: There is none, it is damaged, or its spec is another one (shows the difference).
            InputError: Its spec.toml or run.toml is no TOML.
        """
        folder = Path(studies_dir) / name
        if not is_there(folder / SPEC) and storage:
            join(folder, storage)
        if not is_there(folder / SPEC):
            known = sorted(p.parent.name for p in Path(studies_dir).glob(f"*/{SPEC}"))
            todo = f"Known: {', '.join(known)}." if known else "Start one with: utuning-search run"
            raise StudyError(f"study '{name}'", f"it lies in {studies_dir}", "no such study", todo)
        spec = StudySpec.from_dict(read_toml(folder / SPEC), str(folder / SPEC))
        local = {"owner": uuid.uuid4().hex, **read_local(folder / LOCAL)}
        if local.get("storage") and not storage:
            todo = f"Give --storage {local['storage']} with its password."
            raise StudyError(f"study '{name}'", "its storage is given", "none", todo)
        if not storage and not (folder / JOURNAL).exists():
            raise StudyError(f"journal {folder / JOURNAL}", "it holds the study's trials", "no such file", RESTORE)
        study = cls(folder, spec, storage, local, artifacts)
        asked = replace(spec, **settings(study._stored, changed))
        for wanted, place in ((spec, f"{folder / SPEC}"), (asked, "what was asked for")):
            refuse_another(wanted, study._stored, f"study '{name}', {place}")
        return study

    def trials(self) -> list[TrialRecord]:
        """All trials but those still waiting."""
        with storage_errors(self.url, self.folder):
            return [r for r in self.scheduler.records() if r.state != "waiting"]

    def front(self) -> list[TrialRecord]:
        """The non-dominated complete trials, the cheapest first: by parameters ascending, unless told otherwise."""
        return front_of(self.trials(), self.objectives)

    def hypervolume(self) -> float:
        """Of the front: share in [0, 1] of the box between the objectives' bounds, of which full fine-tuning is one."""
        return volume_of(self.front(), self.objectives, self.setting)

    @property
    def reference(self) -> int:
        """Trainable parameters of full fine-tuning, head included."""
        return full_fine_tuning(self.setting)

    def skipped(self) -> dict[str, str]:
        """Images that could not be read and were left out when the study was created, and why, by name."""
        return skipped_images(self.folder)

    def notes(self) -> tuple[str, ...]:
        """What was done to the images when the study was created, what is odd about them, and what of the space the
        backbone cannot carry, a line each."""
        left = ", ".join(left_out(self._stored.space.slots, self.shape))
        said = f"left out on this backbone: {left}. utuning-search backbones NAME says why."
        return (*notes_on_images(self.folder), *([said] if left else ()))

    def weights_file(self, trial: int) -> Path:
        """Where a complete trial's tuner and head are kept, on the machine that trained it."""
        return self.folder / WEIGHTS / f"{trial:05d}.safetensors"

    def found_weights(self, trial: int) -> Path:
        """The same file, fetched from the study's artifact store where it is not here; it may be nowhere."""
        path = self.weights_file(trial)
        if self.artifacts is not None and not path.exists():
            with storage_errors(self.url, self.folder):
                self.artifacts.fetch(path, trial)
        return path

    def run(
        self,
        budget: Budget = Budget(),
        *,
        workers: int | None = None,
        device: str | None = None,
        data_dir: str | None = None,
        retry_failed: bool = False,
        on_change: Callable[[Snapshot], None] | None = None,
        callbacks: Sequence[Callback] = (),
        on_trouble: Callable[[str], None] = warn,
        on_loaded: Callable[[Needs], object] | None = None,
    ) -> bool:
        """Run trials until the budget is spent.

        Args:
            budget: When to stop.
            workers: Processes; None for one a core or GPU, 0 to train in this process.
            device: "auto", "cpu", "cuda" or "mps"; None for the one the study was created with.
            data_dir: Where relative data paths are looked up; None for the one it was created with.
            retry_failed: Try designs again that count as failed.
            on_change: Called with each change, in this process.
            callbacks: Told of rungs and trials, in this process; what they raise does not end the run.
            on_trouble: Called with one line where a callback raises.
            on_loaded: Called with what the run takes, once the images are decoded and before any training.

        After SIGTERM, if that has a handler in Python, each trial is trained to the end of its epoch and given back
        with a checkpoint, from which whoever tries it next goes on; a second one ends it at once, as Ctrl-C does.

        Returns:
            Whether it ran to its end; False after Ctrl-C or SIGTERM.

        Raises:
            StudyError: Another process runs it, its data changed, the disk is full, or workers are lost one after
                the other: those trials are given back, and what was finished is kept.
        """
        with self._begun() as alone, storage_errors(self.url, self.folder), Interrupts() as interrupts:
            loaded, self._loaded = self._loaded, None
            if alone:
                self._own()
                sweep_study(self.folder, loaded[1] if loaded else None)
                self.scheduler.reap()
                self.scheduler.sweep()
            else:  # the folder's owner is another process, or the last one to be that
                self.scheduler.leases.owner = uuid.uuid4().hex
            self.scheduler.wait_by(interrupts.sleep, on_trouble)
            if retry_failed:
                self.scheduler.retry_failed()
            telling = Telling(callbacks, on_trouble)
            telling.start(self.started())
            if spent(self.scheduler.history, budget, 0.0, 0, self.spec.task.recipe.epochs):
                telling.end()
                return True
            created_with = data_dir is None or str(Path(data_dir).resolve()) == self.local.get("data_dir")
            context, store = (loaded if created_with else None) or (None, images_in(self.folder, self.spec.task))
            del loaded
            place = data_dir or self.local.get("data_dir")
            try:
                with removed(store):
                    try:
                        with interrupts.let_in():
                            context = context or load_search(self.spec.task, place, store=store, home=self.folder)
                            self._check(context)
                            if on_loaded is not None:
                                on_loaded(needs_of(self.spec.task, context))
                            kind = device or self.local.get("device", "auto")
                            pool = pool_for(self.spec, workers, kind, place, context, store, lambda: interrupts.ending)
                            del context
                    except KeyboardInterrupt:
                        return False
                    with closing(pool), Heart(self.scheduler.leases.beat):
                        return Runner(self.scheduler, pool, budget, interrupts, on_change, telling).loop()
            finally:
                telling.end()

    def started(self, finals: Sequence[FinalRecord] = (), remeasured: Sequence[FinalRecord] = ()) -> Started:
        """What callbacks are told of it where a run begins, or a confirmation that has these trainings already."""
        depth, called = self.shape.depth, self.local.get("called", self.name)
        return Started(called, self.trials(), finals, lambda d: self.spec.space.params_of(d, depth), remeasured)

    @property
    def budget(self) -> dict[str, Any]:
        """The budget that was kept last, where one was: for all who run it, or in its folder."""
        found = self._optuna.user_attrs.get(BUDGET) if is_shared(self.url) else None
        return dict(found or self.local.get("budget", {}))

    def remember(self, **settings: Any) -> None:
        """Keep settings of this machine or user, and the budget of all, for a later resume."""
        if "budget" in settings and is_shared(self.url):
            self._optuna.set_user_attr(BUDGET, settings["budget"])
        self.local |= settings
        write_atomically(self.folder / LOCAL, tomli_w.dumps(self.local))

    def _begun(self) -> AbstractContextManager[bool]:
        """Whether no other process runs it from its folder, while it is entered; in a journal none may."""
        return first(self.folder) if is_shared(self.url) else locked(self.folder, self.name, "runs")

    def _own(self) -> None:
        """Be somebody else than a copy of this folder that shares its storage: its trials are not ours to give back."""
        here = home(self.folder)
        if self.url and self.local.get("at", here) != here:
            self.scheduler.leases.owner = uuid.uuid4().hex
        known = {"owner": self.scheduler.leases.owner, **({"at": here} if self.url else {})}
        if not (self.folder / LOCAL).exists() or known != {k: self.local.get(k) for k in known}:
            self.remember(**known)

    def _check(self, context: SearchContext) -> None:
        """Refuse a backbone, images and a store that are not the study's; keep which images these are."""
        if self.artifacts is not None:  # a trial would be trained first, and its weights have no place
            self.artifacts.check()
        refuse_others(f"study '{self.name}'", self.spec, self.shape, self.classes, context)
        if not (self.folder / SPLITS).exists():  # joined from elsewhere
            write_splits(self.folder, context.data)

    def _keep_weights(self, trial: int, weights: bytes) -> None:
        path = self.weights_file(trial)
        make_folder(path.parent)
        write_atomically(path, weights)
        if self.artifacts is not None:
            self.artifacts.send(path, trial)
