"""`completion`: a script that lets a shell complete commands, options and the names that come with the package."""

import argparse
from collections.abc import Iterator

import shtab

from utuning_search.cli.options import COMPARED, FORMATS, LISTED, PREDICTIONS, SHELLS
from utuning_search.cli.parser import make_parser
from utuning_search.cli.streams import say
from utuning_search.common.bundled import bundled
from utuning_search.common.errors import InputError, nearest
from utuning_search.results.exports.formats import FORMATS as EXPORTS
from utuning_search.search.defaults import METRICS, PRUNERS, SAMPLERS

FORMATS_OF = {"front": FORMATS, "predict": PREDICTIONS, "export": tuple(EXPORTS), "confirm": COMPARED}
FILES = ("FILE", "IMAGES", "NAME|FOLDER")  # what options and arguments say that they take
FOLDERS = ("DIR", "FOLDER", "EXPORT")


def run(arguments: argparse.Namespace) -> int:
    if arguments.shell not in SHELLS:
        where, rule = "completion", f"the shell is one of {', '.join(SHELLS)}"
        raise InputError(where, rule, f"'{arguments.shell}'", nearest(arguments.shell, SHELLS))
    parser = make_parser()
    for command, action in _actions(parser):
        _tell(command, action)
    say(shtab.complete(parser, arguments.shell).rstrip())
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """Each command's arguments; argparse has no public way to list them, and shtab goes the same."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, own in action.choices.items():
                yield from ((name, argument) for argument in own._actions)


def _tell(command: str, action: argparse.Action) -> None:
    """Say what can stand there. Mistakes are refused elsewhere, with the nearest name: this parser only completes."""
    named = {
        "--space": tuple(bundled("space")),
        "--task": tuple(bundled("task")),
        "--sampler": SAMPLERS,
        "--pruner": PRUNERS,
        "--metric": METRICS,
        "--format": FORMATS_OF.get(command, LISTED),
        "SPACE": tuple(bundled("space")),
        "TASK": tuple(bundled("task")),
        "SHELL": SHELLS,
    }
    takes = str(action.metavar)
    for word in (*action.option_strings, takes):
        if word in named:
            action.choices = named[word]
            return
    if takes in FILES:
        action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
    elif takes in FOLDERS:
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
