"""Each final is trained with a seed of its own: of its design, its number and its study, and of nothing else."""

from itertools import product
from pathlib import Path
from typing import Any

from utuning_search.common.errors import TrainingError
from utuning_search.data.decoding import Decoding
from utuning_search.designs.design import Design
from utuning_search.designs.presets import parse_presets
from utuning_search.results.final_training import Job, train
from utuning_search.training.runtime import Runtime
from utuning_search.training.task import Task

SEEDS, STUDIES = (0, 1, 2), (0, 1)
DESIGNS = {text: Design(*found) for text in ("lora", "ssf") for found in parse_presets(text).values()}


class Asked:
    """A trainer that keeps the seeds that it is asked for, and trains nothing."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def run(self, design: Design, recipe: object, seed: int, *, augmented: bool) -> Any:
        self.seeds.append(seed)
        raise TrainingError("training", "the loss is finite", (design, recipe, augmented))


def seeds_of(design: Design, study: int, seeds: tuple[int, ...] = SEEDS) -> list[int]:
    task, trainer = Task.load("digits"), Asked()
    job = Job(task, task.recipe, design.resolve(6), seeds, True, study, (Runtime(),), Path("images"), ())
    list(train(trainer, "0123456789ab", 9, Decoding(), 0, job))  # type: ignore[arg-type]  # it is all that is asked of a trainer
    return trainer.seeds


def test_designs_seeds_and_studies_have_seeds_of_their_own() -> None:
    """Designs that shared one would be flattered, or hurt, together, and compared as if they were not."""
    found = [seed for design, study in product(DESIGNS.values(), STUDIES) for seed in seeds_of(design, study)]
    assert len(set(found)) == len(DESIGNS) * len(STUDIES) * len(SEEDS)


def test_what_else_is_trained_decides_no_seed() -> None:
    wanted = seeds_of(DESIGNS["lora"], 0)
    assert [*seeds_of(DESIGNS["lora"], 0, (2,)), *seeds_of(DESIGNS["lora"], 0, (0, 1))] == [wanted[2], *wanted[:2]]


def test_a_known_method_and_an_equal_design_have_the_same() -> None:
    again = Design.from_dict(DESIGNS["ssf"].resolve(6).to_dict())
    assert seeds_of(again, 1) == seeds_of(DESIGNS["ssf"], 1)
