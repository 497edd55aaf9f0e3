"""The tasks of TunerBench: all on the embedded backbone at 8 pixels, each small enough to be trained by the thousand.

A result is a function of (task, runtime, design, seed), so a design is trained once and looked up ever after.
"""

from dataclasses import replace

from utuning_search.data.spec import DataSpec
from utuning_search.training.recipe import Recipe
from utuning_search.training.task import Task

DIGITS = Task.load("digits")


def _task(name: str, data: DataSpec, epochs: int, batch: int, rungs: tuple[int, ...]) -> Task:
    recipe = Recipe(epochs=epochs, batch_size=batch, learning_rate=0.005, rungs=rungs)
    return Task(name, DIGITS.backbone, data, recipe)


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _task("digits-200", replace(DIGITS.data, proxy=200, validation=800), 16, 32, (1, 2, 4, 8)),
        DIGITS,
        _task(
            "fashion",
            DataSpec("torchvision", proxy=400, validation=800, dataset="FashionMNIST"),
            10,
            32,
            (1, 2, 5),
        ),
    )
}
