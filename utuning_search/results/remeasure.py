"""How much selection flattered: designs trained again on the proxy split with fresh seeds, and validated again.

A search keeps what its validation accuracies favour, so the best of them are too high: part of each is the luck of one
training. Fresh trainings of the same kind have no such part, and are validated on the same images, so the difference is
that luck and nothing else. What the choice of those images flatters is in both, and cancels. No test image is read.
"""

import json
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from utuning_search.common.errors import InputError, StudyError, TrainingError
from utuning_search.common.files import make_folder, write_atomically
from utuning_search.common.locks import locked
from utuning_search.common.seeds import derive_seed
from utuning_search.data.decoded import Store
from utuning_search.designs.design import Design
from utuning_search.results.finalists import Finalist
from utuning_search.results.finals import Confirmation, Final
from utuning_search.results.metrics import ACCURACY, measured
from utuning_search.results.outcomes import FINALS, check_share, read_kept
from utuning_search.search.callbacks.base import Callback, FinalRecord
from utuning_search.search.callbacks.telling import Telling, warn
from utuning_search.search.layout import images_in, removed, sweep
from utuning_search.search.study import Study
from utuning_search.training.context import load_search
from utuning_search.training.measurement import Measure
from utuning_search.training.measuring import threads
from utuning_search.training.proxy import ProxyTrainer, Result
from utuning_search.training.run_each import run_each
from utuning_search.training.runtime import Runtime, default_workers, resolve_device, runtimes
from utuning_search.training.task import Task
from utuning_search.training.workers import Lost


@dataclass(frozen=True)
class Again:
    """One fresh training of a design as its trial was, as it is kept.

    Attributes:
        key: Of the design.
        seed: From 0; the training's own seed is derived from it, and is not that of the trial.
        data: Digest of the proxy and validation images.
        validation: Accuracy on the validation split, in [0, 1]; None where the training failed.
        reason: Why it failed; or empty.
        others: What else was measured on it, by name.
    """

    key: str
    seed: int
    data: str
    validation: float | None = None
    reason: str = ""
    others: dict[str, float] = field(default_factory=dict)

    def value(self, metric: str) -> float | None:
        """Accuracy or another metric; None where the training failed, or nobody measured it."""
        return self.validation if metric == ACCURACY else self.others.get(metric)

    def __post_init__(self) -> None:
        check_share("validation", self.validation)


@dataclass(frozen=True)
class _Job:
    """The trainings that one process does: of one design, with the seeds that are missing."""

    task: Task
    design: Design
    seeds: tuple[int, ...]
    study_seed: int
    runtimes: tuple[Runtime, ...]  # by slot
    images: Path | None  # decoded ones, see SearchData.save
    measures: tuple[Measure, ...]


def remeasure(
    study: Study,
    found: Confirmation,
    seeds: int,
    *,
    workers: int | None = None,
    device: str | None = None,
    data_dir: str | None = None,
    on_progress: Callable[[Finalist, Again], None] | None = None,
    callbacks: Sequence[Callback] = (),
    on_trouble: Callable[[str], None] = warn,
) -> Confirmation:
    """The confirmation, with fresh validation accuracies for each final that the search tried.

    Each is a function of (spec, design, seed) and kept in the study's `finals` folder as soon as it is there.

    Args:
        study: That was confirmed.
        found: Its finals.
        seeds: Fresh trainings a design, at least 1.
        workers, device, data_dir: As for `confirm`.
        on_progress: Called after each training, in this process.
        callbacks, on_trouble: As for `confirm`; each training is told to `on_remeasured`.

    Raises:
        InputError: A number out of range.
        StudyError: Other images than the study's, a damaged file, or processes that were killed.
    """
    if seeds < 1:
        raise InputError("--remeasure", "it is at least 1", seeds)
    tried = [f.finalist for f in found.finals if f.finalist.validation is not None]
    by_key = {f.design.key: f for f in tried}
    kind = resolve_device(device or study.local.get("device", "auto"))
    runtime = Runtime(kind, study.spec.precision, data_dir or study.local.get("data_dir"))
    make_folder(study.folder / FINALS)
    telling = Telling(callbacks, on_trouble)
    with locked(study.folder / FINALS, study.name, "confirms"), ExitStack() as told:
        sweep(study.folder / FINALS)
        kept = {
            (again.key, again.seed): again
            for f in tried
            for s in range(seeds)
            if (again := _read(study, f.design.key, s)) and (again.reason or again.value(found.metric) is not None)
        }
        missing = {key: tuple(s for s in range(seeds) if (key, s) not in kept) for key in by_key}
        epochs = study.spec.task.recipe.epochs
        told.callback(telling.end)
        telling.start(study.started((), [_fresh(by_key[again.key], again, epochs) for again in kept.values()]))
        if any(missing.values()):
            count = default_workers(kind) if workers is None else workers
            wanted = measured(study.objectives, found.metric)
            store = images_in(study.folder / FINALS, study.spec.task)
            with removed(store):
                for again in _train_all(study, by_key, missing, runtime, count, wanted, store):
                    write_atomically(_file(study, again.key, again.seed), json.dumps(asdict(again), indent=1) + "\n")
                    kept[again.key, again.seed] = again
                    telling.remeasured(_fresh(by_key[again.key], again, epochs))
                    if on_progress is not None:
                        on_progress(by_key[again.key], again)
    return replace(found, finals=tuple(_with(f, kept, seeds) for f in found.finals))


def flattery(finals: Iterable[Final]) -> float | None:
    """By how much the search's validation accuracy is above that of fresh trainings, on average; None without those."""
    values = [f.flattered for f in finals if f.flattered is not None]
    return statistics.fmean(values) if values else None


def _fresh(finalist: Finalist, again: Again, epochs: int) -> FinalRecord:
    """A training as callbacks see it."""
    return FinalRecord(
        name=finalist.name,
        key=again.key,
        design=finalist.design,
        trial=finalist.trial,
        seed=again.seed,
        epochs=epochs,
        augmented=False,
        parameters=finalist.parameters,
        values={} if again.validation is None else {"accuracy": again.validation, **again.others},
        reason=again.reason,
    )


def _with(final: Final, kept: dict[tuple[str, int], Again], seeds: int) -> Final:
    values = [again.value(final.metric) for s in range(seeds) if (again := kept.get((final.key, s))) is not None]
    known = tuple(v for v in values if v is not None)
    return replace(final, remeasured=known if len(known) == len(values) else ())


def _train_all(
    study: Study,
    finalists: dict[str, Finalist],
    missing: dict[str, tuple[int, ...]],
    runtime: Runtime,
    count: int,
    wanted: tuple[Measure, ...],
    store: Store | None,
) -> Iterator[Again]:
    """The trainings that are missing, as they end, on images that are decoded to a store."""
    context = load_search(study.spec.task, runtime.data_dir, store=store, home=study.folder)
    if context.data.digest != study.spec.data:
        todo = "Give the data it was created with."
        raise StudyError(f"study '{study.name}', data", f"its digest is {study.spec.data}", context.data.digest, todo)
    work: Callable[[int, _Job], Iterator[Again]] = _in_process
    if count == 0:
        work = partial(_train, ProxyTrainer(study.spec.task, runtime, context, wanted))
    images = None if store is None else store.folder
    del context
    each = runtimes(runtime, count)
    jobs = [
        _Job(study.spec.task, finalists[key].design, found, study.spec.seed, each, images, wanted)
        for key, found in missing.items()
        if found
    ]
    lost = []
    for index, found in run_each(work, jobs, count):
        if isinstance(found, Lost):
            lost.append(f"{jobs[index].design}: {found.reason}")
        else:
            yield replace(found, data=study.spec.data)
    if lost:
        todo = "What was finished is kept; try again, with fewer --workers if memory was short."
        raise StudyError("finalists", "each one is validated again", f"{len(lost)} not; {lost[0]}", todo)


def _in_process(slot: int, job: _Job) -> Iterator[Again]:
    """What a process of its own does: load the task, train."""
    runtime = job.runtimes[slot]
    trainer = ProxyTrainer(job.task, runtime, load_search(job.task, runtime.data_dir, job.images), job.measures)
    yield from _train(trainer, slot, job)


def _train(trainer: ProxyTrainer, slot: int, job: _Job) -> Iterator[Again]:
    """Each training of a job."""
    for seed in job.seeds:
        again = Again(job.design.key, seed, "")
        own = derive_seed(job.study_seed, f"again {job.design.key} {seed}")
        try:
            with threads(job.runtimes[slot].threads):
                *_, last = trainer.evaluate(job.design, own)
        except TrainingError as error:  # it would fail again
            yield replace(again, reason=str(error))
        else:
            assert isinstance(last, Result), "the last that a training says is its result"
            yield replace(again, validation=last.accuracy, others=dict(last.others))


def _file(study: Study, key: str, seed: int) -> Path:
    return study.folder / FINALS / f"validation_{key}_seed{seed}.json"


def _read(study: Study, key: str, seed: int) -> Again | None:
    path = _file(study, key, seed)
    if not path.exists():
        return None
    again = read_kept(Again, path, "it is a design validated again")
    return again if again.data == study.spec.data else None
