"""`repair`: leave out of a damaged journal what cannot be read, or cut it where the rest means nothing without it."""

import argparse
import shlex
from pathlib import Path

from utuning_search.cli.console import PLAIN, console
from utuning_search.cli.studies import place_of
from utuning_search.common.counts import counted
from utuning_search.search.journal_repair import repair_journal
from utuning_search.search.storage import JOURNAL


def run(arguments: argparse.Namespace) -> int:
    path = Path(arguments.studies_dir) / arguments.name / JOURNAL
    found = repair_journal(path)
    if found.damaged is None:
        console.print(f"{path}: sound, nothing to repair; {counted(found.kept, 'trial')}.", **PLAIN)
        return 0
    done = [f"{counted(found.left_out, 'line')} left out"] if found.left_out else []
    done += [f"{counted(found.cut, 'byte')} cut off"] if found.cut else []
    lost = "none lost" if not found.lost else f"{found.lost} lost, whose designs are tried again"
    console.print(f"{path}: {counted(found.kept, 'trial')} kept, {lost}.", **PLAIN)
    console.print(f"{' and '.join(done)}; kept in {found.damaged.name}.", **PLAIN)
    console.print(f"Go on with: utuning-search resume {shlex.quote(arguments.name)}{place_of(arguments)}", **PLAIN)
    return 0
