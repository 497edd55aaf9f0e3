"""The parser of the command line, of what `commands.py` lists; light, as that is."""

from argparse import ArgumentParser
from importlib.metadata import version
from typing import Any, NoReturn

from utuning_search.cli.commands import COMMANDS
from utuning_search.common.text import visible


class _Parser(ArgumentParser):
    """Repeats what was typed on one line, and nothing of it that a terminal would obey."""

    def error(self, message: str) -> NoReturn:
        super().error(" ".join(message.splitlines()))

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(visible(message), file)


def make_parser() -> ArgumentParser:
    """A new one, with a sub-parser a command."""
    parser = _Parser(
        prog="utuning-search",
        description="Search parameter-efficient tuner designs for a frozen vision transformer.",
        epilog="Start with: utuning-search run --space full",
    )
    parser.add_argument("--version", action="version", version=f"utuning-search {version('utuning-search')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        own = commands.add_parser(name, help=command.help, description=command.description or None)
        command.add_options(own)
    return parser
