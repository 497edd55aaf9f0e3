"""Train one design as a user would: all training images, random augmentation, the whole schedule; then test it.

What it finds is a function of (task, design, seed) and the device; only times and memory are measured anew.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from utuning_search.backbones.merge import merge
from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.tuned_model import IMAGES, TunedModel
from utuning_search.data.decoded import FinalData
from utuning_search.designs.design import Design
from utuning_search.training import augmentation
from utuning_search.training.loop import accuracy_of, predict
from utuning_search.training.measurement import Measure
from utuning_search.training.measuring import PeakMemory, fastest, threads, wait_for
from utuning_search.training.recipe import Recipe
from utuning_search.training.runtime import Runtime
from utuning_search.training.trainer import Trainer
from utuning_search.training.transfer import to_device
from utuning_search.training.weights import check_images

TIMED_IMAGES, FEWEST_ROUNDS, MOST_ROUNDS, TIMED_SECONDS = 16, 5, 60, 2.0


@dataclass(frozen=True)
class Trained:
    """One design trained with one seed.

    Attributes:
        accuracy: On the test split after the last epoch, in fp32, in [0, 1].
        seconds: Of training, without measuring.
        memory_mb: Most memory that training needed besides backbone, images and libraries, in 10^6 bytes; None
            where an earlier training in this process needed more, so that it cannot be told.
        inference_ratio: Time an image over that of the bare backbone with a head; 1 is no extra cost.
        merged_ratio: The same after merging.
        weights: See `weights.pack`.
        predictions: Number of the most likely class of each test image, int64 (images,), on the CPU.
        accumulation: In how many parts a batch was taken, because it did not fit into memory.
        others: What was measured on the test split besides accuracy, by name.
        confidences: Probability of the class that was predicted for each test image, float32 (images,), on the CPU.
    """

    accuracy: float
    seconds: float
    memory_mb: float | None
    inference_ratio: float
    merged_ratio: float
    weights: bytes
    predictions: Tensor
    accumulation: int = 1
    others: Mapping[str, float] = field(default_factory=dict)
    confidences: Tensor | None = None


class FullTrainer(Trainer):
    """Trains designs on a backbone and all images of a task.

    Args:
        backbone: Moved to the runtime's device.
        preprocessing: Of the images.
        data: Training and test images.
        runtime: Where and in which precision.
        mirrored: Whether augmentation takes mirror images too; a task's `views` say so.
        measures: What is measured besides accuracy.
        outliers: Unknown images, uint8 (images, channels, size, size), for measures that take some.
    """

    def __init__(
        self,
        backbone: nn.Module,
        preprocessing: Preprocessing,
        data: FinalData,
        runtime: Runtime,
        *,
        mirrored: bool,
        measures: Sequence[Measure] = (),
        outliers: Tensor | None = None,
    ) -> None:
        super().__init__(backbone, preprocessing, len(data.classes), runtime, measures)
        self._mirrored = mirrored
        self._outliers = None if outliers is None else to_device(outliers, runtime.device)
        self._train, self._held_out = self._examples(data.train), self._examples(data.test)

    def run(self, design: Design, recipe: Recipe, seed: int, *, augmented: bool = True) -> Trained:
        """Train a design and measure it once, after the last epoch.

        Raises:
            TrainingError: The loss is not finite.
        """
        size, device = self._preprocessing.image_size, self.runtime.device
        augment = augmentation.suitable(size, seed, mirrored=self._mirrored) if augmented else None
        with threads(self.runtime.threads):
            model = self._fresh(design, seed)
            memory, started = PeakMemory(device), time.monotonic()
            blocks, normalise = self._stand_ins(self._read(model)), self._preprocessing.normalise
            forward = partial(model.forward_from, start=IMAGES, blocks=blocks)
            training = self._training(model, lambda x: forward(normalise(x)), [self._train], recipe, seed, augment)
            *_, last = training.epochs()
            wait_for(device)
            seconds, memory_mb = time.monotonic() - started, memory.grown()
            logits, weights = self._finished(model, self._held_out.inputs)
            labels = self._held_out.labels
            unknown = None if self._outliers is None else partial(predict, self._whole(model), self._outliers)
            return Trained(
                accuracy_of(logits, labels),
                seconds,
                memory_mb,
                *self._costs(model),
                weights,
                logits.argmax(dim=1).cpu(),
                last.accumulation,
                self._others(model, logits, labels, unknown),
                logits.softmax(dim=1).amax(dim=1).cpu(),
            )

    @torch.no_grad()
    def _costs(self, model: TunedModel) -> tuple[float, float]:
        """Time an image, of the design and of it merged, over that of the bare backbone with a head."""
        images = self._preprocessing.normalise(self._held_out.inputs[:TIMED_IMAGES])
        models = (self._fresh(Design(), 0).eval(), model, merge(model).eval())
        bare, tuned, merged = fastest(
            [partial(m, images) for m in models],
            self.runtime.device,
            turns=MOST_ROUNDS - 1,
            fewest=FEWEST_ROUNDS,
            seconds=TIMED_SECONDS,
        )
        return tuned / bare, merged / bare

    def _checked_images(self) -> Tensor:
        return check_images(self._preprocessing).to(self.runtime.device)
