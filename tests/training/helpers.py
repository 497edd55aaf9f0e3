"""A tiny task, designs whose first tuner is at each depth, and what training one gives."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from utuning_search.backbones.spec import BackboneSpec
from utuning_search.data.spec import DataSpec
from utuning_search.designs.design import Design, Placement
from utuning_search.training.proxy import ProxyTrainer, Report, Result
from utuning_search.training.recipe import Recipe
from utuning_search.training.task import Task
from utuning_search.tuners import AdapterConfig, LoraConfig, NormConfig, PrefixConfig, PromptConfig, ScaleShiftConfig

TASK = Task(
    "tiny",
    BackboneSpec("glyph_vit"),
    DataSpec("digits", proxy=100, validation=60),
    Recipe(epochs=3, batch_size=32, rungs=(1,)),
)
DEPTH, SEED = 6, 3
ADAPTER = Placement("mlp", AdapterConfig(2), "parallel", "channel")
DESIGNS = {
    "linear-probe": Design(),
    "last-block": Design((replace(ADAPTER, blocks="last 1"),)),
    "outside-the-blocks": Design((Placement("patches", ScaleShiftConfig()), Placement("final", ScaleShiftConfig()))),
    "last-half": Design(
        (Placement("qkv", LoraConfig(2), blocks="last 1/2"), Placement("mlp", NormConfig(), blocks="6"))
    ),
    "shallow-prompt-at-4": Design((Placement("block", PromptConfig(2, "shallow"), blocks="4"),)),
    "prefix-from-2": Design((Placement("attention", PrefixConfig(2, "exact"), blocks="2-5"),)),
    "everywhere": Design((ADAPTER,)),
}
SAID = "CUDA out of memory. Tried to allocate 2.00 GiB.\nA second line."


def evaluated(trainer: ProxyTrainer, design: Design, seed: int = SEED) -> tuple[list[Report], Result]:
    *reports, result = trainer.evaluate(design.resolve(DEPTH), seed)
    assert isinstance(result, Result)
    assert all(isinstance(r, Report) for r in reports)
    return reports, result  # type: ignore[return-value]  # as asserted


def outcome(found: tuple[list[Report], Result]) -> tuple[list[Report], float, bytes]:
    return found[0], found[1].accuracy, found[1].weights


def pixels(count: int) -> Tensor:
    """Images of noise (count, 1, 8, 8), a function of their number."""
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(count))


class Small:
    """Memory for so many rows at a time: a function that remembers what it was asked for."""

    def __init__(self, rows: int, work: Callable[[Tensor], Tensor]) -> None:
        self.rows, self.work = rows, work
        self.seen: list[int] = []

    def __call__(self, inputs: Tensor) -> Tensor:
        self.seen.append(len(inputs))
        if len(inputs) > self.rows:
            raise torch.OutOfMemoryError(SAID)
        return self.work(inputs)
