"""The trainings of a confirmation, as a process does them: each a function of (spec, design, seed)."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.common.errors import TrainingError
from utuning_search.common.seeds import derive_seed
from utuning_search.data.decoded import FinalData
from utuning_search.data.decoding import Decoding
from utuning_search.designs.design import Design
from utuning_search.results.outcomes import Outcome
from utuning_search.results.permitted import restored
from utuning_search.results.predictions import Classes
from utuning_search.training.context import load_backbone, outliers_of
from utuning_search.training.full import FullTrainer
from utuning_search.training.measurement import Measure
from utuning_search.training.out_of_memory import note
from utuning_search.training.recipe import Recipe
from utuning_search.training.runtime import Runtime
from utuning_search.training.task import Task


@dataclass(frozen=True)
class Job:
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
class Trained:
    """What a process sends of a training: weights and predictions, unless it failed."""

    outcome: Outcome
    weights: bytes = b""
    predictions: Classes | None = None
    confidences: npt.NDArray[np.float32] | None = None


def full_trainer(
    task: Task,
    backbone: nn.Module,
    preprocessing: Preprocessing,
    data: FinalData,
    runtime: Runtime,
    measures: tuple[Measure, ...],
) -> FullTrainer:
    """What trains finals of a task, with the unknown images that its finals are measured against, if it names some."""
    outliers = outliers_of(task, preprocessing, data.decoding, runtime.data_dir, finals=True)
    mirrored = task.data.views > 1
    return FullTrainer(backbone, preprocessing, data, runtime, mirrored=mirrored, measures=measures, outliers=outliers)


def in_process(slot: int, job: Job) -> Iterator[Trained]:
    """What a process of its own does: load the task, train."""
    runtime = job.runtimes[slot]
    backbone, preprocessing = load_backbone(job.task, runtime.data_dir)
    data = restored(job.images)
    trainer = full_trainer(job.task, backbone, preprocessing, data, runtime, job.measures)
    yield from train(trainer, data.digest, len(data.test.labels), data.decoding, slot, job)


def train(trainer: FullTrainer, digest: str, images: int, decoding: Decoding, slot: int, job: Job) -> Iterator[Trained]:
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
            yield Trained(replace(about, reason=str(error)))
        else:
            names = {f.name for f in fields(trained)} & {f.name for f in fields(about)}
            said = note(job.recipe.batch_size, trained.accumulation)
            outcome = replace(about, **{name: getattr(trained, name) for name in names}, reason=said)
            sure = None if trained.confidences is None else trained.confidences.numpy()
            yield Trained(outcome, trained.weights, trained.predictions.numpy(), sure)
