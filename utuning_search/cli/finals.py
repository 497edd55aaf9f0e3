"""`finals`: what a study's confirmations found, without training anything."""

import argparse

from utuning_search.cli.console import PLAIN, console
from utuning_search.cli.finals_display import finals_lines
from utuning_search.cli.ood_display import ood_lines
from utuning_search.cli.picture import wanted
from utuning_search.cli.resilience_display import resilience_lines
from utuning_search.cli.studies import load_study, title_of
from utuning_search.common.counts import counted
from utuning_search.common.errors import StudyError
from utuning_search.results.kept import kept_confirmation
from utuning_search.results.ood.table import read_ood
from utuning_search.results.pictures.finals import save_finals
from utuning_search.results.resilience.table import read_resilience
from utuning_search.search.layout import named


def run(arguments: argparse.Namespace) -> int:
    wanted(arguments)  # before a study is opened
    study = load_study(arguments)
    picture = wanted(arguments, f"{title_of(study)}: finals")
    found, others = kept_confirmation(study)
    if found is None:
        todo = f"Confirm its front: utuning-search confirm {named(study.folder)}"
        raise StudyError(f"study '{study.name}'", "it has finals", "none", todo)
    if picture is not None:
        save_finals(found, picture.path, picture.look, picture.kind)
    troubled = resilience_lines(read_resilience(study.folder))
    for line in (*finals_lines(found), *ood_lines(read_ood(study.folder)), *troubled):
        console.print(line)
    if others:
        console.print(f"{counted(others, 'training')} of other lengths or images are not compared with these.", **PLAIN)
    return 0
