"""Train and measure designs one after another on one frozen backbone and one proxy split."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from utuning_search.designs.design import Design
from utuning_search.training.context import SearchContext, load_search
from utuning_search.training.feature_cache import FeatureCache, budget_on
from utuning_search.training.loop import Examples, Forward, accuracy_of, predict
from utuning_search.training.measurement import Measure
from utuning_search.training.runtime import Runtime
from utuning_search.training.task import Task
from utuning_search.training.trainer import Trainer
from utuning_search.training.transfer import to_device
from utuning_search.training.weights import check_images

VALIDATION, OUTLIERS = "validation", "outliers"


@dataclass(frozen=True)
class Report:
    """Validation accuracy in [0, 1] and mean training loss after `epoch` epochs.

    `accumulation` is in how many parts a batch was taken, because it did not fit into memory; 1 is all at once.
    `others` is what was measured besides, by name.
    """

    epoch: int
    accuracy: float
    loss: float
    accumulation: int = 1
    others: Mapping[str, float] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, float]:
        """Everything that was measured, by name."""
        return {"accuracy": self.accuracy, **self.others}


@dataclass(frozen=True)
class Result:
    """A design trained to its last epoch.

    Attributes:
        accuracy: On the validation split, in fp32, in [0, 1].
        weights: See `weights.pack`.
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


class ProxyTrainer(Trainer):
    """Trains designs on a loaded task; tokens of frozen blocks are shared between them.

    A design's result is a function of (task, runtime, design, seed): neither earlier designs nor the process
    it runs in matter.

    Args:
        task: Loaded, unless `context` is given.
        runtime: Where and in which precision.
        context: The task, loaded.
        measures: What is measured besides accuracy.
    """

    def __init__(
        self, task: Task, runtime: Runtime, context: SearchContext | None = None, measures: Sequence[Measure] = ()
    ) -> None:
        context = context or load_search(task, runtime.data_dir)
        self.task, self.data = task, context.data
        super().__init__(context.backbone, context.preprocessing, self.data.num_classes, runtime, measures)
        self._proxy, self._validation = self._examples(self.data.proxy), self._examples(self.data.validation)
        self._views = [f"view_{i}" for i in range(task.data.views)]
        sources = {**dict.fromkeys(self._views, self._proxy.inputs), VALIDATION: self._validation.inputs}
        self._outliers = None
        if context.outliers is not None:
            self._outliers = to_device(context.outliers, runtime.device)
            sources[OUTLIERS] = self._outliers
        budget = budget_on(runtime.device, runtime.sharers)
        self.cache = FeatureCache(self._backbone, sources, runtime.autocast(), budget, self._prepare)

    def evaluate(
        self, design: Design, seed: int, clock: Callable[[], float] = time.monotonic
    ) -> Iterator[Report | Result]:
        """Reports at the rungs, the last one's included, then the result. Leave the iterator to prune."""
        spent, started = 0.0, clock()
        model = self._fresh(design, seed)
        start = model.first_tuned_block
        views, validation = self.examples_from(start)

        def forward(tokens: Tensor) -> Tensor:
            return model.forward_from(tokens, start)

        accumulation = 1
        for epoch in self._epochs(model, forward, views, self.task.recipe, seed):
            accumulation = epoch.accumulation
            model.tuners.eval()  # what is left out at random is left out in training only
            with self.runtime.autocast()():
                logits = predict(forward, validation.inputs)
                unknown = None if self._outliers is None else partial(self._unknown, forward, start)
                others = self._others(None, logits, validation.labels, unknown)
            model.tuners.train()
            accuracy = accuracy_of(logits, validation.labels)
            spent += clock() - started
            yield Report(epoch.number, accuracy, epoch.loss, accumulation, others)
            started = clock()
        logits, weights = self._finished(model, self._validation.inputs)
        labels = self._validation.labels
        unknown = None if self._outliers is None else partial(predict, self._whole(model), self._outliers)
        accuracy, others = accuracy_of(logits, labels), self._others(model, logits, labels, unknown)
        yield Result(accuracy, weights, spent + clock() - started, accumulation, others)

    def examples_from(self, block: int) -> tuple[list[Examples], Examples]:
        """Views of the proxy split, and the validation split, as tokens before block index `block` (from 0)."""
        views = [Examples(self.cache.tokens(view, block), self._proxy.labels) for view in self._views]
        return views, Examples(self.cache.tokens(VALIDATION, block), self._validation.labels)

    def _unknown(self, forward: Forward, start: int) -> Tensor:
        """Logits of unknown images, by a forward from block index `start`."""
        return predict(forward, self.cache.tokens(OUTLIERS, start))

    def _checked_images(self) -> Tensor:
        return check_images(self._preprocessing).to(self.runtime.device)

    def _prepare(self, source: str, images: Tensor) -> Tensor:
        """The input of a batch of a source's images: normalised, and mirrored for the second view."""
        images = self._preprocessing.normalise(images)
        return images.flip(-1) if source == "view_1" else images
