"""`worker`: one more process for a study in a database, on this machine or another."""

import argparse
from pathlib import Path

from utuning_search.cli.asked import ended_well
from utuning_search.cli.console import PLAIN, console
from utuning_search.cli.options import STORAGE, seconds
from utuning_search.cli.running import budget_of, carry_out, loggers_of
from utuning_search.cli.studies import load_study
from utuning_search.common.errors import InputError
from utuning_search.common.files import is_there
from utuning_search.common.wording import counted
from utuning_search.results.spread import help_confirm
from utuning_search.search.creation import check_name
from utuning_search.search.defaults import TRIALS
from utuning_search.search.joining import join, patiently
from utuning_search.search.layout import SPEC
from utuning_search.search.storage import is_shared, quiet_optuna


def run(arguments: argparse.Namespace) -> int:
    if not is_shared(arguments.storage):
        todo = f"Give --storage postgresql+psycopg://... or ${STORAGE}; without one: utuning-search resume --workers N"
        rule = "a worker joins a study in a PostgreSQL database"
        raise InputError("--storage", rule, "another" if arguments.storage else "none", todo)
    check_name(arguments.name)
    quiet_optuna()
    return ended_well(lambda: _work(arguments))


def _work(arguments: argparse.Namespace) -> int:
    loggers = loggers_of(arguments)
    wait = seconds(arguments.wait, "--wait") or 0.0
    folder = Path(arguments.studies_dir) / arguments.name
    if not is_there(folder / SPEC):
        with console.status(f"Joining {arguments.name} ..."):
            join(folder, arguments.storage, wait)
    study = patiently(lambda: load_study(arguments), wait)
    budget = budget_of(arguments, study.budget or {"trials": TRIALS})
    if arguments.data_dir and not study.local.get("data_dir"):  # for exports from here
        study.remember(data_dir=str(Path(arguments.data_dir).resolve()))
    code = carry_out(study, budget, arguments, loggers=loggers)
    helped = (
        help_confirm(study, workers=arguments.workers, device=arguments.device, data_dir=arguments.data_dir)
        if not arguments.launcher
        else 0
    )
    if helped:
        console.print(f"Helped to confirm: {counted(helped, 'training')}.", **PLAIN)
    return code
