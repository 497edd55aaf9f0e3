"""What finals of a study are trained with on this machine: its images, its backbone, and what trains them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from utuning_search.data.decoded import Store
from utuning_search.designs.design import Design
from utuning_search.results.final_training import Job, Trained, full_trainer, in_process, train
from utuning_search.results.outcomes import keep_outcome
from utuning_search.results.permitted import final_data
from utuning_search.results.predictions import Classes, keep_confidences, keep_predictions
from utuning_search.results.shared_finals import send_finals
from utuning_search.results.study_data import checked_backbone
from utuning_search.search.study import Study
from utuning_search.training.measurement import Measure
from utuning_search.training.recipe import Recipe
from utuning_search.training.runtime import Runtime, runtimes


@dataclass(frozen=True)
class Prepared:
    """All that trainings of finals share.

    Attributes:
        work: Trains a job; see `run_each`.
        count: Processes; 0 trains in this one.
        runtimes: One each.
        images: Folder of the decoded ones.
        measures: What is measured of each.
        digest: Of training and test images.
        labels: Of the test images.
        notes: On the images, a line each.
    """

    work: Callable[[int, Job], Iterator[Trained]]
    count: int
    runtimes: tuple[Runtime, ...]
    images: Path
    measures: tuple[Measure, ...]
    digest: str
    labels: Classes
    notes: tuple[str, ...]

    def job(self, study: Study, recipe: Recipe, design: Design, seeds: tuple[int, ...], augmented: bool) -> Job:
        spec = study.spec
        return Job(spec.task, recipe, design, seeds, augmented, spec.seed, self.runtimes, self.images, self.measures)


def prepare(study: Study, runtime: Runtime, count: int, store: Store, measures: tuple[Measure, ...]) -> Prepared:
    """Load a study's images, its test images too, and its backbone.

    Args:
        study: Whose search is over.
        runtime: Where and in which precision.
        count: Processes; 0 to train in this one.
        store: Where images are decoded to; the caller removes it.
        measures: What is measured of each training.

    Raises:
        StudyError: The images are not the study's, or its files cannot be put into its store from here.
        DataError: There are no test images, or unreadable ones.
    """
    if study.artifacts is not None:
        study.artifacts.check()
    backbone, preprocessing = checked_backbone(study, runtime.data_dir)
    data = final_data(study, preprocessing, runtime.data_dir, store)
    work: Callable[[int, Job], Iterator[Trained]] = in_process
    if count == 0:
        trainer = full_trainer(study.spec.task, backbone, preprocessing, data, runtime, measures)
        work = partial(train, trainer, data.digest, len(data.test.labels), data.decoding)
    else:  # not every process decodes them again
        data.save(store.folder)
    each = runtimes(runtime, count)
    return Prepared(work, count, each, store.folder, measures, data.digest, data.test.labels.numpy(), data.notes)


def keep(study: Study, found: Trained) -> None:
    """Keep a training in the study's folder, its outcome last, and where all its machines find it."""
    if found.predictions is not None:
        keep_predictions(study.folder, found.outcome, found.predictions)
    if found.confidences is not None:
        keep_confidences(study.folder, found.outcome, found.confidences)
    keep_outcome(study.folder, found.outcome, found.weights)
    send_finals(study)


def recipe_of(recipe: Recipe, epochs: int | None) -> Recipe:
    """The task's recipe over so many epochs; a warm-up that does not fit takes half of them."""
    if epochs is None:
        return replace(recipe, rungs=())
    warmup = recipe.warmup_epochs if recipe.warmup_epochs < epochs else epochs / 2
    return replace(recipe, epochs=epochs, rungs=(), warmup_epochs=warmup)
