"""Confirm a study's front: its designs trained on all training images, with several seeds, and tested.

The only module that reads the test split. A finalist's outcome is a function of (spec, design, seed), and is kept
as soon as it is there; so a confirmation killed at any moment and run again ends with the same numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from utuning_search.common.errors import InputError, StudyError, TrainingError
from utuning_search.common.files import make_folder, write_atomically
from utuning_search.common.locks import locked
from utuning_search.common.seeds import derive_seed
from utuning_search.data.loading import FinalData, load_final_data
from utuning_search.data.permit import TestPermit
from utuning_search.designs.design import Design
from utuning_search.results.defaults import SEEDS, TOP
from utuning_search.results.finalists import Finalist, select
from utuning_search.results.finals import Confirmation, Final, judge
from utuning_search.results.outcomes import EXPORTED_SEED, FINALS, Outcome, keep_outcome, outcome_file, read_outcome
from utuning_search.search.layout import IMAGES
from utuning_search.search.objectives.registry import measures
from utuning_search.search.study import Study
from utuning_search.training.context import load_backbone, load_search
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
        total: Trainings in all.
    """

    finalist: Finalist
    outcome: Outcome
    done: int
    total: int


@dataclass(frozen=True)
class _Job:
    """The trainings that one process does: of one design, with the seeds that are missing."""

    task: Task
    recipe: Recipe
    design: Design
    seeds: tuple[int, ...]
    augmented: bool
    study_seed: int
    runtimes: tuple[Runtime, ...]  # by slot
    images: Path  # decoded ones, see FinalData.save
    measures: tuple[Measure, ...]


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
    on_progress: Callable[[Progress], None] | None = None,
) -> Confirmation:
    """Train a study's front, and the known methods it is read against, in earnest, and measure them on the test split.

    Args:
        study: With at least one complete trial.
        top: Designs of the front at most; see `finalists.choose`.
        trials: Numbers of the study's trials to train, instead of `top` of its front and the strongest known methods.
        seeds: Trainings a design.
        presets: Known methods besides the study's strongest, such as "adapter-plus:rank=4".
        epochs: Of the schedule; None takes the task's.
        augment: Whether training images are changed at random; see `training.augmentation`.
        workers: Processes, each for one design; None for one a core or GPU, 0 to train in this process.
        device: "auto", "cpu", "cuda" or "mps"; None for the study's own.
        data_dir: Where relative data paths are looked up; None for the study's own.
        on_progress: Called after each training, in this process.

    Raises:
        InputError: A number out of range, or an unknown preset.
        StudyError: No complete trial, other images than the study's or than those of earlier finals, another
            confirmation on its way, or processes that were killed; what was finished is kept.
        DataError: No test images, or unreadable ones.
    """
    _check(top=top, seeds=seeds, epochs=epochs, workers=workers)
    records = study.trials()
    if not study.front():
        todo = f"Let it run on: utuning-search resume {study.name}"
        raise StudyError(f"study '{study.name}'", "it has a complete trial to confirm", "none", todo)
    finalists = select(
        records,
        study.spec,
        study.shape,
        len(study.classes),
        top=top,
        presets=presets,
        trials=trials,
    )
    recipe = _recipe(study.spec.task.recipe, epochs)
    kind = resolve_device(device or study.local.get("device", "auto"))
    data_dir = data_dir or study.local.get("data_dir")
    runtime = Runtime(kind, study.spec.precision, data_dir)
    context = load_search(study.spec.task, data_dir)
    if context.data.digest != study.spec.data:
        todo = "Give the data it was created with, or start a new study."
        raise StudyError(f"study '{study.name}', data", f"its digest is {study.spec.data}", context.data.digest, todo)
    data = load_final_data(study.spec.task.data, context.preprocessing, runtime.data_path, permit=TestPermit())
    make_folder(study.folder / FINALS)
    with locked(study.folder / FINALS, study.name, "confirms"):
        kept = _kept(study, finalists, recipe.epochs, augment, seeds, data.digest)
        count = default_workers(kind) if workers is None else workers
        decoded = study.folder / FINALS / IMAGES
        jobs = [
            _Job(
                study.spec.task,
                recipe,
                f.design,
                missing,
                augment,
                study.spec.seed,
                runtimes(runtime, count),
                decoded,
                measures(study.objectives),
            )
            for f in finalists
            if (missing := tuple(s for s in range(seeds) if (f.design.key, s) not in kept))
        ]
        work: Callable[[int, _Job], Iterator[tuple[Outcome, bytes]]] = _in_process
        if count == 0:
            mirrored, wanted = study.spec.task.data.views > 1, measures(study.objectives)
            trainer = FullTrainer(
                context.backbone, context.preprocessing, data, runtime, mirrored=mirrored, measures=wanted
            )
            work = partial(_train, trainer, data.digest, len(data.test.labels))
        elif jobs:  # not every process decodes them again
            write_atomically(decoded, data.save)
        images, digest = len(data.test.labels), data.digest
        del context, data
        by_key = {f.design.key: f for f in finalists}
        lost: dict[str, str] = {}
        try:
            for index, found in run_each(work, jobs, count):
                if isinstance(found, Lost):
                    lost[str(jobs[index].design)] = found.reason
                    continue
                outcome, weights = found
                _check_data(study, outcome, digest)
                keep_outcome(study.folder, outcome, weights)
                kept[outcome.key, outcome.seed] = outcome
                if on_progress is not None:
                    on_progress(Progress(by_key[outcome.key], outcome, len(kept), len(finalists) * seeds))
        finally:
            with suppress(OSError):
                decoded.unlink(missing_ok=True)
    if lost:
        design, reason = next(iter(lost.items()))
        todo = "What was finished is kept; try again, with fewer --workers if memory was short."
        raise StudyError("finalists", "each one is trained to its end", f"{len(lost)} not; {design}: {reason}", todo)
    finals = [Final(f, tuple(kept[f.design.key, s] for s in range(seeds))) for f in finalists]
    return Confirmation(judge(finals), seeds, recipe.epochs, augment, images)


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


def _kept(
    study: Study, finalists: list[Finalist], epochs: int, augment: bool, seeds: int, digest: str
) -> dict[tuple[str, int], Outcome]:
    """Outcomes of earlier calls, by key and seed."""
    found = {}
    for finalist in finalists:
        for seed in range(seeds):
            path = outcome_file(study.folder, finalist.design.key, epochs, augment, seed)
            if path.exists():
                outcome = read_outcome(path)
                _check_data(study, outcome, digest)
                found[finalist.design.key, seed] = outcome
    return found


def _check_data(study: Study, outcome: Outcome, digest: str) -> None:
    if outcome.data != digest:
        todo = f"Put the images back as they were, or remove {study.folder / FINALS} to train all finalists again."
        rule = f"the digest of training and test images is {outcome.data}, as when finalists were trained"
        raise StudyError(f"study '{study.name}', data", rule, digest, todo)


def _in_process(slot: int, job: _Job) -> Iterator[tuple[Outcome, bytes]]:
    """What a process of its own does: load the task, train."""
    runtime = job.runtimes[slot]
    backbone, preprocessing = load_backbone(job.task, runtime.data_dir)
    data = FinalData.restore(job.images, permit=TestPermit())
    mirrored = job.task.data.views > 1
    trainer = FullTrainer(backbone, preprocessing, data, runtime, mirrored=mirrored, measures=job.measures)
    yield from _train(trainer, data.digest, len(data.test.labels), slot, job)


def _train(trainer: FullTrainer, digest: str, images: int, slot: int, job: _Job) -> Iterator[tuple[Outcome, bytes]]:
    """Each training's outcome and, for the one that exports take, its weights."""
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
        )
        own = derive_seed(job.study_seed, f"final {job.design.key} {seed}")
        try:
            trained = trainer.run(job.design, job.recipe, own, augmented=job.augmented)
        except TrainingError as error:  # it would fail again
            yield replace(about, reason=str(error)), b""
        else:
            measured = {name: value for name, value in asdict(trained).items() if name != "weights"}
            said = note(job.recipe.batch_size, trained.accumulation)
            yield replace(about, **measured, reason=said), trained.weights if seed == EXPORTED_SEED else b""
