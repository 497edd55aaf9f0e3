"""Bregman proximal-point regularisation: its definition, what it does to a training, and nothing where it is off."""

import copy
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.common.errors import InputError
from utuning_search.training import loop
from utuning_search.training.loop import Examples, schedule, train
from utuning_search.training.proximal import MOMENTUM, Proximal
from utuning_search.training.recipe import Recipe
from utuning_search.training.task import Task

from .helpers import SAID, TASK, Small

RATE = 0.05
RECIPE = Recipe(epochs=3, batch_size=8, learning_rate=RATE)
ONE_STEP = Recipe(epochs=2, batch_size=20)  # of the second the rate is zero


def model_of() -> nn.Linear:
    torch.default_generator.manual_seed(4)
    return nn.Linear(5, 3)


def examples() -> Examples:
    draw = torch.Generator().manual_seed(7)
    return Examples(torch.randn(20, 5, generator=draw), torch.randint(3, (20,), generator=draw))


def trained(recipe: Recipe, rows: int = 20) -> tuple[nn.Linear, Small]:
    model = model_of()
    forward = Small(rows, model)
    for _ in train(
        forward, list(model.parameters()), [examples()], recipe, learning_rate=RATE, seed=1, autocast=nullcontext
    ):
        pass
    return model, forward


def same(one: nn.Module, other: nn.Module, tolerance: float) -> bool:
    return all(torch.allclose(a, b, atol=tolerance) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def moved(model: nn.Module) -> float:
    return sum(float((p - q).detach().norm()) for p, q in zip(model.parameters(), model_of().parameters(), strict=True))


def divergence(logits: Tensor, averaged: Tensor) -> Tensor:
    p, q = logits.softmax(1), averaged.softmax(1)
    return (p * (p / q).log() + q * (q / p).log()).sum(1).mean()


def test_the_penalty_is_the_symmetrised_divergence() -> None:
    draw = torch.Generator().manual_seed(0)
    own, other = torch.randn(2, 6, 3, generator=draw, dtype=torch.float64).unbind()
    found = Proximal([], 2.5).penalty(own, other)
    assert float(found) == pytest.approx(2.5 * float(divergence(own, other)))
    assert float(Proximal([], 2.5).penalty(other, own)) == pytest.approx(float(found))


def test_the_first_step_is_as_without() -> None:
    plain, _ = trained(ONE_STEP)
    held, forward = trained(replace(ONE_STEP, proximal=50.0))
    assert forward.seen == [20] * 4
    assert same(held, plain, 1e-6)
    assert moved(plain) > 0.01
    second, _ = trained(replace(ONE_STEP, epochs=4, proximal=50.0))
    assert not same(second, trained(replace(ONE_STEP, epochs=4))[0], 1e-3)
    logits = model_of()(examples().inputs)
    assert Proximal([], 50.0).penalty(logits, logits.detach()) == 0


def test_a_training_is_that_of_the_papers_equations() -> None:
    held, _ = trained(replace(RECIPE, proximal=3.0))
    model, average, data = model_of(), model_of(), examples()
    groups = [{"params": [model.weight], "weight_decay": RECIPE.weight_decay}, {"params": [model.bias]}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=0.0)
    generator = torch.Generator().manual_seed(1)
    for epoch in range(RECIPE.epochs):
        order = torch.randperm(20, generator=generator)
        torch.randint(1, (20,), generator=generator)
        for step, rows in enumerate(order.split(8)):
            for group in optimizer.param_groups:
                group["lr"] = RATE * schedule((3 * epoch + step + 1) / 3, RECIPE)
            logits = model(data.inputs[rows])
            far = divergence(logits, average(data.inputs[rows]).detach())
            optimizer.zero_grad()
            (F.cross_entropy(logits, data.labels[rows]) + 3 * far).backward()
            optimizer.step()
            with torch.no_grad():
                for past, now in zip(average.parameters(), model.parameters(), strict=True):
                    past.copy_(MOMENTUM * past + (1 - MOMENTUM) * now)
    assert same(held, model, 1e-5)


def test_a_larger_weight_holds_nearer() -> None:
    reach = [moved(trained(replace(RECIPE, proximal=weight))[0]) for weight in (0.0, 3.0, 30.0)]
    assert reach[0] > 1.1 * reach[1] > 1.1 * 1.1 * reach[2]


def test_a_batch_in_parts_gives_the_same() -> None:
    recipe = replace(RECIPE, proximal=3.0)
    assert same(trained(recipe, rows=3)[0], trained(recipe)[0], 1e-5)


def test_without_it_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "Proximal", None)
    _, forward = trained(RECIPE)
    assert forward.seen == [8, 8, 4] * 3


def test_parameters_are_themselves_again_where_a_pass_breaks_off() -> None:
    model = model_of()
    proximal = Proximal(list(model.parameters()), 1.0)
    with torch.no_grad():
        model.weight += 1.0
    kept = copy.deepcopy(model)
    with proximal.averaged():
        assert same(model, model_of(), 0.0)

    def break_off() -> None:
        with proximal.averaged():
            raise torch.OutOfMemoryError(SAID)

    with pytest.raises(torch.OutOfMemoryError):
        break_off()
    assert same(model, kept, 0.0)


def test_it_is_asked_for_in_a_task_and_kept_with_it() -> None:
    plain = TASK.to_dict()
    assert "proximal" not in plain["training"]
    asked = {**plain, "training": {**plain["training"], "proximal": 1}}
    task = Task.from_dict(asked, "task")
    assert task.recipe.proximal == 1.0
    assert Task.from_dict(task.to_dict(), "task") == task
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="proximal is not negative"):
            replace(RECIPE, proximal=wrong)
