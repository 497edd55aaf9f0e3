"""`resume`: a study goes on."""

import argparse
from typing import Any

from utuning_search.cli.running import budget_of, go, has_backbone, loggers_of, on_backbone
from utuning_search.cli.studies import load_study
from utuning_search.designs.spaces.space import Space
from utuning_search.search.defaults import TRIALS
from utuning_search.training.task import Task


def run(arguments: argparse.Namespace) -> int:
    loggers = loggers_of(arguments)
    changed: dict[str, Any] = {}
    if arguments.space is not None:
        changed["space"] = Space.load(arguments.space)
    if arguments.task is not None or has_backbone(arguments):
        changed["task"] = on_backbone(_task(arguments), arguments)
    for name in ("seed", "sampler"):
        if getattr(arguments, name) is not None:
            changed[name] = getattr(arguments, name)
    study = load_study(arguments, **changed)
    budget = budget_of(arguments, study.budget or {"trials": TRIALS})
    return go(study, budget, arguments, retry_failed=arguments.retry_failed, loggers=loggers)


def _task(arguments: argparse.Namespace) -> Task:
    """The task that a resumed study is believed to have: the one given, else its own."""
    if arguments.task is not None:
        return Task.load(arguments.task)
    return load_study(arguments).spec.task
