"""The parser of the command line, of what `commands.py` lists; light, as that is."""

from argparse import ArgumentParser
from importlib.metadata import version

from utuning_search.cli.commands import COMMANDS


def make_parser() -> ArgumentParser:
    """A new one, with a sub-parser a command."""
    parser = ArgumentParser(
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
