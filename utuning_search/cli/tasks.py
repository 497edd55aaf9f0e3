"""`tasks`: which tasks there are, and what one is."""

import argparse

from utuning_search.cli.console import PLAIN, console, listing
from utuning_search.cli.json_output import say_json
from utuning_search.cli.options import JSON, LISTED, check_format
from utuning_search.common.bundled import bundled, find
from utuning_search.training.task import Task


def run(arguments: argparse.Namespace) -> int:
    check_format(arguments.format, LISTED)
    if arguments.format == JSON:
        say_json(_entry(arguments.name) if arguments.name else [_entry(name) for name in bundled("task")])
        return 0
    if arguments.name:
        console.print(find("task", arguments.name).read_text(encoding="utf-8"), **PLAIN)
        return 0
    table = listing("task", "backbone", "data", "proxy / validation", "epochs", "what it is")
    for name in bundled("task"):
        task = Task.load(name)
        trained = f"{task.data.shots} a class" if task.data.shots else task.data.proxy
        split = f"{trained} / {task.data.validation}"
        data = task.data.dataset or task.data.source
        table.add_row(name, task.backbone.name, data, split, str(task.recipe.epochs), task.description)
    console.print(table)
    console.print("Source, licence, layout and cost of one: utuning-search tasks NAME")
    return 0


def _entry(name: str) -> dict[str, object]:
    """What --format json prints of a task."""
    task = Task.load(name)
    return {
        "name": task.name,
        "description": task.description,
        "backbone": task.backbone.name,
        "checkpoint": task.backbone.checkpoint,
        "image_size": task.backbone.image_size,
        "source": task.data.source,
        "dataset": task.data.dataset,
        "proxy": None if task.data.shots else task.data.proxy,
        "shots": task.data.shots or None,
        "validation": task.data.validation,
        "epochs": task.recipe.epochs,
        "rungs": task.recipe.rungs,
    }
