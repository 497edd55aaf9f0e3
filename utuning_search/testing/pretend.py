"""Studies whose trainings are pretended: everything of a search but the training, in memory and in milliseconds."""

import math
from collections.abc import Iterator
from typing import Any

import optuna

from utuning_search.common.seeds import derive_seed
from utuning_search.designs.design import Design
from utuning_search.designs.spaces.space import Space
from utuning_search.search.checkpoints import Checkpoints
from utuning_search.search.objectives.base import Setting
from utuning_search.search.objectives.registry import USUAL, Objectives, objective
from utuning_search.search.pruners.base import Pruner
from utuning_search.search.pruners.pareto import ParetoPruner
from utuning_search.search.running import Next, Running
from utuning_search.search.samplers.base import Sampler
from utuning_search.search.samplers.wrapped import RandomSampler
from utuning_search.search.scheduler import Scheduler
from utuning_search.search.spec import StudySpec
from utuning_search.search.trials import TrialRecord
from utuning_search.training.proxy import Report, Result
from utuning_search.training.task import Task
from utuning_search.tuners import BackboneShape

SHAPE = BackboneShape(
    dim=64,
    depth=6,
    num_heads=4,
    head_dim=16,
    hidden=256,
    hidden_in=256,
    parameters=305_000,
    grid=(4, 4),
    prefix_tokens=1,
    flops_outside=8_192,
)
SETTING = Setting(SHAPE, 10)
SPACE: dict[str, Any] = {
    "name": "pretend",
    "presets": ["linear-probe", "adapter"],
    "learning_rate": [0.005, 0.001, 0.02],
    "slots": [
        {
            "name": "mlp",
            "operation": ["mlp", "attention"],
            "tuner": ["none", "adapter", "norm"],
            "form": ["sequential", "parallel"],
            "rank": {"low": 1, "high": 64, "log": True},
            "blocks": ["all", "last 1/2", "last 1", "first 1"],
        },
        {"name": "qkv", "operation": "qkv", "tuner": ["none", "lora", "bias"], "rank": [1, 4, 16], "blocks": ["all"]},
    ],
}
WORST, SPAN, NOISE = 0.5, 0.45, 0.03


class PretendStudy:
    """A study in memory; `play` tries designs, and a second object on the same `storage` goes on with it.

    Args:
        sampler: Proposes.
        pruner: Prunes.
        objectives: Of the study.
        space: Searched.
        seed: Of the study.
        storage: Of Optuna; None for a new one in memory.
        limits: See `StudySpec`.
        checkpoints: Where those of its trials lie; None keeps none.
    """

    def __init__(
        self,
        sampler: Sampler = RandomSampler(),
        pruner: Pruner = ParetoPruner(),
        objectives: Objectives = USUAL,
        *,
        space: Space | None = None,
        seed: int = 0,
        storage: optuna.storages.BaseStorage | None = None,
        limits: tuple[tuple[str, float], ...] = (),
        checkpoints: Checkpoints | None = None,
    ) -> None:
        task = Task.load("digits")
        self.spec = StudySpec(
            space or Space.from_dict(SPACE), task, seed, sampler, pruner, "fp32", "none", (), limits, objectives
        )
        self.storage = storage or optuna.storages.InMemoryStorage()
        self.optuna = optuna.create_study(
            study_name="pretend", storage=self.storage, directions=objectives.directions, load_if_exists=True
        )
        self.weights: list[int] = []

        def keep_weights(number: int, weights: bytes) -> None:
            del weights
            self.weights.append(number)

        self.scheduler = Scheduler(self.optuna, self.storage, self.spec, SETTING, "owner", keep_weights, checkpoints)

    def play(self, trials: int) -> list[TrialRecord]:
        """Settle so many more trials; all records."""
        wanted = self.scheduler.history.settled + trials
        while self.scheduler.history.settled < wanted:
            running, step = self.scheduler.ask()
            if step is Next.TRAIN:
                self.train(running)
        return self.scheduler.records()

    def train(self, running: Running) -> None:
        """What workers would report of a trial, from its rungs to its end."""
        for report in self.reports(running.design):
            if not self.scheduler.rung(running, report):
                self.scheduler.pruned(running, 1.0)
                return
        last = self.reported(running.design, self.spec.task.recipe.epochs)
        accuracy = last.pop("accuracy")
        self.scheduler.done(running, Result(accuracy, b"", 1.0, 1, {**last, **self._finished(running.design)}))

    def reports(self, design: Design) -> Iterator[Report]:
        recipe = self.spec.task.recipe
        for epoch in (*recipe.rungs, recipe.epochs):
            values = self.reported(design, epoch)
            yield Report(epoch, values.pop("accuracy"), 1.0, 1, values)

    def reported(self, design: Design, epoch: int) -> dict[str, float]:
        """Pretended figures of merit at an epoch by name, a function of the design alone."""
        share = pretended_accuracy(design, epoch / self.spec.task.recipe.epochs)
        at_rungs = [o for o in self.spec.objectives.measured if o.at_rungs]
        return {"accuracy": share, **{o.name: pretended(o.name, design, share) for o in at_rungs}}

    def _finished(self, design: Design) -> dict[str, float]:
        later = [o for o in self.spec.objectives.measured if not o.at_rungs]
        return {o.name: pretended(o.name, design, pretended_accuracy(design, 1.0)) for o in later}


def pretended_accuracy(design: Design, progress: float) -> float:
    """Grows with the design's size and with training, with noise of its own."""
    size = math.log(design.num_parameters(SHAPE, SETTING.num_classes)) / math.log(SHAPE.parameters)
    noise = derive_seed(0, design.key) / 2**31 - 0.5
    return float(min(max(WORST + SPAN * size * progress**0.3 + NOISE * noise, 0.0), 1.0))


def pretended(name: str, design: Design, accuracy: float) -> float:
    """A value of any measured objective between its bounds."""
    if name == "accuracy":
        return accuracy
    worst, best = objective(name).bounds(SETTING)
    place = min(max(0.9 * accuracy + 0.1 * derive_seed(1, f"{name} {design.key}") / 2**31, 0.0), 1.0)
    return float(worst + (best - worst) * place)
