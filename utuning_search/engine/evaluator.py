"""Train and measure designs one after another on one frozen backbone and one proxy split."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from utuning_search.backbones import vit as vit
from utuning_search.data.loading import SearchData, load_search_data
from utuning_search.designs.design import Design
from utuning_search.engine.features import FeatureCache, budget_on
from utuning_search.engine.precision import Runtime
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.training.out_of_memory import to_device
from utuning_search.training.task import Task
from utuning_search.data.places import find_data
from utuning_search.training.loop import Examples, Report, measure, predict, train
from utuning_search.tuners import BackboneShape

CHECKED_IMAGES = 16
CHECK = "check.logits"


@dataclass(frozen=True)
class Result:
    """A design trained to its last epoch.

    Attributes:
        accuracy: On the validation split, in fp32, in [0, 1].
        weights: A safetensors file's bytes: tuners and head, and as `check.logits` the fp32 logits (16, classes)
            of the first validation images, to compare a loaded tuner with. Bytes, because tensors that cross
            processes are shared memory, which dies with its worker.
        seconds: Training and measuring, without the time a caller took between reports.
        accumulation: In how many parts a batch was taken, because it did not fit into memory.
    """

    accuracy: float
    weights: bytes
    seconds: float
    accumulation: int = 1


@dataclass(frozen=True)
class SearchContext:
    """A task, loaded: what designs are attached to, trained and compared on."""

    backbone: vit.VisionTransformer
    preprocessing: vit.Preprocessing
    shape: BackboneShape
    data: SearchData


def load_backbone(task: Task, data_dir: str | None) -> tuple[vit.VisionTransformer, vit.Preprocessing]:
    """A task's frozen backbone on the CPU, and how its images are prepared."""
    spec, path = task.backbone, Runtime(data_dir=data_dir).data_path
    checkpoint = find_data(spec.checkpoint, path, "task backbone, checkpoint") if spec.checkpoint else None
    with torch.random.fork_rng(devices=[]):  # timm draws fresh weights before it loads the real ones
        model = vit.load_backbone(spec.name, checkpoint, spec.image_size or None)
    return model, vit.preprocessing_of(model, spec.name)


def load_search(task: Task, data_dir: str | None, images: Path | None = None) -> SearchContext:
    """Everything of a task that a search needs, on the CPU; `images` are already decoded ones, see SearchData.save."""
    model, preprocessing = load_backbone(task, data_dir)
    if images is None:
        data = load_search_data(task.data, preprocessing, Runtime(data_dir=data_dir).data_path)
    else:
        data = SearchData.restore(images)
    return SearchContext(model, preprocessing, vit.shape_of(model), data)


class Evaluator:
    """Trains designs on a loaded task; tokens of frozen blocks are shared between them.

    A design's result is a function of (task, runtime, design, seed): neither earlier designs nor the process
    it runs in matter.
    """

    def __init__(self, task: Task, runtime: Runtime, context: SearchContext | None = None) -> None:
        self.task, self.runtime = task, runtime
        context = context or load_search(task, runtime.data_dir)
        self._model = context.backbone.to(runtime.device)
        if runtime.device == "cpu":
            vit.unfuse_attention(self._model)
        self.data = context.data
        self._normalise = context.preprocessing.normalise
        # They stay uint8, a quarter of the memory, and are mirrored and normalised a batch at a time.
        proxy, self._validation, self._labels, self._validation_labels = (
            to_device(t, runtime.device)
            for t in (
                self.data.proxy.images,
                self.data.validation.images,
                self.data.proxy.labels,
                self.data.validation.labels,
            )
        )
        self._views = [f"view_{i}" for i in range(task.data.views)]
        sources = {**dict.fromkeys(self._views, proxy), "validation": self._validation}
        budget = budget_on(runtime.device, runtime.sharers)
        self.cache = FeatureCache(self._model, sources, runtime.autocast(), budget, self._prepare)

    def evaluate(
        self, design: Design, seed: int, clock: Callable[[], float] = time.monotonic
    ) -> Iterator[Report | Result]:
        """Reports at the rungs, the last one's included, then the result. Leave the iterator to prune."""
        spent, started = 0.0, clock()
        model = self._fresh(design, seed)
        start = model.first_tuned_block
        reports = train(
            lambda tokens: model.forward_from(tokens, start),
            model.parameters_trained(),
            [Examples(self.cache.tokens(view, start), self._labels) for view in self._views],
            Examples(self.cache.tokens("validation", start), self._validation_labels),
            self.task.recipe,
            learning_rate=design.learning_rate or self.task.recipe.learning_rate,
            seed=seed,
            autocast=self.runtime.autocast(),
            set_training=model.tuners.train,
        )
        accumulation = 1
        for report in reports:
            accumulation = report.accumulation
            spent += clock() - started
            yield report
            started = clock()
        # Whole and in fp32: what an export of this trial will predict for a user, image by image.
        model.eval()
        accuracy = measure(
            lambda images: model(self._normalise(images)), Examples(self._validation, self._validation_labels)
        )
        check = predict(model, self._normalise(self._validation[:CHECKED_IMAGES])).cpu()
        tensors = {k: v.cpu().contiguous() for k, v in model.tuner_state_dict().items()}
        weights = safetensors.torch.save({**tensors, CHECK: check})
        yield Result(accuracy, weights, spent + clock() - started, accumulation)

    def _prepare(self, source: str, images: Tensor) -> Tensor:
        """The input of a batch of a source's images: normalised, and mirrored for the second view."""
        images = self._normalise(images)
        return images.flip(-1) if source == "view_1" else images

    def _fresh(self, design: Design, seed: int) -> TunedModel:
        with torch.random.fork_rng(devices=[]):
            # Inside the fork, and on the CPU only: the caller's random state is not touched on any device.
            torch.default_generator.manual_seed(seed)
            model = TunedModel(self._model, design, self.data.num_classes)
        # The backbone stays in evaluation mode: frozen operations are functions, which caches rely on.
        model.to(self.runtime.device).train()
        model.backbone.eval()
        return model
