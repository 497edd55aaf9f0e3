"""`run`: a new study."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from utuning_search.cli.console import PLAIN, console
from utuning_search.cli.options import shots
from utuning_search.cli.running import budget_of, go, loggers_of, on_backbone, say_trouble
from utuning_search.cli.studies import say_survey
from utuning_search.common.counts import parse_count
from utuning_search.common.errors import DataError, InputError
from utuning_search.common.wording import counted, listed
from utuning_search.data.looking import look_at
from utuning_search.data.spec import OWN
from utuning_search.results.metrics import checked
from utuning_search.results.permitted import look_ahead
from utuning_search.search.defaults import OBJECTIVES, OWN_TASK, TASK, TRIALS
from utuning_search.search.samplers.registry import sampler_for
from utuning_search.search.spec import exact_objective
from utuning_search.search.storage import quiet_optuna
from utuning_search.search.study import Study
from utuning_search.training.context import SearchContext, pinned
from utuning_search.training.task import Task


def run(arguments: argparse.Namespace) -> int:
    quiet_optuna()
    objectives = _objectives(arguments)
    budget = budget_of(arguments, {"trials": TRIALS} if not (arguments.epochs or arguments.time) else {})
    remembered = {k: v for k, v in asdict(budget).items() if v is not None}
    loggers = loggers_of(arguments)
    notes: list[str] = []
    with console.status("Loading backbone and data ..."):
        task = on_backbone(Task.load(arguments.task or (OWN_TASK if arguments.data else TASK)), arguments)
        task = pinned(task, say_trouble)
        data_dir = arguments.data_dir
        if arguments.data:
            found = look_at(Path(arguments.data))
            task, data_dir = task.on_data(found, data_dir)
            if not arguments.quiet:
                say_survey(found)
        task = task if arguments.ood is None else task.with_ood(arguments.ood)
        task = task if arguments.shots is None else task.with_shots(shots(arguments.shots))
        study = Study.create(
            arguments.space,
            task,
            name=arguments.name,
            studies_dir=arguments.studies_dir,
            storage=arguments.storage,
            artifacts=arguments.artifacts,
            seed=arguments.seed,
            sampler=sampler_for(arguments.sampler, budget.trials),
            pruner="none" if arguments.no_pruning else arguments.pruner,
            objectives=objectives,
            precision=arguments.precision,
            device=arguments.device or "auto",
            data_dir=data_dir,
            presets=arguments.preset,
            max_parameters=None if arguments.max_params is None else parse_count(arguments.max_params, "--max-params"),
            limits=_limits(arguments.limit),
            budget=remembered,
            examine=lambda context: notes.extend(_look_ahead(task, context, data_dir)),
        )
    if task.data.source in OWN and not arguments.data and not arguments.quiet:
        console.print(f"{counted(len(study.classes), 'class')}: {listed(study.classes)}", **PLAIN)
    study.remember(budget=remembered)
    return go(study, budget, arguments, notes, loggers=loggers)


def _objectives(arguments: argparse.Namespace) -> list[str]:
    if arguments.metric is None:
        return [name.strip() for name in (arguments.objectives or ",".join(OBJECTIVES)).split(",")]
    if arguments.objectives is not None:
        todo = "Name it among the --objectives."
        raise InputError("--metric", "it is given without --objectives", arguments.objectives, todo)
    return [checked(arguments.metric), *OBJECTIVES[1:]]


def _look_ahead(task: Task, context: SearchContext, data_dir: str | None) -> Sequence[str]:
    """What is odd about the test images; a search needs none, so that what finals will refuse is a note too."""
    try:
        return look_ahead(task, context, data_dir)
    except (DataError, InputError) as error:
        return (f"a search can be run, but not confirmed: {error}",)


def _limits(given: list[str]) -> dict[str, float]:
    """Limits of exact objectives by name, of "flops=3G" and the like."""
    found: dict[str, float] = {}
    for text in given:
        name, _, value = text.partition("=")
        if not value:
            raise InputError("--limit", "a limit is written like flops=3G", f"'{text}'")
        found[exact_objective(name, "--limit").name] = parse_count(value, f"--limit {name}")
    return found
