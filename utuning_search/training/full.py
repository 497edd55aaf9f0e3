"""Train one design as a user would: all training images, random augmentation, the whole schedule; then test it.

What it finds is a function of (task, design, seed) and the device; only times and memory are measured anew.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.backbones.merge import merge
from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.data.loading import FinalData
from utuning_search.designs.design import Design
from utuning_search.training.loop import Examples, measure, predict, train
from utuning_search.training.out_of_memory import to_device
from utuning_search.training.proxy import CHECK, CHECKED_IMAGES
from utuning_search.training.recipe import Recipe
from utuning_search.training.runtime import Runtime

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]  # what cannot be told there is left out

SMALLEST_AUGMENTED = 16  # pixels; a shift by one of 8 pixels cost 3 to 8 points of test accuracy on digits
MARGIN = 8  # a crop is taken after padding by 1/8 of the size
TIMED_IMAGES, FEWEST_ROUNDS, MOST_ROUNDS, TIMED_SECONDS = 16, 5, 60, 2.0
MB = 1e6


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
        weights: A safetensors file's bytes: tuners and head, and as `check.logits` the fp32 logits of `check_images`.
        accumulation: In how many parts a batch was taken, because it did not fit into memory.
    """

    accuracy: float
    seconds: float
    memory_mb: float | None
    inference_ratio: float
    merged_ratio: float
    weights: bytes
    accumulation: int = 1


class FullTrainer:
    """Trains designs on a backbone and all images of a task.

    Args:
        backbone: Moved to the runtime's device.
        preprocessing: Of the images.
        data: Training and test images.
        runtime: Where and in which precision.
        mirrored: Whether augmentation takes mirror images too; a task's `views` say so.
    """

    def __init__(
        self,
        backbone: nn.Module,
        preprocessing: Preprocessing,
        data: FinalData,
        runtime: Runtime,
        *,
        mirrored: bool,
    ) -> None:
        self._mirrored = mirrored
        self._backbone, self._preprocessing, self._runtime = backbone.to(runtime.device), preprocessing, runtime
        if runtime.device == "cpu":
            adapter_of(self._backbone).unfuse_attention()
        self._classes = len(data.classes)
        splits = (data.train, data.test)
        # They stay uint8, a quarter of the memory, and are normalised a batch at a time.
        self._train, self._held_out = (
            Examples(to_device(s.images, runtime.device), to_device(s.labels, runtime.device)) for s in splits
        )

    def run(self, design: Design, recipe: Recipe, seed: int, *, augmented: bool = True) -> Trained:
        """Train a design and measure it once, after the last epoch.

        Raises:
            TrainingError: The loss is not finite.
        """
        with _threads(self._runtime.threads):
            model = self._fresh(design, seed)
            memory = _Memory(self._runtime.device)
            started = time.monotonic()
            reports = train(
                lambda images: model(self._preprocessing.normalise(images)),
                model.parameters_trained(),
                [self._train],
                Examples(self._train.inputs[:1], self._train.labels[:1]),  # what is reported of it is not used
                replace(recipe, rungs=()),
                learning_rate=design.learning_rate or recipe.learning_rate,
                seed=seed,
                autocast=self._runtime.autocast(),
                augment=self._augmentation(seed) if augmented else None,
            )
            (report,) = reports
            _wait_for(self._runtime.device)
            seconds, memory_mb = time.monotonic() - started, memory.grown()
            model.eval()
            accuracy = measure(lambda images: model(self._preprocessing.normalise(images)), self._held_out)
            weights = self._weights(model)
            return Trained(accuracy, seconds, memory_mb, *self._costs(model), weights, report.accumulation)

    def _weights(self, model: TunedModel) -> bytes:
        images = self._preprocessing.normalise(check_images(self._preprocessing).to(self._runtime.device))
        tensors = {k: v.cpu().contiguous() for k, v in model.tuner_state_dict().items()}
        return safetensors.torch.save({**tensors, CHECK: predict(model, images).cpu()})

    def _augmentation(self, seed: int) -> Callable[[Tensor], Tensor] | None:
        size = self._preprocessing.image_size
        return augmentation(size, seed, mirrored=self._mirrored) if size >= SMALLEST_AUGMENTED else None

    def _fresh(self, design: Design, seed: int) -> TunedModel:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = TunedModel(self._backbone, design, self._classes)
        model.to(self._runtime.device).train()
        model.backbone.eval()  # frozen operations are functions
        return model

    @torch.no_grad()
    def _costs(self, model: TunedModel) -> tuple[float, float]:
        """Time an image, of the design and of it merged, over that of the bare backbone with a head.

        The three take turns, and the fastest of each counts: what else the machine does at the time hits all alike.
        """
        images = self._preprocessing.normalise(self._held_out.inputs[:TIMED_IMAGES])
        models = (self._fresh(Design(), 0).eval(), model, merge(model).eval())
        best = [math.inf] * len(models)
        began = time.perf_counter()
        for turn in range(MOST_ROUNDS):
            for i in [(turn + k) % len(models) for k in range(len(models))]:
                _wait_for(self._runtime.device)
                started = time.perf_counter()
                models[i](images)
                _wait_for(self._runtime.device)
                if turn:  # the first is a warm-up
                    best[i] = min(best[i], time.perf_counter() - started)
            if turn >= FEWEST_ROUNDS and time.perf_counter() - began > TIMED_SECONDS:
                break
        return best[1] / best[0], best[2] / best[0]


def check_images(preprocessing: Preprocessing) -> Tensor:
    """uint8 images of noise (16, channels, size, size), always the same: a loaded tuner is compared on them.

    Not images of the task: whoever checks an export need not have any.
    """
    shape = (CHECKED_IMAGES, preprocessing.channels, preprocessing.image_size, preprocessing.image_size)
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def augmentation(size: int, seed: int, *, mirrored: bool) -> Callable[[Tensor], Tensor]:
    """Random crops after padding with black by 1/8 of `size`, and mirror images where they are wanted.

    Not a random resized crop: what it cuts away of a small picture may be what tells it from another.

    Returns:
        A function of uint8 images (batch, channels, size, size), on any device; its random stream is a function of
        `seed`, and is drawn on the CPU so that it is the same on all of them.
    """
    generator = torch.Generator().manual_seed(seed)
    margin = size // MARGIN

    def augment(images: Tensor) -> Tensor:
        count = len(images)
        shifts = torch.randint(2 * margin + 1, (2, count, 1), generator=generator)
        rows, columns = shifts + torch.arange(size)
        if mirrored:
            flipped = torch.rand(count, 1, generator=generator) < 0.5
            columns = torch.where(flipped, columns.flip(1), columns)
        rows, columns = rows.to(images.device), columns.to(images.device)
        which = torch.arange(count, device=images.device).view(-1, 1, 1)
        padded = F.pad(images, (margin,) * 4)
        return padded[which, :, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)

    return augment


class _Memory:
    """How much memory a stretch of work needs at its peak, counted from its construction."""

    def __init__(self, device: str) -> None:
        self._device = device
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)
            self._before = float(torch.cuda.memory_allocated(device))
        else:
            self._peak = _peak()
            self._before = _resident(self._peak)

    def grown(self) -> float | None:
        """In 10^6 bytes; None where the process held more at an earlier time, which hides the peak."""
        if self._device.startswith("cuda"):
            return (torch.cuda.max_memory_allocated(self._device) - self._before) / MB
        return (_peak() - self._before) / MB if _peak() > self._peak else None


def _peak() -> float:
    """Bytes that this process held in memory at most so far; 0 where the system does not say."""
    if resource is None:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def _resident(peak: float) -> float:
    """Bytes that this process holds in memory now; where the system does not say, its `peak` so far."""
    statm = Path("/proc/self/statm")
    if resource is None or not statm.exists():
        return peak
    return float(int(statm.read_text(encoding="ascii").split()[1]) * resource.getpagesize())


def _wait_for(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Sums are rounded by how they are shared between threads, so their number is fixed."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
