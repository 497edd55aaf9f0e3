"""Train and measure designs one after another on one frozen backbone and one proxy split."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import safetensors.torch
import torch
from torch import Tensor

from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.designs.design import Design
from utuning_search.training.context import SearchContext, load_search
from utuning_search.training.feature_cache import FeatureCache, budget_on
from utuning_search.training.latency import latency_ms
from utuning_search.training.loop import Examples, Report, accuracy_of, predict, train
from utuning_search.training.measurement import Measure, Measurement
from utuning_search.training.out_of_memory import to_device
from utuning_search.training.runtime import Runtime
from utuning_search.training.task import Task

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
        others: What was measured besides, by name.
    """

    accuracy: float
    weights: bytes
    seconds: float
    accumulation: int = 1
    others: Mapping[str, float] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """Everything that was measured, by name."""
        return {"accuracy": self.accuracy, **self.others}


class Evaluator:
    """Trains designs on a loaded task; tokens of frozen blocks are shared between them.

    A design's result is a function of (task, runtime, design, seed): neither earlier designs nor the process
    it runs in matter.
    """

    def __init__(
        self, task: Task, runtime: Runtime, context: SearchContext | None = None, measures: Sequence[Measure] = ()
    ) -> None:
        self.task, self.runtime = task, runtime
        self._measures = [m for m in measures if m.name != "accuracy"]
        context = context or load_search(task, runtime.data_dir)
        self._model = context.backbone.to(runtime.device)
        if runtime.device == "cpu":
            adapter_of(self._model).unfuse_attention()
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
            others=partial(self._others, None) if self._measures else None,
        )
        accumulation = 1
        for report in reports:
            accumulation = report.accumulation
            spent += clock() - started
            yield report
            started = clock()
        # Whole and in fp32: what an export of this trial will predict for a user, image by image.
        model.eval()
        logits = predict(lambda images: model(self._normalise(images)), self._validation)
        accuracy, others = accuracy_of(logits, self._validation_labels), self._others(model, logits)
        check = predict(model, self._normalise(self._validation[:CHECKED_IMAGES])).cpu()
        tensors = {k: v.cpu().contiguous() for k, v in model.tuner_state_dict().items()}
        weights = safetensors.torch.save({**tensors, CHECK: check})
        yield Result(accuracy, weights, spent + clock() - started, accumulation, others)

    def _others(self, finished: TunedModel | None, logits: Tensor) -> dict[str, float]:
        """What is measured besides accuracy; without a finished model what is measured at rungs."""

        def latency() -> float:
            assert finished is not None, "a measure of finished trainings is not asked for at rungs"
            return latency_ms(finished, self._normalise(self._validation[:CHECKED_IMAGES]))

        measured = Measurement(logits, self._validation_labels, latency)
        return {m.name: m.measure(measured) for m in self._measures if finished is not None or m.at_rungs}

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
