"""Train and measure designs one after another on one frozen backbone and one proxy split."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache, partial

import torch
from torch import Tensor

from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.designs.design import Design
from utuning_search.training.checkpoint import Checkpoint
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
EXACT_SHARE = 8  # of the memory for tokens one part in so many is for those in fp32 that bf16 trainings are measured on


@dataclass(frozen=True)
class _Inputs:
    """What a design is trained and measured on at rungs: inputs of a source by its name, and logits of such inputs."""

    of: Callable[[str], Tensor]
    forward: Forward


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


@dataclass(frozen=True)
class Paused:
    """A training stopped after an epoch because it was asked to; without a checkpoint it had not begun."""

    checkpoint: Checkpoint | None


def never() -> bool:
    """Whether a training that nobody stops is to stop."""
    return False


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
        self._sources = tuple(sources)
        self.cache = self._exact = FeatureCache(self._backbone, sources, runtime.autocast(), budget, self._prepare)
        if runtime.precision != "fp32":
            share = budget // EXACT_SHARE
            self._exact = FeatureCache(self._backbone, sources, nullcontext, share, self._prepare)

    def evaluate(
        self,
        design: Design,
        seed: int,
        clock: Callable[[], float] = time.monotonic,
        *,
        begun: Checkpoint | None = None,
        asked: Callable[[], bool] = never,
        every: float = math.inf,
    ) -> Iterator[Report | Result | Checkpoint | Paused]:
        """Reports at the rungs, the last one's included, then the result. Leave the iterator to prune.

        Args:
            design: To train.
            seed: Of its first weights and of the order of images.
            clock: Gives seconds.
            begun: Goes on from there, to the same result: what it had reported is not reported again.
            asked: Whether to stop, looked at after each epoch; the iterator then ends with Paused.
            every: Seconds after which an epoch's end yields a Checkpoint too.
        """
        spent, started = 0.0, clock()
        model = self._fresh(design, seed)
        start, epochs, rungs = model.first_tuned_block, self.task.recipe.epochs, self.task.recipe.rungs
        inputs = self._inputs(model, self.cache)
        labels = self._validation.labels
        views = [Examples(inputs.of(view), self._proxy.labels) for view in self._views]
        training = self._training(model, inputs.forward, views, self.task.recipe, seed)
        measured: dict[int, Mapping[str, float]] = {}
        if begun is not None:
            begun.restore(model, training)
            spent, measured = begun.seconds, dict(begun.measured)
        saved = time.monotonic()
        for epoch in training.epochs():
            if epoch.number == epochs:
                break
            if epoch.number in rungs:
                model.tuners.eval()  # what is left out at random is left out in training only
                unknown: Callable[[], Tensor] | None
                with self.runtime.autocast()():
                    logits = predict(inputs.forward, inputs.of(VALIDATION))
                    unknown = None if self._outliers is None else partial(self._unknown, inputs)
                    others = self._others(None, logits, labels, unknown)
                model.tuners.train()
                spent += clock() - started
                report = Report(epoch.number, accuracy_of(logits, labels), epoch.loss, epoch.accumulation, others)
                measured[epoch.number] = report.values
                yield report
                started = clock()
            stopping = asked()
            if stopping or time.monotonic() - saved >= every:
                saved = time.monotonic()
                kept = Checkpoint.of(epoch.number, model, training, measured, spent + clock() - started)
                yield Paused(kept) if stopping else kept
                if stopping:
                    return
        # The last rung is measured as the result is, once: plainly and in fp32, as an export will predict.
        model.eval()
        if model.design.is_bypass:
            exact = self._inputs(model, self._exact)
            logits = predict(exact.forward, exact.of(VALIDATION))
        else:
            logits = predict(partial(model.forward_from, start=start), self._exact.tokens(VALIDATION, start))
        unknown = None if self._outliers is None else cache(partial(predict, self._whole(model), self._outliers))
        accuracy, others = accuracy_of(logits, labels), self._others(None, logits, labels, unknown)
        spent += clock() - started
        yield Report(epochs, accuracy, epoch.loss, epoch.accumulation, others)
        started = clock()
        others, weights = self._others(model, logits, labels, unknown), self._packed(model)
        yield Result(accuracy, weights, spent + clock() - started, epoch.accumulation, others)

    def _inputs(self, model: TunedModel, kept: FeatureCache) -> "_Inputs":
        """What is kept of images for a design, and the model as a function of it."""
        start, read = model.first_tuned_block, self._read(model)
        if model.design.is_bypass and read is not None:
            boundaries = model.streams
            return _Inputs(
                lambda source: torch.stack([kept.tokens(source, b)[:, :read] for b in boundaries], dim=1),
                model.forward_beside,
            )
        forward = partial(model.forward_from, start=start, blocks=self._stand_ins(read))
        if start == model.depth:  # nothing mixes tokens any more
            return _Inputs(lambda source: kept.tokens(source, start)[:, :read].contiguous(), forward)
        return _Inputs(partial(kept.tokens, boundary=start), forward)

    def examples_from(self, block: int) -> tuple[list[Examples], Examples]:
        """Views of the proxy split, and the validation split, as tokens before block index `block` (from 0)."""
        views = [Examples(self.cache.tokens(view, block), self._proxy.labels) for view in self._views]
        return views, Examples(self.cache.tokens(VALIDATION, block), self._validation.labels)

    def _unknown(self, inputs: "_Inputs") -> Tensor:
        """Logits of unknown images."""
        return predict(inputs.forward, inputs.of(OUTLIERS))

    def _checked_images(self) -> Tensor:
        return check_images(self._preprocessing).to(self.runtime.device)

    def _prepare(self, source: str, images: Tensor) -> Tensor:
        """The input of a batch of a source's images: normalised, and mirrored for the second view."""
        images = self._preprocessing.normalise(images)
        return images.flip(-1) if source == "view_1" else images
