"""Confirm a study's front: its designs trained on all training images, with several seeds, and tested.

The only module that reads the test split. A finalist's outcome is a function of (spec, design, seed), and is kept
as soon as it is there; so a confirmation killed at any moment and run again ends with the same numbers.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.common.errors import InputError, StudyError, TrainingError
from utuning_search.common.files import make_folder
from utuning_search.common.locks import locked
from utuning_search.common.seeds import derive_seed
from utuning_search.data.decoded import FinalData, Store
from utuning_search.data.decoding import Decoding
from utuning_search.data.loading import check_test_data, load_final_data
from utuning_search.data.permit import TestPermit
from utuning_search.designs.design import Design
from utuning_search.results import metrics
from utuning_search.results.defaults import SEEDS, TOP
from utuning_search.results.finalists import Finalist, select
from utuning_search.results.finals import Confirmation, judge
from utuning_search.results.kept import check_data, finals_of, kept_outcomes
from utuning_search.results.outcomes import EXPORTED_SEED, FINALS, Outcome, keep_outcome
from utuning_search.results.predictions import Classes, keep_confidences, keep_labels, keep_predictions
from utuning_search.results.rounds import Rounds
from utuning_search.search.callbacks.base import Callback, FinalRecord
from utuning_search.search.callbacks.telling import Telling, warn
from utuning_search.search.layout import IMAGES, images_in, named, removed, sweep
from utuning_search.search.study import Study
from utuning_search.training.context import SearchContext, data_path, load_backbone, load_search
from utuning_search.training.full import FullTrainer
from utuning_search.training.measurement import Measure
from utuning_search.training.out_of_memory import note
from utuning_search.training.recipe import Recipe
from utuning_search.training.run_each import run_each
from utuning_search.training.runtime import Runtime, default_workers, resolve_device, runtimes
from utuning_search.training.task import Task
from utuning_search.training.workers import Lost


@dataclass(frozen=True)
class Progress:
    """One more training is finished.

    Attributes:
        finalist: Whose.
        outcome: What it gave.
        done: Trainings finished so far, those of earlier calls included.
        total: Trainings in all; None where time decides.
    """

    finalist: Finalist
    outcome: Outcome
    done: int
    total: int | None


@dataclass(frozen=True)
class _Job:
    """The trainings that one process does: of one design, with some of the seeds that are missing."""

    task: Task
    recipe: Recipe
    design: Design
    seeds: tuple[int, ...]
    augmented: bool
    study_seed: int
    runtimes: tuple[Runtime, ...]  # by slot
    images: Path  # decoded ones, see FinalData.save
    measures: tuple[Measure, ...]


@dataclass(frozen=True)
class _Trained:
    """What a process sends of a training: weights of the one that exports take, predictions unless it failed."""

    outcome: Outcome
    weights: bytes = b""
    predictions: Classes | None = None
    confidences: npt.NDArray[np.float32] | None = None


def confirm(
    study: Study,
    *,
    top: int = TOP,
    trials: Sequence[int] = (),
    seeds: int = SEEDS,
    presets: Sequence[str] = (),
    epochs: int | None = None,
    augment: bool = True,
    workers: int | None = None,
    device: str | None = None,
    data_dir: str | None = None,
    rounds: Rounds | None = None,
    metric: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    callbacks: Sequence[Callback] = (),
    on_trouble: Callable[[str], None] = warn,
) -> Confirmation:
    """Train a study's front, and the known methods it is read against, in earnest, and measure them on the test split.

    Args:
        study: With at least one complete trial.
        top: Designs of the front at most; see `finalists.choose`.
        trials: Numbers of the study's trials to train, instead of `top` of its front and the strongest known methods.
        seeds: Trainings a design; with `rounds` at most.
        presets: Known methods besides the study's strongest, such as "adapter-plus:rank=4".
        epochs: Of the schedule; None takes the task's.
        augment: Whether training images are changed at random; see `training.augmentation`.
        workers: Processes, each for one design; None for one a core or GPU, 0 to train in this process.
        device: "auto", "cpu", "cuda" or "mps"; None for the study's own.
        data_dir: Where relative data paths are looked up; None for the study's own.
        rounds: What fits into a time, for the designs of `trials`; None trains every design with all seeds.
        metric: What finals are judged by, "accuracy", "balanced_accuracy" or "macro_f1"; None for what the study calls
            a design best by, or accuracy where that is none of these.
        on_progress: Called after each training, in this process.
        callbacks: Told of each training, in this process; what they raise does not end the confirmation.
        on_trouble: Called with one line where a callback raises.

    Raises:
        InputError: A number out of range, or an unknown preset.
        StudyError: No complete trial, other images than the study's or than those of earlier finals, another
            confirmation on its way, or processes that were killed; what was finished is kept.
        DataError: No test images, or unreadable ones.
    """
    _check(top=top, seeds=seeds, epochs=epochs, workers=workers)
    metric = metrics.metric_of(study.objectives) if metric is None else metrics.checked(metric)
    records = study.trials()
    if not study.front():
        todo = f"Let it run on: utuning-search resume {named(study.folder)}"
        raise StudyError(f"study '{study.name}'", "it has a complete trial to confirm", "none", todo)
    finalists = select(
        records,
        study.spec,
        study.shape,
        len(study.classes),
        top=top,
        presets=presets,
        trials=trials,
        metric=metric,
    )
    recipe = _recipe(study.spec.task.recipe, epochs)
    kind = resolve_device(device or study.local.get("device", "auto"))
    data_dir = data_dir or study.local.get("data_dir")
    runtime = Runtime(kind, study.spec.precision, data_dir)
    store = Store.beside(study.folder / FINALS / IMAGES)
    with removed(store), ExitStack() as alone:
        backbone, preprocessing = _checked(study, data_dir)
        place = data_path(study.spec.task, data_dir, study.folder)
        data = load_final_data(study.spec.task.data, preprocessing, place, permit=TestPermit(), store=store)
        make_folder(study.folder / FINALS)
        alone.enter_context(locked(study.folder / FINALS, study.name, "confirms"))
        sweep(study.folder / FINALS, store)
        kept = kept_outcomes(study, finalists, recipe.epochs, augment, seeds, data.digest)
        keep_labels(study.folder, data.test.labels.numpy())
        count = default_workers(kind) if workers is None else workers
        by_key = {f.design.key: f for f in finalists}
        wanted = metrics.measured(study.objectives, metric)
        each = runtimes(runtime, count)

        def job(key: str, *missing: int) -> _Job:
            design = by_key[key].design
            return _Job(study.spec.task, recipe, design, missing, augment, study.spec.seed, each, store.folder, wanted)

        missing = {key: tuple(s for s in range(seeds) if (key, s) not in kept) for key in by_key}
        jobs: Iterator[_Job] = (job(key, *found) for key, found in missing.items() if found)
        if rounds is not None:
            jobs = (job(key, seed) for key, seed in rounds.turns(kept, seeds))
        work: Callable[[int, _Job], Iterator[_Trained]] = _in_process
        if count == 0:
            mirrored = study.spec.task.data.views > 1
            trainer = FullTrainer(backbone, preprocessing, data, runtime, mirrored=mirrored, measures=wanted)
            work = partial(_train, trainer, data.digest, len(data.test.labels), data.decoding)
        else:  # not every process decodes them again
            data.save(store.folder)
        images, digest, notes = len(data.test.labels), data.digest, data.notes
        del backbone, data
        total = len(finalists) * seeds if rounds is None else None
        lost: dict[str, str] = {}
        telling = Telling(callbacks, on_trouble)
        telling.start(study.started([_final(by_key[o.key], o) for o in kept.values()]))
        begun: list[tuple[_Job, float]] = []
        try:
            for index, found in run_each(work, _timed(jobs, begun), count):
                begun_job, since = begun[index]
                if isinstance(found, Lost):
                    lost[str(begun_job.design)] = found.reason
                    continue
                outcome = found.outcome
                check_data(study, outcome, digest)
                if found.predictions is not None:
                    keep_predictions(study.folder, outcome, found.predictions)
                if found.confidences is not None:
                    keep_confidences(study.folder, outcome, found.confidences)
                keep_outcome(study.folder, outcome, found.weights)
                kept[outcome.key, outcome.seed] = outcome
                if rounds is not None:
                    rounds.took(outcome.key, time.monotonic() - since)
                telling.final(_final(by_key[outcome.key], outcome))
                if on_progress is not None:
                    on_progress(Progress(by_key[outcome.key], outcome, len(kept), total))
        finally:
            telling.end()
    if lost:
        design, reason = next(iter(lost.items()))
        todo = "What was finished is kept; try again, with fewer --workers if memory was short."
        raise StudyError("finalists", "each one is trained to its end", f"{len(lost)} not; {design}: {reason}", todo)
    finals, comparisons = judge(finals_of(study, finalists, kept), metric)
    return Confirmation(finals, recipe.epochs, augment, images, tuple(study.classes), comparisons, notes, metric)


def _checked(study: Study, data_dir: str | None) -> tuple[nn.Module, Preprocessing]:
    """The study's backbone, once it is known that its images are those it was created with."""
    store = images_in(study.folder / FINALS, study.spec.task)
    with removed(store):
        context = load_search(study.spec.task, data_dir, store=store, home=study.folder)
        found = context.data.digest
    if found != study.spec.data:
        todo = "Give the data it was created with, or start a new study."
        raise StudyError(f"study '{study.name}', data", f"its digest is {study.spec.data}", found, todo)
    return context.backbone, context.preprocessing


def look_ahead(task: Task, context: SearchContext, data_dir: str | None = None) -> tuple[str, ...]:
    """Whether a confirmation will find what it needs, asked before the search: test images, their classes and names.

    Args:
        task: To be searched on.
        context: The task, loaded.
        data_dir: Where relative data paths are looked up.

    Returns:
        What is odd about the test images, a line each.

    Raises:
        DataError, InputError: A confirmation would be refused, and why.
    """
    path = context.data_path or Runtime(data_dir=data_dir).data_path
    return check_test_data(task.data, context.preprocessing, context.data, path, permit=TestPermit())


def _final(finalist: Finalist, outcome: Outcome) -> FinalRecord:
    """A training as callbacks see it."""
    return FinalRecord(
        name=finalist.name,
        key=outcome.key,
        design=finalist.design,
        trial=finalist.trial,
        seed=outcome.seed,
        epochs=outcome.epochs,
        augmented=outcome.augmented,
        parameters=finalist.parameters,
        values={} if outcome.accuracy is None else {"accuracy": outcome.accuracy, **outcome.others},
        reason=outcome.reason,
    )


def _timed(jobs: Iterator[_Job], begun: list[tuple[_Job, float]]) -> Iterator[_Job]:
    """The jobs, each noted with the time when it was asked for."""
    for job in jobs:
        begun.append((job, time.monotonic()))
        yield job


def _check(*, top: int, seeds: int, epochs: int | None, workers: int | None) -> None:
    for option, value in (("--top", top), ("--seeds", seeds), ("--epochs", epochs)):
        if value is not None and value < 1:
            raise InputError(option, "it is at least 1", value)
    if workers is not None and workers < 0:
        raise InputError("--workers", "it is at least 1, or 0 to train in this process", workers)


def _recipe(recipe: Recipe, epochs: int | None) -> Recipe:
    """The task's recipe over so many epochs; a warm-up that does not fit takes half of them."""
    if epochs is None:
        return replace(recipe, rungs=())
    warmup = recipe.warmup_epochs if recipe.warmup_epochs < epochs else epochs / 2
    return replace(recipe, epochs=epochs, rungs=(), warmup_epochs=warmup)


def _in_process(slot: int, job: _Job) -> Iterator[_Trained]:
    """What a process of its own does: load the task, train."""
    runtime = job.runtimes[slot]
    backbone, preprocessing = load_backbone(job.task, runtime.data_dir)
    data = FinalData.restore(job.images, permit=TestPermit())
    mirrored = job.task.data.views > 1
    trainer = FullTrainer(backbone, preprocessing, data, runtime, mirrored=mirrored, measures=job.measures)
    yield from _train(trainer, data.digest, len(data.test.labels), data.decoding, slot, job)


def _train(
    trainer: FullTrainer, digest: str, images: int, decoding: Decoding, slot: int, job: _Job
) -> Iterator[_Trained]:
    """Each training of a job."""
    runtime = job.runtimes[slot]
    for seed in job.seeds:
        about = Outcome(
            key=job.design.key,
            design=job.design.to_dict(),
            seed=seed,
            epochs=job.recipe.epochs,
            augmented=job.augmented,
            data=digest,
            test_images=images,
            device=runtime.device,
            precision=runtime.precision,
            decoding=decoding.to_dict(),
        )
        own = derive_seed(job.study_seed, f"final {job.design.key} {seed}")
        try:
            trained = trainer.run(job.design, job.recipe, own, augmented=job.augmented)
        except TrainingError as error:  # it would fail again
            yield _Trained(replace(about, reason=str(error)))
        else:
            names = {f.name for f in fields(trained)} & {f.name for f in fields(about)}
            said = note(job.recipe.batch_size, trained.accumulation)
            outcome = replace(about, **{name: getattr(trained, name) for name in names}, reason=said)
            weights = trained.weights if seed == EXPORTED_SEED else b""
            sure = None if trained.confidences is None else trained.confidences.numpy()
            yield _Trained(outcome, weights, trained.predictions.numpy(), sure)
