"""Checkpoints: a training that goes on from one, in another process, ends as the one that was never stopped."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from utuning_search.designs.design import Design
from utuning_search.training import checkpoint as module
from utuning_search.training.balance import SAMPLING, WEIGHTS
from utuning_search.training.checkpoint import ABOUT, Checkpoint
from utuning_search.training.loop import Examples, Training
from utuning_search.training.proxy import Paused, ProxyTrainer, Report, Result
from utuning_search.training.recipe import Recipe
from utuning_search.training.runtime import Runtime
from utuning_search.training.task import Task
from utuning_search.training.weights import sealed

from .helpers import DEPTH, DESIGNS, SEED, TASK, Small, evaluated

EPOCHS = TASK.recipe.epochs


def with_recipe(**changed: object) -> Task:
    return replace(TASK, recipe=replace(TASK.recipe, **changed))  # type: ignore[arg-type]  # fields by name


CASES: dict[str, tuple[Task, Design]] = {
    "plain": (TASK, DESIGNS["everywhere"]),
    "shared tokens": (TASK, DESIGNS["last-half"]),
    "two views": (replace(TASK, data=replace(TASK.data, views=2)), DESIGNS["linear-probe"]),
    "random streams": (TASK, Design.preset("mlae", rank=4, dropout=0.5)),
    "buffers": (TASK, Design.preset("vera")),
    "bypass": (TASK, Design.preset("res-tuning-bypass")),
    "an average": (with_recipe(proximal=0.5), DESIGNS["last-block"]),
    "drawn classes": (with_recipe(balance=SAMPLING), DESIGNS["last-block"]),
    "weighted classes": (with_recipe(balance=WEIGHTS), DESIGNS["last-block"]),
}


def paused(trainer: ProxyTrainer, design: Design, epoch: int) -> tuple[list[Report], Checkpoint]:
    """What was reported of a training until it was asked to stop in an epoch, and where it stopped."""
    looks: list[None] = []

    def asked() -> bool:
        looks.append(None)
        return len(looks) == epoch

    *reports, last = trainer.evaluate(design.resolve(DEPTH), SEED, asked=asked)
    assert isinstance(last, Paused)
    assert last.checkpoint is not None
    return [r for r in reports if isinstance(r, Report)], last.checkpoint


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_a_training_that_goes_on_elsewhere_ends_at_the_same_values(name: str, epoch: int) -> None:
    task, design = CASES[name]
    wanted, result = evaluated(ProxyTrainer(task, Runtime()), design)
    before, kept = paused(ProxyTrainer(task, Runtime()), design, epoch)
    read = Checkpoint.read(kept.content)
    assert read == kept
    assert read.epoch == epoch
    *after, end = ProxyTrainer(task, Runtime()).evaluate(design.resolve(DEPTH), SEED, begun=read)
    assert [*before, *after] == wanted, "a rung was reported twice, or not as it would have been"
    assert dict(kept.measured) == {r.epoch: r.values for r in before}
    assert isinstance(end, Result)
    assert (end.accuracy, end.weights) == (result.accuracy, result.weights)
    assert end.seconds > kept.seconds > 0


def test_one_that_is_stopped_again_and_again(trainer: ProxyTrainer) -> None:
    wanted, result = evaluated(trainer, DESIGNS["everywhere"])
    reports: list[Report] = []
    begun: Checkpoint | None = None
    for _ in range(EPOCHS):
        *items, last = trainer.evaluate(DESIGNS["everywhere"].resolve(DEPTH), SEED, begun=begun, asked=lambda: True)
        reports += [r for r in items if isinstance(r, Report)]
        if isinstance(last, Paused):
            begun = last.checkpoint
    assert reports == wanted
    assert isinstance(last, Result), "it never comes to its end"
    assert last.weights == result.weights


@pytest.mark.parametrize(("every", "epochs"), [(0.0, [1, 2]), (1e9, [])])
def test_checkpoints_come_after_a_while_and_change_nothing(
    every: float, epochs: list[int], trainer: ProxyTrainer
) -> None:
    wanted, result = evaluated(trainer, DESIGNS["everywhere"])
    items = list(trainer.evaluate(DESIGNS["everywhere"].resolve(DEPTH), SEED, every=every))
    assert [i.epoch for i in items if isinstance(i, Checkpoint)] == epochs
    assert [i for i in items if isinstance(i, Report)] == wanted
    assert isinstance(items[-1], Result)
    assert items[-1].weights == result.weights


def test_what_is_damaged_or_of_other_versions_is_not_taken(
    trainer: ProxyTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, kept = paused(trainer, DESIGNS["linear-probe"], 1)
    tensors = safetensors.torch.load(kept.content)
    flipped = bytearray(kept.content)
    flipped[-100] ^= 1
    for bad in (b"", b"no file", kept.content[:-10], bytes(flipped)):
        assert Checkpoint.read(bad) is None

    def told(about: object) -> bytes:
        tensors[ABOUT] = torch.frombuffer(bytearray(json.dumps(about).encode()), dtype=torch.uint8)
        return safetensors.torch.save(sealed(tensors))

    about = json.loads(tensors[ABOUT].numpy().tobytes())
    assert Checkpoint.read(told(about)) is not None
    for bad_about in ([], {}, {**about, "epoch": "x"}, {**about, "measured": [1]}, {**about, "measured": {"1": 2}}):
        assert Checkpoint.read(told(bad_about)) is None
    monkeypatch.setattr(module, "version", lambda name: f"another {name}")
    assert Checkpoint.read(kept.content) is None


def test_memory_that_was_short_is_remembered() -> None:
    """Else the first batch would be tried at once again, and told as if it had fitted."""

    def training(model: nn.Linear, forward: Callable[[Tensor], Tensor]) -> Training:
        draw = torch.Generator().manual_seed(1)
        examples = Examples(torch.randn(150, 6, generator=draw), torch.randint(3, (150,), generator=draw))
        recipe = Recipe(epochs=2, batch_size=64)
        return Training(
            forward,
            list(model.parameters()),
            [examples],
            recipe,
            learning_rate=0.01,
            seed=5,
            autocast=nullcontext,
        )

    first, second = nn.Linear(6, 3), nn.Linear(6, 3)
    begun = training(first, Small(20, first))
    assert next(begun.epochs()).accumulation == 4
    second.load_state_dict(first.state_dict())
    small = Small(20, second)
    other = training(second, small)
    other.load_state(begun.state())
    assert [(e.number, e.accumulation) for e in other.epochs()] == [(2, 4)]
    assert max(small.seen) == 16
