"""Train one design on a split held in memory, and predict with it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.common.errors import TrainingError
from utuning_search.training.balance import SAMPLING, WEIGHTS, class_weights, drawn
from utuning_search.training.flat_adamw import FlatAdamW
from utuning_search.training.out_of_memory import halve_to_fit
from utuning_search.training.proximal import Proximal
from utuning_search.training.recipe import Recipe

EVALUATION_BATCH = 256
Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Epoch:
    """Mean training loss in epoch `number` (from 1).

    `accumulation` is in how many parts a batch was taken, because it did not fit into memory; 1 is all at once.
    """

    number: int
    loss: float
    accumulation: int = 1


@dataclass(frozen=True)
class Examples:
    """Inputs of any kind that a forward function takes, first axis the examples, and labels (examples,)."""

    inputs: Tensor
    labels: Tensor


class Training:
    """Parameters under AdamW, an epoch after the other, on a split that is held in memory.

    The order of examples is a function of `seed`. A batch that does not fit into memory is taken in parts, and so are
    those after it: the optimizer sees the same mean gradient.

    Args:
        forward: Inputs (batch, ...) to logits (batch, classes).
        parameters: What is trained.
        views: The same examples under each fixed augmentation; each example draws one view an epoch.
        recipe: Epochs, batch size, schedule.
        learning_rate: Peak; stands in for the recipe's.
        seed: Of the order and the views.
        autocast: A fresh context for the forward pass.
        augment: Changes each batch of inputs before the forward pass of training; None leaves them.
    """

    def __init__(
        self,
        forward: Forward,
        parameters: Sequence[nn.Parameter],
        views: Sequence[Examples],
        recipe: Recipe,
        *,
        learning_rate: float,
        seed: int,
        autocast: Callable[[], AbstractContextManager[None]],
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._forward, self._parameters, self._views, self._recipe = forward, parameters, views, recipe
        self._peak, self._autocast, self._augment = learning_rate, autocast, augment
        self._count, self._device = len(views[0].labels), views[0].labels.device
        weighted = recipe.balance == WEIGHTS
        self._weights = class_weights(views[0].labels).to(self._device) if weighted else None
        self._proximal = Proximal(parameters, recipe.proximal) if recipe.proximal else None
        self._optimizer = FlatAdamW(parameters, learning_rate, recipe.weight_decay)
        self._generator = torch.Generator().manual_seed(seed)
        self._done, self._batch = 0, min(recipe.batch_size, self._count)
        self._at_once = self._batch

    def epochs(self) -> Iterator[Epoch]:
        """Train to the last epoch from where this stands, and yield after each one; stop early by leaving.

        Raises:
            TrainingError: The loss is not finite.
            torch.OutOfMemoryError: One example at a time does not fit.
        """
        while self._done < self._recipe.epochs:
            mean = self._epoch(self._done)
            if not math.isfinite(mean):
                raise TrainingError(
                    "training", "the loss is finite", f"{mean} in epoch {self._done + 1}", "Lower learning_rate."
                )
            self._done += 1
            yield Epoch(self._done, mean, math.ceil(self._batch / self._at_once))

    def state(self) -> dict[str, Tensor]:
        """All that the epochs after this one depend on, besides the parameters and what this was made with."""
        found = {"at": torch.tensor([self._done, self._at_once]), "order": self._generator.get_state()}
        found |= {f"optimizer.{name}": tensor for name, tensor in self._optimizer.state().items()}
        if self._proximal is not None:
            found |= {f"proximal.{i}": tensor for i, tensor in enumerate(self._proximal.state())}
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Stand where the training stood that `state` was taken of; its parameters have been put back before.

        Raises:
            KeyError: Something is not there.
        """
        self._done, self._at_once = map(int, state["at"])
        self._generator.set_state(state["order"])
        prefix = "optimizer."
        self._optimizer.load_state({n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)})
        if self._proximal is not None:
            self._proximal.load_state([state[f"proximal.{i}"] for i in range(len(self._parameters))])

    def _epoch(self, epoch: int) -> float:
        """Train one epoch, from 0; returns its mean loss."""
        recipe, views, count, device = self._recipe, self._views, self._count, self._device
        steps = math.ceil(count / recipe.batch_size)
        if recipe.balance == SAMPLING:
            order = drawn(views[0].labels, self._generator)
        else:
            order = torch.randperm(count, generator=self._generator)
        view = torch.randint(len(views), (count,), generator=self._generator)
        total = torch.zeros((), device=device)
        for step in range(steps):
            self._optimizer.learning_rate = self._peak * schedule((epoch * steps + step + 1) / steps, recipe)
            rows = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            inputs, labels = _batch(views, view[rows], rows, device)
            inputs = inputs if self._augment is None else self._augment(inputs)
            backward = partial(
                _accumulate,
                self._forward,
                self._parameters,
                inputs,
                labels,
                self._autocast,
                recipe.label_smoothing,
                self._weights,
                self._proximal,
            )
            loss, self._at_once = halve_to_fit(backward, self._at_once, device)
            self._optimizer.step()
            if self._proximal is not None:
                self._proximal.follow()
            total += loss * len(rows)
        return float(total) / count


def train(
    forward: Forward, parameters: Sequence[nn.Parameter], views: Sequence[Examples], recipe: Recipe, **others: Any
) -> Iterator[Epoch]:
    """Train as `Training` does, and yield at each rung and after the last epoch only, for the caller to measure.

    Args:
        forward, parameters, views, recipe, others: As of `Training`.
    """
    told = {*recipe.rungs, recipe.epochs}
    training = Training(forward, parameters, views, recipe, **others)
    return (epoch for epoch in training.epochs() if epoch.number in told)


@torch.no_grad()
def predict(forward: Forward, inputs: Tensor) -> Tensor:
    """Logits (examples, classes) in fp32, in batches, which are halved where memory runs out."""

    def logits(size: int) -> Tensor:
        return torch.cat([forward(part).float() for part in inputs.split(size)])

    return halve_to_fit(logits, EVALUATION_BATCH, inputs.device)[0]


def measure(forward: Forward, examples: Examples) -> float:
    """Top-1 accuracy in [0, 1]."""
    return accuracy_of(predict(forward, examples.inputs), examples.labels)


def accuracy_of(logits: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in [0, 1] of logits (examples, classes)."""
    hits = logits.argmax(dim=1) == labels
    return int(hits.sum()) / len(hits)


def schedule(epoch: float, recipe: Recipe) -> float:
    """Factor of the peak learning rate after `epoch` (fractional) epochs: linear warm-up, then cosine to zero."""
    if epoch < recipe.warmup_epochs:
        return epoch / recipe.warmup_epochs
    rest = (epoch - recipe.warmup_epochs) / max(recipe.epochs - recipe.warmup_epochs, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))


def _accumulate(
    forward: Forward,
    parameters: Sequence[nn.Parameter],
    inputs: Tensor,
    labels: Tensor,
    autocast: Callable[[], AbstractContextManager[None]],
    label_smoothing: float,
    weights: Tensor | None,
    proximal: Proximal | None,
    size: int,
) -> Tensor:
    """Leave the gradients of a batch's mean loss, computed `size` examples at a time; returns that loss."""
    for parameter in parameters:  # those of the step before, or of an attempt that ran out of memory
        parameter.grad = None
    total = torch.zeros((), device=labels.device)
    for part, wanted in zip(inputs.split(size), labels.split(size), strict=True):
        averaged = None
        if proximal is not None:
            # A context of its own: autocast keeps what it casts, and these are other weights.
            with proximal.averaged(), autocast():
                averaged = forward(part)
        with autocast():
            logits = forward(part)
        if weights is None:
            loss = F.cross_entropy(logits.float(), wanted, label_smoothing=label_smoothing)
        else:  # over images rather than weights: a batch of large classes alone is to count less
            each = F.cross_entropy(logits.float(), wanted, label_smoothing=label_smoothing, reduction="none")
            loss = (each * weights[wanted]).mean()
        if proximal is not None and averaged is not None:
            loss = loss + proximal.penalty(logits.float(), averaged.float())
        loss = loss * (len(wanted) / len(labels))
        loss.backward()
        total += loss.detach()
    return total


def _batch(views: Sequence[Examples], view: Tensor, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    rows = rows.to(device)
    inputs = views[0].inputs[rows]
    for i in range(1, len(views)):
        chosen = (view == i).to(device)
        inputs[chosen] = views[i].inputs[rows[chosen]]
    return inputs, views[0].labels[rows]
