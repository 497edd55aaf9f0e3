"""`report`: a study as one HTML file."""

import argparse
from pathlib import Path

from utuning_search.cli.console import PLAIN, console
from utuning_search.cli.studies import load_study
from utuning_search.common.errors import InputError
from utuning_search.results.report.write import write_report

REPORT = "report.html"


def run(arguments: argparse.Namespace) -> int:
    if arguments.out is not None and Path(arguments.out).suffix not in (".html", ".htm"):
        raise InputError("--out", "it names a file that ends with .html", f"'{arguments.out}'")
    study = load_study(arguments)
    path = study.folder / REPORT if arguments.out is None else Path(arguments.out)
    write_report(study, path)
    console.print(f"Report  {path}", **PLAIN)
    return 0
