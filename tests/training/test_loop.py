"""The loop: where memory runs out, a batch in parts gives the same gradients, and it is told."""

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.designs.design import Design
from utuning_search.designs.presets import PRESETS
from utuning_search.training.loop import Epoch, Examples, _accumulate, measure, predict, train
from utuning_search.training.recipe import Recipe

from ..helpers import CASES, CLASSES, DEPTH, IMAGE, randomise
from .helpers import SAID, Small


def gradients(
    model: TunedModel, images: Tensor, labels: Tensor, size: int, weights: Tensor | None
) -> tuple[Tensor, ...]:
    parameters = model.parameters_trained()
    _accumulate(model, parameters, images, labels, nullcontext, 0.1, weights, None, size)
    return tuple(p.grad.clone() for p in parameters if p.grad is not None)


DESIGNS = {
    **{p.name: Design(p.placements()) for p in PRESETS},
    **{c.name: Design((c.placement,)) for c in CASES},
}


@pytest.mark.parametrize("name", DESIGNS)
def test_gradients_of_parts_add_up_to_those_of_the_batch(
    name: str, shared64: VisionTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For every known method, with classes that count alike or not, and for every tuner at every place."""
    monkeypatch.setattr(torch.Tensor, "float", lambda x: x)  # the loss in double precision too
    model = TunedModel(shared64, DESIGNS[name].resolve(DEPTH), CLASSES).double().eval()  # eval: no dropout
    randomise(model.tuners, seed=2)
    draw = torch.Generator().manual_seed(3)
    images = torch.randn(7, 3, IMAGE, IMAGE, generator=draw, dtype=torch.float64)
    labels = torch.randint(CLASSES, (7,), generator=draw)
    known = name in {p.name for p in PRESETS}
    weights = torch.linspace(0.5, 2, CLASSES, dtype=torch.float64) if known else None
    whole = gradients(model, images, labels, 7, weights)
    assert len(whole) == len(model.parameters_trained())
    rounding = 1e-12 * max(float(g.abs().max()) for g in whole)  # of those that are zero: the bias of k has no effect
    for size in (4, 1):
        for ours, theirs in zip(gradients(model, images, labels, size, weights), whole, strict=True):
            assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max() + rounding


RECIPE = Recipe(epochs=2, batch_size=64, rungs=(1,))
ROWS = 150  # two batches and one of 22


def linear() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(6, CLASSES)


def examples(count: int) -> Examples:
    draw = torch.Generator().manual_seed(count)
    return Examples(torch.randn(count, 6, generator=draw), torch.randint(CLASSES, (count,), generator=draw))


def trained(
    model: nn.Linear, forward: Callable[[Tensor], Tensor], recipe: Recipe = RECIPE, **options: Any
) -> list[Epoch]:
    made = {"learning_rate": 0.01, "seed": 5, "autocast": nullcontext, **options}
    return list(train(forward, list(model.parameters()), [examples(ROWS)], recipe, **made))


def test_training_with_little_memory_ends_at_the_same_weights() -> None:
    whole, parts = linear(), linear()
    wanted = trained(whole, whole)
    forward = Small(20, parts)
    found = trained(parts, forward)
    assert [r.accumulation for r in wanted] == [1, 1]
    assert [r.accumulation for r in found] == [4, 4]
    epoch = [16] * 8 + [16, 6]
    assert forward.seen == [64, 32, *epoch, *epoch]
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    assert measure(parts, examples(9)) == measure(whole, examples(9))
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.number == theirs.number
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-6)


def test_memory_that_gets_short_later_is_told_from_then_on() -> None:
    model = linear()
    forward = Small(64, model)
    draws: list[int] = []

    def augment(inputs: Tensor) -> Tensor:
        draws.append(len(inputs))
        if len(draws) == 4:  # the second epoch's first step
            forward.rows = 40
        return inputs

    found = trained(model, forward, augment=augment)
    assert [r.accumulation for r in found] == [1, 2]
    assert draws == [64, 64, 22] * 2, "augmentation was not drawn once a batch"


def test_gradients_of_a_step_that_broke_off_do_not_count() -> None:
    whole, parts = linear(), linear()
    trained(whole, whole)

    def work(inputs: Tensor) -> Tensor:
        if forward.seen == [64, 32]:  # the first half of the first step fits; the second half no longer will
            forward.rows = 20
        return parts(inputs)

    forward = Small(40, work)
    assert trained(parts, forward)[-1].accumulation == 4
    assert forward.seen[:7] == [64, 32, 32, 16, 16, 16, 16]
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_batches_larger_than_the_data_are_counted_as_they_are() -> None:
    model = linear()
    assert trained(model, Small(80, model), replace(RECIPE, batch_size=1000))[-1].accumulation == 2  # 75 of 150


def test_training_that_does_not_fit_at_all_is_an_error() -> None:
    model = linear()
    forward = Small(0, model)
    with pytest.raises(torch.OutOfMemoryError):
        trained(model, forward)
    assert forward.seen == [64, 32, 16, 8, 4, 2, 1]


class Backward(torch.autograd.Function):
    """The identity, whose backward pass needs memory for 20 rows at most."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        del ctx
        if len(grad) > 20:
            raise torch.OutOfMemoryError(SAID)
        return grad


def test_what_a_failed_step_made_is_freed_before_it_is_done_again() -> None:
    """Its activations would fill the memory that the next attempt needs."""
    whole, parts = linear(), linear()
    trained(whole, whole)
    alive: list[list[bool]] = []
    made: list[weakref.ref[Tensor]] = []

    def forward(inputs: Tensor) -> Tensor:
        alive.append([ref() is not None for ref in made])
        logits: Tensor = Backward.apply(parts(inputs))  # type: ignore[no-untyped-call]  # torch's own
        made.append(weakref.ref(logits))
        return logits

    trained(parts, forward)
    assert alive[:3] == [[], [False], [False, False]]
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_evaluation_batches_are_halved() -> None:
    model, inputs = linear(), examples(300).inputs
    forward = Small(100, model)
    assert torch.allclose(predict(forward, inputs), predict(model, inputs), atol=1e-6)
    assert forward.seen == [256, 128, 64, 64, 64, 64, 44]
    with pytest.raises(torch.OutOfMemoryError):
        predict(Small(0, model), inputs)
