"""One search on a task of TunerBench: the product's own trial flow, with trainings that are looked up."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import optuna

from tunerbench.live import ENDED, Curve, Curves
from utuning_search.designs.design import Design
from utuning_search.designs.spaces.space import Space
from utuning_search.search.objectives.base import Setting
from utuning_search.search.objectives.cost import full_fine_tuning
from utuning_search.search.objectives.registry import USUAL
from utuning_search.search.pareto import hypervolume
from utuning_search.search.pruners.base import Pruner
from utuning_search.search.running import Next, Running
from utuning_search.search.samplers.base import Sampler
from utuning_search.search.scheduler import Scheduler
from utuning_search.search.spec import StudySpec
from utuning_search.testing.pretend import SHAPE as PRETENDED
from utuning_search.training.proxy import Report, Result

SHAPE = replace(PRETENDED, parameters=301_504)  # the embedded backbone's, without loading it
SETTING = Setting(SHAPE, 10)
STUCK = 100  # proposals in a row that trained nothing


def cold() -> Space:
    """`full` without known methods to begin with: what a sampler of another package starts from."""
    raw: dict[str, Any] = {**Space.load("full").raw, "presets": []}
    return Space.from_dict(raw)


@dataclass(frozen=True)
class Point:
    """A design that was trained to the end: when, how good, how large."""

    epochs: int
    accuracy: float
    parameters: int
    design: str = ""


@dataclass
class Played:
    """What a search spent and found."""

    epochs: int = 0
    trials: int = 0
    points: list[Point] = field(default_factory=list)


class Box:
    """The box of a task's hypervolume: from the linear probe's accuracy and size to 100% and full fine-tuning."""

    def __init__(self, curves: Curves) -> None:
        rate = curves.task.recipe.learning_rate
        self.floor = last(curves.of(Design((), rate)))
        self.least, self.most = SETTING.shape.dim * 10 + 10, full_fine_tuning(SETTING)

    def volume(self, points: Sequence[Point]) -> float:
        """Share of the box that the points dominate."""
        span = math.log(self.most / self.least)
        rows = [
            ((p.accuracy - self.floor) / (1 - self.floor), math.log(self.most / p.parameters) / span) for p in points
        ]
        return hypervolume(rows) if rows else 0.0

    def course(self, points: Sequence[Point], at: Sequence[int]) -> list[float]:
        """The volume after each of some numbers of epochs."""
        return [self.volume([p for p in points if p.epochs <= epochs]) for epochs in at]


def last(curve: Curve) -> float:
    """Accuracy after the last epoch; 0 where the training failed."""
    return 0.0 if ENDED in curve else curve[max(curve)]


def play(
    curves: Curves,
    space: Space,
    sampler: Sampler,
    pruner: Pruner,
    rungs: Sequence[int],
    seed: int,
    budget: int,
    rates: str = "own",
) -> Played:
    """Search until so many epochs are spent.

    Args:
        curves: Of the task.
        space: Searched.
        sampler, pruner: Of the study.
        rungs: Epochs at which the pruner is asked; among those of the task.
        seed: Of the study.
        budget: Epochs.
        rates: Of known methods, see `StudySpec`.
    """
    task = replace(curves.task, recipe=replace(curves.task.recipe, rungs=tuple(rungs)))
    limits = (("parameters", full_fine_tuning(SETTING)),)  # nothing larger adds to the volume
    spec = StudySpec(space, task, seed, sampler, pruner, "fp32", "none", (), limits, rates=rates)
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(study_name="play", storage=storage, directions=USUAL.directions)
    scheduler = Scheduler(study, storage, spec, SETTING, "owner", lambda *_: None)
    found, idle = Played(), 0
    while found.epochs < budget and idle < STUCK:
        running, step = scheduler.ask()
        idle += 1
        if step is Next.TRAIN:
            idle = 0
            _train(scheduler, running, curves.walk(running.design), found)
    return found


def _train(scheduler: Scheduler, running: Running, curve: Iterator[tuple[int, float]], found: Played) -> None:
    recipe = scheduler.spec.task.recipe
    found.trials += 1
    before = 0
    for epoch, accuracy in curve:
        if epoch == ENDED:
            break
        found.epochs, before = found.epochs + epoch - before, epoch
        if epoch not in (*recipe.rungs, recipe.epochs):
            continue
        go_on = scheduler.rung(running, Report(epoch, accuracy, 0.0))
        if epoch == recipe.epochs:
            scheduler.done(running, Result(accuracy, b"", 1.0))
            found.points.append(Point(found.epochs, accuracy, running.parameters, str(running.design)))
            return
        if not go_on:
            scheduler.pruned(running, 1.0)
            return
    found.epochs += 1
    scheduler.failed(running, "the loss is not finite", 1.0)
