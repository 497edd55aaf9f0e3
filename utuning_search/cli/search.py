"""`run` and `resume`."""

import argparse
import sys
from dataclasses import asdict
from typing import Any

from utuning_search.cli.display import PLAIN, Display, console, front_lines
from utuning_search.cli.options import (
    add_backbone,
    add_place,
    add_running,
    has_backbone,
    on_backbone,
    positive,
    seconds,
    workers,
)
from utuning_search.designs.spaces.space import Space
from utuning_search.results.export import parse_count
from utuning_search.results.pictures import save_front
from utuning_search.results.tables import FRONT_CSV, TRIALS_CSV, write_tables
from utuning_search.search.budget import TRIALS, Budget
from utuning_search.search.layout import SPLITS
from utuning_search.search.pruners.pareto import ParetoPruner
from utuning_search.search.samplers.registry import SAMPLERS
from utuning_search.search.study import Study
from utuning_search.training.runtime import resolve_device
from utuning_search.training.task import Task

FRONT_PNG = "front.png"
STOPPED = 130
SHOWN = 3


def add_commands(commands: Any) -> None:
    run = commands.add_parser("run", help="start a study", description="Search a space on a task; a new study.")
    run.add_argument("--space", default="full", metavar="S", help="a bundled space or a .toml file (default: full)")
    run.add_argument("--task", default="digits", metavar="T", help="a bundled task or a .toml file (default: digits)")
    add_backbone(run)
    run.add_argument("--name", metavar="NAME", help="of the study (default: SPACE-TASK)")
    run.add_argument("--seed", type=int, default=0, metavar="N", help="of proposals and training (default: 0)")
    run.add_argument("--sampler", default="tpe", metavar="S", help=f"one of {', '.join(SAMPLERS)} (default: tpe)")
    text = "try a known method first, such as adapter-plus:rank=4; commas, several times, or all"
    run.add_argument("--preset", action="append", default=[], metavar="P", help=text)
    text = "train no design with more trainable parameters, head included, such as 50000, 50k or 1.2M"
    run.add_argument("--max-params", metavar="N", help=text)
    run.add_argument("--no-pruning", action="store_true", help="train every trial to its last epoch")
    run.add_argument("--precision", default="auto", metavar="P", help="auto, fp32 or bf16 (default: auto)")
    add_place(run, name=False)
    add_running(run)
    run.set_defaults(run=run_command)

    resume = commands.add_parser(
        "resume", help="go on with a study", description="Go on with a study; its spec cannot change, its budget can."
    )
    add_place(resume, name=True)
    add_running(resume)
    for option in ("--space", "--task", "--sampler"):
        resume.add_argument(option, metavar="X", help="refused with the difference if the study has another")
    add_backbone(resume)
    resume.add_argument("--seed", type=int, metavar="N", help="likewise")
    resume.set_defaults(run=resume_command)


def run_command(arguments: argparse.Namespace) -> int:
    budget = _budget(arguments, {"trials": TRIALS} if not (arguments.epochs or arguments.time) else {})
    with console.status("Loading backbone and data ..."):
        study = Study.create(
            arguments.space,
            on_backbone(Task.load(arguments.task), arguments),
            name=arguments.name,
            studies_dir=arguments.studies_dir,
            storage=arguments.storage,
            seed=arguments.seed,
            sampler=arguments.sampler,
            pruner=None if arguments.no_pruning else ParetoPruner(),
            precision=arguments.precision,
            device=arguments.device or "auto",
            data_dir=arguments.data_dir,
            presets=arguments.preset,
            max_parameters=None if arguments.max_params is None else parse_count(arguments.max_params, "--max-params"),
        )
    study.remember(budget={k: v for k, v in asdict(budget).items() if v is not None})
    return _go(study, budget, arguments)


def resume_command(arguments: argparse.Namespace) -> int:
    changed: dict[str, Any] = {}
    if arguments.space is not None:
        changed["space"] = Space.load(arguments.space)
    if arguments.task is not None or has_backbone(arguments):
        changed["task"] = on_backbone(_task(arguments), arguments)
    for name in ("seed", "sampler"):
        if getattr(arguments, name) is not None:
            changed[name] = getattr(arguments, name)
    study = Study.load(arguments.name, studies_dir=arguments.studies_dir, storage=arguments.storage, **changed)
    budget = _budget(arguments, study.local.get("budget", {"trials": TRIALS}))
    return _go(study, budget, arguments)


def warn_of_skipped(study: Study) -> None:
    """One line on images that could not be read, if there were any."""
    skipped = [f"{name} ({why})" for name, why in study.skipped().items()]
    if skipped:
        names = "; ".join(skipped[:SHOWN]) + (f"; all are named in {study.folder / SPLITS}" if skipped[SHOWN:] else "")
        images = "image that cannot be read was" if len(skipped) == 1 else "images that cannot be read were"
        print(f"utuning-search: warning: {len(skipped)} {images} left out: {names}", file=sys.stderr)


def _task(arguments: argparse.Namespace) -> Task:
    """The task that a resumed study is believed to have: the one given, else its own."""
    if arguments.task is not None:
        return Task.load(arguments.task)
    return Study.load(arguments.name, studies_dir=arguments.studies_dir, storage=arguments.storage).spec.task


def _budget(arguments: argparse.Namespace, remembered: dict[str, Any]) -> Budget:
    """When to stop; the options of running are checked here too, before anything is written."""
    if arguments.device is not None:
        resolve_device(arguments.device)
    given = {
        "trials": positive(arguments.trials, "--trials"),
        "epochs": positive(arguments.epochs, "--epochs"),
        "seconds": seconds(arguments.time),
    }
    workers(arguments.workers)
    given = {k: v for k, v in given.items() if v is not None}
    return Budget(**{"trials": None, **(given or remembered)})


def _go(study: Study, budget: Budget, arguments: argparse.Namespace) -> int:
    warn_of_skipped(study)
    with Display(study, quiet=arguments.quiet) as display:
        finished = study.run(
            budget,
            workers=arguments.workers,
            device=arguments.device,
            data_dir=arguments.data_dir,
            on_change=display.show,
        )
    records = study.trials()
    write_tables(study)
    save_front(records, f"{study.spec.space.name} on {study.spec.task.name}", study.folder / FRONT_PNG)
    place = "" if arguments.studies_dir == "studies" else f" --studies-dir {arguments.studies_dir}"
    place += " --storage URL" if arguments.storage else ""
    if not finished:
        console.print(
            f"\nStopped; all that was finished is kept. Go on with:\n  utuning-search resume {study.name}{place}",
            **PLAIN,
        )
        return STOPPED
    for line in front_lines(study, records):
        console.print(line)
    folder = study.folder
    console.print(f"\nPicture  {folder / FRONT_PNG}\nTables   {folder / TRIALS_CSV}  {folder / FRONT_CSV}", **PLAIN)
    more = 2 * max(budget.trials or TRIALS, 1)
    console.print(
        "Next\n"
        f"  utuning-search export {study.name} --pick knee{place}\n"
        f"  utuning-search front {study.name}{place}\n"
        f"  utuning-search resume {study.name} --trials {more}{place}",
        **PLAIN,
    )
    return 0
