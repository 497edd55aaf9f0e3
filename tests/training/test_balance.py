"""Classes of unequal size count alike in training where a recipe says so, and nothing changes where it does not."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from utuning_search.common.errors import InputError
from utuning_search.training import loop
from utuning_search.training.balance import BALANCES, class_weights, drawn
from utuning_search.training.loop import Examples, train
from utuning_search.training.recipe import Recipe
from utuning_search.training.task import Task

LABELS = torch.tensor([0] * 12 + [1] * 4 + [3] * 2)  # none is of class 2


def trained(inputs: Tensor, labels: Tensor, recipe: Recipe) -> nn.Linear:
    """A linear classifier after the recipe, with the gradient of its last step."""
    torch.default_generator.manual_seed(0)
    model = nn.Linear(inputs.shape[1], 2)
    for _ in train(
        model,
        list(model.parameters()),
        [Examples(inputs, labels)],
        recipe,
        learning_rate=0.05,
        seed=1,
        autocast=nullcontext,
    ):
        pass
    return model


def gradient(model: nn.Linear) -> Tensor:
    assert model.weight.grad is not None
    return model.weight.grad


def test_weights_are_scikit_learns() -> None:
    present = np.array([0, 1, 3])
    wanted = compute_class_weight("balanced", classes=present, y=LABELS.numpy())
    assert class_weights(LABELS)[present].tolist() == pytest.approx(wanted.tolist())
    assert class_weights(LABELS)[2] == 0
    assert class_weights(LABELS)[LABELS].mean() == pytest.approx(1.0)


def test_each_class_is_drawn_as_often_as_any_other() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.cat([drawn(LABELS, generator) for _ in range(400)])
    counts = torch.bincount(LABELS[rows], minlength=4) / len(rows)
    assert counts.tolist() == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3], abs=0.02)
    again = torch.Generator().manual_seed(0)
    assert torch.equal(drawn(LABELS, again), rows[: len(LABELS)])


def test_a_weighted_step_is_that_of_a_balanced_set() -> None:
    """Four images of a class and one of the other, or that one four times."""
    inputs, labels = torch.randn(5, 3), torch.tensor([0, 0, 0, 0, 1])
    rows = [0, 1, 2, 3, 4, 4, 4, 4]
    once = Recipe(epochs=1, batch_size=8, warmup_epochs=0, label_smoothing=0.1)
    wanted = trained(inputs[rows], labels[rows], once)
    found = trained(inputs, labels, Recipe(**{**vars(once), "balance": "weights"}))
    plain = trained(inputs, labels, once)
    assert torch.allclose(gradient(found), gradient(wanted), atol=1e-6)
    assert not torch.allclose(gradient(plain), gradient(wanted), atol=1e-2)


def test_a_weighted_batch_in_parts_has_the_gradient_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, labels = torch.randn(9, 3), torch.tensor([0] * 6 + [1] * 3)
    recipe = Recipe(epochs=3, batch_size=9, balance="weights")
    whole = trained(inputs, labels, recipe)
    monkeypatch.setattr(loop, "halve_to_fit", lambda work, size, _: (work(2), size))
    assert torch.allclose(gradient(trained(inputs, labels, recipe)), gradient(whole), atol=1e-5)


@pytest.mark.parametrize("balance", BALANCES)
def test_rare_classes_are_found_where_they_are_to_count(balance: str) -> None:
    """Of two overlapping clouds, 95 images to 5: an answer that counts images hardly ever names the rare one."""
    draw = torch.Generator().manual_seed(3)
    labels = torch.tensor([0] * 190 + [1] * 10)
    inputs = torch.randn(200, 1, generator=draw) + labels[:, None] * 1.5
    model = trained(inputs, labels, Recipe(epochs=30, batch_size=20, balance=balance))
    with torch.no_grad():
        recall = (model(inputs).argmax(1) == labels)[labels == 1].float().mean()
    assert (recall > 0.5) == (balance != "none")


def test_a_recipe_that_says_nothing_is_what_it_was() -> None:
    """Digests of recorded studies hang on it."""
    task = Task.load("digits").to_dict()
    assert "balance" not in task["training"]
    task["training"]["balance"] = "sampling"
    asked = Task.from_dict(task)
    assert asked.recipe.balance == "sampling"
    assert asked.to_dict() == task
    with pytest.raises(InputError, match="balance is one of none, weights, sampling; got 'weight'"):
        Recipe(balance="weight")
