"""Studies: create, load, run, resume. All of a study lies in one folder."""

import time
import tomllib
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import filelock
import optuna
import tomli_w

from utuning_search.coordinator import Coordinator, Running
from utuning_search.engine import (
    Done,
    Evaluator,
    Event,
    Failed,
    InlinePool,
    Lost,
    Pool,
    ProcessPool,
    Rung,
    Runtime,
    default_workers,
    load_search,
    resolve_device,
    resolve_precision,
)
from utuning_search.errors import StudyError
from utuning_search.files import make_folder, write_atomically
from utuning_search.front import front, hypervolume
from utuning_search.pruning import ParetoPruner
from utuning_search.space import Space
from utuning_search.spec import StudySpec
from utuning_search.storage import JOURNAL, mask, open_storage
from utuning_search.task import Task
from utuning_search.trials import TrialRecord
from utuning_search.tuners import BackboneShape

TRIALS = 48
SPEC, LOCAL, LOCK, WEIGHTS = "spec.toml", "run.toml", ".lock", "weights"
WAIT = 0.5  # seconds between looks at the clock while trials run


@dataclass(frozen=True)
class Budget:
    """When to stop starting trials; the first limit reached counts, and running trials still end.

    Attributes:
        trials: Settled trials in the whole study; None for no limit.
        epochs: Trained in the whole study.
        seconds: Of this run.
    """

    trials: int | None = TRIALS
    epochs: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """Where a running study stands, for a display.

    Attributes:
        records: All trials.
        running: Trials on their way.
        front: Numbers of the front's trials, by parameters ascending.
        hypervolume: Of the front, in [0, 1]; see `front.hypervolume`.
        target: Trials to reach, or None.
        elapsed: Seconds of this run.
        remaining: Seconds to the target at this run's pace, or None.
    """

    records: list[TrialRecord]
    running: list[Running]
    front: list[int]
    hypervolume: float
    target: int | None
    elapsed: float
    remaining: float | None


class Study:
    """A search of a space on a task, in a folder, with everything that was tried in an Optuna storage.

    Make one with `Study.create` or `Study.load`, then `run()`.
    """

    def __init__(self, folder: Path, spec: StudySpec, storage_url: str | None, local: dict[str, Any]) -> None:
        self.folder, self.spec, self.local = folder, spec, local
        self._storage = open_storage(storage_url, folder)
        self._optuna = optuna.load_study(study_name=folder.name, storage=self._storage)
        attributes = self._optuna.user_attrs
        self.shape = BackboneShape(**attributes["shape"])
        self.classes: list[str] = attributes["classes"]
        self.coordinator = Coordinator(
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
        pruner: ParetoPruner | None = ParetoPruner(),  # noqa: B008  # a frozen value
        precision: str = "auto",
        device: str = "auto",
        data_dir: str | None = None,
    ) -> "Study":
        """A new study; nothing is written before backbone and data have been loaded and fit.

        Raises:
            StudyError: A study of this name exists, or the folder or storage cannot be written.
            InputError, DataError, BackboneError: Space, task, data or backbone cannot be used.
        """
        space = Space.load(space) if isinstance(space, str) else space
        task = Task.load(task) if isinstance(task, str) else task
        folder = Path(studies_dir) / (name or f"{space.name}-{task.name}")
        _check_name(folder.name)
        if (folder / SPEC).exists() or (folder / JOURNAL).exists():
            todo = f"Go on with: utuning-search resume {folder.name}{_at(folder)}  Or choose another --name."
            raise StudyError(f"study '{folder.name}'", "a new study has a new name", f"one in {folder}", todo)
        resolved = resolve_device(device)
        context = load_search(task, data_dir)
        precision = resolve_precision(precision, resolved, task.backbone.name)
        spec = StudySpec(space, task, seed, sampler, pruner, precision, context.data.digest)
        local = {"owner": uuid.uuid4().hex, "device": device, "storage": mask(storage or "")}
        local |= {"data_dir": str(Path(data_dir).resolve())} if data_dir else {}
        make_folder(folder)
        opened = open_storage(storage, folder)
        try:
            created = optuna.create_study(study_name=folder.name, storage=opened, directions=["maximize", "minimize"])
        except optuna.exceptions.DuplicatedStudyError:
            todo = f"Go on with: utuning-search resume {folder.name}{_at(folder)} --storage URL"
            raise StudyError(
                f"--storage {mask(storage or '')}", "a new study has a new name", folder.name, todo
            ) from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            created.set_metric_names(["accuracy", "parameters"])  # for Optuna's dashboard
        created.set_user_attr("shape", vars(context.shape))
        created.set_user_attr("classes", list(context.data.classes))
        created.set_user_attr("digest", spec.digest)
        created.set_user_attr("spec", spec.to_dict())
        write_atomically(folder / LOCAL, tomli_w.dumps(local))
        write_atomically(folder / SPEC, spec.to_toml())
        return cls(folder, spec, storage, local)

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
        """
        folder = Path(studies_dir) / name
        if not (folder / SPEC).exists():
            known = sorted(p.parent.name for p in Path(studies_dir).glob(f"*/{SPEC}"))
            todo = f"Known: {', '.join(known)}." if known else "Start one with: utuning-search run"
            raise StudyError(f"study '{name}'", f"it lies in {studies_dir}", "no such study", todo)
        spec = StudySpec.from_toml((folder / SPEC).read_text(encoding="utf-8"))
        local_file = folder / LOCAL
        local = tomllib.loads(local_file.read_text(encoding="utf-8")) if local_file.exists() else {"owner": name}
        if local.get("storage") and storage is None:
            todo = f"Give --storage {local['storage']} with its password."
            raise StudyError(f"study '{name}'", "its storage is given", "none", todo)
        study = cls(folder, spec, storage, local)
        stored = StudySpec.from_dict(study._optuna.user_attrs["spec"])
        for wanted, place in ((spec, f"{folder / SPEC}"), (replace(spec, **changed), "what was asked for")):
            if wanted.digest != stored.digest:
                lines = wanted.differences(stored)
                shown = "; ".join(lines[:4]) + (f"; and {len(lines) - 4} more" if len(lines) > 4 else "")
                todo = "Start a new study for another spec, with another --name."
                raise StudyError(f"study '{name}', {place}", "a study keeps its spec", shown, todo)
        return study

    def trials(self) -> list[TrialRecord]:
        """All trials but those still waiting."""
        return [r for r in self.coordinator.records() if r.state != "waiting"]

    def front(self) -> list[TrialRecord]:
        """The non-dominated complete trials, by parameters ascending."""
        return front_of(self.trials())

    def hypervolume(self) -> float:
        """Of the front, against full fine-tuning: share in [0, 1] of the box up to the backbone's size."""
        best = self.front()
        return hypervolume([r.accuracy or 0 for r in best], [r.parameters for r in best], reference=self.reference)

    @property
    def reference(self) -> int:
        """Trainable parameters of full fine-tuning, head included."""
        return self.shape.parameters + (self.shape.dim + 1) * len(self.classes)

    def weights_file(self, trial: int) -> Path:
        """Where a complete trial's tuner and head are kept."""
        return self.folder / WEIGHTS / f"{trial:05d}.safetensors"

    def run(
        self,
        budget: Budget = Budget(),  # a frozen value
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
        """
        with self._locked():
            self.coordinator.reap()
            if self._spent(budget, 0.0, 0):
                return True
            pool = self._pool(
                workers, device or self.local.get("device", "auto"), data_dir or self.local.get("data_dir")
            )
            try:
                return _Run(self, pool, budget, on_change).loop()
            finally:
                pool.close()

    def remember(self, **settings: Any) -> None:
        """Keep settings of this machine or user, such as the budget, for a later resume."""
        self.local |= settings
        write_atomically(self.folder / LOCAL, tomli_w.dumps(self.local))

    def snapshot(self, running: list[Running], budget: Budget, elapsed: float, done_here: int) -> Snapshot:
        """Where the study stands now."""
        records = self.trials()
        best = front_of(records)
        volume = hypervolume([r.accuracy or 0 for r in best], [r.parameters for r in best], reference=self.reference)
        left = None if budget.trials is None else max(budget.trials - sum(r.settled for r in records), 0)
        remaining = None if left is None or not done_here else elapsed / done_here * left
        return Snapshot(records, running, [r.number for r in best], volume, budget.trials, elapsed, remaining)

    def _spent(self, budget: Budget, elapsed: float, running: int) -> bool:
        records = self.coordinator.records()
        settled = sum(r.settled for r in records) + running
        epochs = sum(r.epochs for r in records) + running * self.spec.task.recipe.epochs
        return (
            (budget.trials is not None and settled >= budget.trials)
            or (budget.epochs is not None and epochs >= budget.epochs)
            or (budget.seconds is not None and elapsed >= budget.seconds)
        )

    def _pool(self, workers: int | None, device: str, data_dir: str | None) -> Pool:
        kind = resolve_device(device)
        count = default_workers(kind) if workers is None else workers
        runtime = Runtime(kind, self.spec.precision, data_dir)
        context = load_search(self.spec.task, data_dir)
        if context.data.digest != self.spec.data:
            todo = "Give the data it was created with, or start a new study."
            raise StudyError(f"study '{self.name}', data", f"its digest is {self.spec.data}", context.data.digest, todo)
        if count == 0:
            return InlinePool(Evaluator(self.spec.task, runtime, context))
        del context
        cuda = kind == "cuda" and count > 1
        return ProcessPool(
            self.spec.task, [replace(runtime, device=f"cuda:{i}") if cuda else runtime for i in range(count)]
        )

    def _keep_weights(self, trial: int, weights: bytes) -> None:
        path = self.weights_file(trial)
        make_folder(path.parent)
        write_atomically(path, weights)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # The kernel gives the lock back when its holder dies, however it dies.
        lock = filelock.FileLock(self.folder / LOCK, blocking=False)
        try:
            with lock:
                yield
        except filelock.Timeout:
            todo = "Wait for it, or stop it; --workers N uses more cores in one process."
            raise StudyError(f"study '{self.name}'", "one process runs it", "another one", todo) from None


class _Run:
    """One stretch of running a study."""

    def __init__(self, study: Study, pool: Pool, budget: Budget, on_change: Callable[[Snapshot], None] | None) -> None:
        self.study, self.pool, self.budget, self.on_change = study, pool, budget, on_change
        self.coordinator = study.coordinator
        self.busy: dict[int, Running] = {}
        self.started: dict[int, float] = {}
        self.held: list[Running] = []  # designs that another trial is training right now
        self.began = time.monotonic()
        self.settled = 0

    def loop(self) -> bool:
        try:
            while True:
                self._settle_held()
                changed = self._fill()
                if not self.busy and not self.held:
                    self._changed()
                    return True
                for worker, event in self.pool.wait(WAIT):
                    self._handle(worker, event)
                    changed = True
                if changed:
                    self._changed()
        except KeyboardInterrupt:
            return False
        finally:
            for running in [*self.busy.values(), *self.held]:
                self.coordinator.interrupted(running)

    def _fill(self) -> bool:
        """Start trials on idle workers; whether any was."""
        changed = False
        for worker in range(self.pool.size):
            while worker not in self.busy and not self._spent():
                running = self.coordinator.ask()
                outcome = self.coordinator.settle_duplicate(running)
                changed = True
                if outcome is False:
                    self._start(worker, running)
                elif outcome is None:
                    self.held.append(running)
                else:
                    self.settled += 1
        return changed

    def _spent(self) -> bool:
        waiting = len(self.busy) + len(self.held)
        return self.study._spent(self.budget, time.monotonic() - self.began, waiting)

    def _start(self, worker: int, running: Running) -> None:
        self.busy[worker] = running
        self.started[worker] = time.monotonic()
        self.pool.start(worker, running.job)

    def _settle_held(self) -> None:
        for running in list(self.held):
            outcome = self.coordinator.settle_duplicate(running)
            idle = next((w for w in range(self.pool.size) if w not in self.busy), None)
            if outcome is True:
                self.settled += 1
                self.held.remove(running)
            elif outcome is False and idle is not None:
                self.held.remove(running)
                self._start(idle, running)

    def _handle(self, worker: int, event: Event) -> None:
        running = self.busy.get(worker)
        if running is None:  # an idle worker died and was replaced
            if isinstance(event, Lost):
                raise StudyError("worker", "a worker process starts and stays", event.reason, "See the messages above.")
            return
        seconds = time.monotonic() - self.started[worker]
        if isinstance(event, Rung):
            go_on = self.coordinator.rung(running, event.report)
            if not go_on:
                self.coordinator.pruned(running, seconds)
            self.pool.answer(worker, go_on)
            if go_on:
                return
        elif isinstance(event, Done):
            self.coordinator.done(running, event.result)
        elif isinstance(event, Failed):
            self.coordinator.failed(running, event.reason, seconds)
        else:
            self.coordinator.lost(running, event.reason, seconds)
        del self.busy[worker]
        self.settled += 1

    def _changed(self) -> None:
        if self.on_change is not None:
            running = [*self.busy.values(), *self.held]
            elapsed = time.monotonic() - self.began
            self.on_change(self.study.snapshot(running, self.budget, elapsed, self.settled))


def front_of(records: list[TrialRecord]) -> list[TrialRecord]:
    """The non-dominated complete trials, by parameters ascending; of equal ones the earliest."""
    complete = [r for r in records if r.state == "complete" and r.accuracy is not None]
    return [complete[i] for i in front([r.accuracy or 0.0 for r in complete], [r.parameters for r in complete])]


def _check_name(name: str) -> None:
    if not name or name.startswith(".") or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise StudyError("--name", "a study's name has letters, digits, - _ and .", f"'{name}'")


def _at(folder: Path) -> str:
    return "" if folder.parent == Path("studies") else f" --studies-dir {folder.parent}"
