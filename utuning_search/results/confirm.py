"""Confirm a study's front: its designs trained on all training images, with several seeds, and tested.

A finalist's outcome is a function of (spec, design, seed), and is kept as soon as it is there; so a confirmation killed
at any moment and run again ends with the same numbers.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from utuning_search.common.errors import InputError, StudyError
from utuning_search.common.files import make_folder
from utuning_search.common.locks import locked
from utuning_search.data.decoded import Store
from utuning_search.results import metrics
from utuning_search.results.defaults import SEEDS, TOP
from utuning_search.results.final_training import Job
from utuning_search.results.finalists import Finalist, select
from utuning_search.results.finals import Confirmation, judge
from utuning_search.results.kept import check_data, finals_of, kept_outcomes
from utuning_search.results.outcomes import FINALS, Outcome
from utuning_search.results.predictions import keep_labels
from utuning_search.results.prepared import Prepared, keep, prepare, recipe_of
from utuning_search.results.rounds import Rounds
from utuning_search.results.shared_finals import fetch_finals
from utuning_search.results.spread import Piece, Trainings, is_spread, spread
from utuning_search.search.callbacks.base import Callback, FinalRecord
from utuning_search.search.callbacks.telling import Telling, warn
from utuning_search.search.layout import IMAGES, named, removed, sweep
from utuning_search.search.study import Study
from utuning_search.training.run_each import run_each
from utuning_search.training.runtime import Runtime, default_workers, resolve_device
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
    recipe = recipe_of(study.spec.task.recipe, epochs)
    kind = resolve_device(device or study.local.get("device", "auto"))
    data_dir = data_dir or study.local.get("data_dir")
    runtime = Runtime(kind, study.spec.precision, data_dir)
    store = Store.beside(study.folder / FINALS / IMAGES)
    with removed(store), ExitStack() as alone:
        count = default_workers(kind) if workers is None else workers
        wanted = metrics.measured(study.objectives, metric)
        prepared = prepare(study, runtime, count, store, wanted)
        make_folder(study.folder / FINALS)
        alone.enter_context(locked(study.folder / FINALS, study.name, "confirms"))
        sweep(study.folder / FINALS, store)
        fetch_finals(study)
        kept = kept_outcomes(study, finalists, recipe.epochs, augment, seeds, prepared.digest)
        keep_labels(study.folder, prepared.labels)
        by_key = {f.design.key: f for f in finalists}

        def job(key: str, *missing: int) -> Job:
            return prepared.job(study, recipe, by_key[key].design, missing, augment)

        missing = {key: tuple(s for s in range(seeds) if (key, s) not in kept) for key in by_key}
        trainings: Trainings
        if rounds is None and is_spread(study):
            pieces = [
                Piece(by_key[key].design, seed, recipe.epochs, augment, metric, prepared.digest)
                for key, found in missing.items()
                for seed in found
            ]
            trainings = spread(study, pieces, prepared)
        else:
            jobs: Iterator[Job] = (job(key, *found) for key, found in missing.items() if found)
            if rounds is not None:
                jobs = (job(key, seed) for key, seed in rounds.turns(kept, seeds))
            trainings = _timed(prepared, jobs)
        total = len(finalists) * seeds if rounds is None else None
        lost: dict[str, str] = {}
        telling = Telling(callbacks, on_trouble)
        telling.start(study.started([_final(by_key[o.key], o) for o in kept.values()]))
        try:
            with closing(trainings):  # what is claimed is given back
                for begun, since, found in trainings:
                    if isinstance(found, Lost):
                        lost[str(begun.design)] = found.reason
                        continue
                    outcome = found.outcome
                    check_data(study, outcome, prepared.digest)
                    keep(study, found)
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
    images, notes = len(prepared.labels), prepared.notes
    return Confirmation(finals, recipe.epochs, augment, images, tuple(study.classes), comparisons, notes, metric)


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


def _timed(prepared: Prepared, jobs: Iterator[Job]) -> Trainings:
    """What each job gives, with the time when it was asked for."""
    begun: list[tuple[Job, float]] = []

    def noted() -> Iterator[Job]:
        for job in jobs:
            begun.append((job, time.monotonic()))
            yield job

    for index, found in run_each(prepared.work, noted(), prepared.count):
        yield *begun[index], found


def _check(*, top: int, seeds: int, epochs: int | None, workers: int | None) -> None:
    for option, value in (("--top", top), ("--seeds", seeds), ("--epochs", epochs)):
        if value is not None and value < 1:
            raise InputError(option, "it is at least 1", value)
    if workers is not None and workers < 0:
        raise InputError("--workers", "it is at least 1, or 0 to train in this process", workers)
