"""What `run` and `resume` share: their budget, and a study's way from here to what is next."""

import argparse
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from utuning_search.cli.asked import ended_well
from utuning_search.cli.console import PLAIN, console
from utuning_search.cli.display import Display, front_lines
from utuning_search.cli.launching import check_launcher, launch
from utuning_search.cli.options import image_size, positive, seconds, workers
from utuning_search.cli.stopped import Stopped
from utuning_search.cli.studies import FRONT_PNG, place_of, say_notes, warn_of_skipped, write_results
from utuning_search.results.tables import FRONT_CSV, TRIALS_CSV
from utuning_search.search.budget import Budget
from utuning_search.search.callbacks.logger import Logger
from utuning_search.search.callbacks.registry import logger
from utuning_search.search.defaults import TRIALS
from utuning_search.search.study import Study
from utuning_search.training.runtime import resolve_device
from utuning_search.training.task import Task


def has_backbone(arguments: argparse.Namespace) -> bool:
    """Whether an option of `options.add_backbone` was given."""
    return any(v is not None for v in (arguments.backbone, arguments.checkpoint, arguments.image_size))


def on_backbone(task: Task, arguments: argparse.Namespace) -> Task:
    """The task with the options of `options.add_backbone`."""
    return task.with_backbone(arguments.backbone, arguments.checkpoint, image_size(arguments.image_size))


def loggers_of(arguments: argparse.Namespace) -> list[Logger]:
    """Of `options.add_log`, made before anything else: their libraries and places are looked at."""
    return [logger(text) for text in dict.fromkeys(arguments.log)]


def say_trouble(line: str) -> None:
    """One line on a callback that failed."""
    console.print(f"  warning: {line}", **PLAIN)


def budget_of(arguments: argparse.Namespace, remembered: dict[str, Any]) -> Budget:
    """When to stop; the options of running are checked here too, before anything is written."""
    if arguments.device is not None:
        resolve_device(arguments.device)
    given = {
        "trials": positive(arguments.trials, "--trials"),
        "epochs": positive(arguments.epochs, "--epochs"),
        "seconds": seconds(arguments.time),
    }
    workers(arguments.workers)
    check_launcher(arguments)
    given = {k: v for k, v in given.items() if v is not None}
    known = {f.name for f in fields(Budget)}  # what another version remembers beside them says nothing here
    wanted: dict[str, Any] = given or remembered
    return Budget(**{"trials": None, **{k: v for k, v in wanted.items() if k in known}})


def go(
    study: Study,
    budget: Budget,
    arguments: argparse.Namespace,
    notes: Sequence[str] = (),
    *,
    retry_failed: bool = False,
    loggers: Sequence[Logger] = (),
) -> int:
    """Run a study until its budget is spent, and show what came of it; `notes` are on its images, besides its own.

    After SIGTERM the exit code is 0.

    Raises:
        Stopped: By Ctrl-C.
    """
    return ended_well(lambda: carry_out(study, budget, arguments, notes, retry_failed, loggers))


def carry_out(
    study: Study,
    budget: Budget,
    arguments: argparse.Namespace,
    notes: Sequence[str] = (),
    retry_failed: bool = False,
    loggers: Sequence[Logger] = (),
) -> int:
    """The same, but after SIGTERM it raises Stopped, as after Ctrl-C."""
    warn_of_skipped(study)
    if not arguments.quiet:
        say_notes((*study.notes(), *notes))
    if arguments.launcher:
        if retry_failed:
            study.scheduler.retry_failed()
        finished = launch(study, arguments)
    else:
        with Display(study, quiet=arguments.quiet) as display:
            finished = study.run(
                budget,
                workers=arguments.workers,
                device=arguments.device,
                data_dir=arguments.data_dir,
                retry_failed=retry_failed,
                on_change=display.show,
                callbacks=loggers,
                on_trouble=say_trouble,
                on_loaded=None if arguments.quiet else lambda needs: console.print(f"{needs}", **PLAIN),
            )
    records = study.trials()
    write_results(study, records)
    place = place_of(arguments)
    if not finished:
        raise Stopped(f"resume {study.name}{place}")
    for line in front_lines(study, records):
        console.print(line)
    folder = study.folder
    console.print(f"\nPicture  {folder / FRONT_PNG}\nTables   {folder / TRIALS_CSV}  {folder / FRONT_CSV}", **PLAIN)
    more = 2 * max(budget.trials or TRIALS, 1)
    console.print(
        "Next\n"
        f"  utuning-search confirm {study.name}{place}\n"
        f"  utuning-search export {study.name} --pick knee{place}\n"
        f"  utuning-search front {study.name}{place}\n"
        f"  utuning-search resume {study.name} --trials {more}{place}",
        **PLAIN,
    )
    return 0
