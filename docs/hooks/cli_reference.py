"""MkDocs hook: the commands and their options, from the parsers that read them, in place of a line `<!-- cli -->`."""

from argparse import Action, ArgumentParser
from collections.abc import Iterator
from typing import Any

from utuning_search.cli.commands import COMMANDS, Command

MARK = "<!-- cli -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs with each page."""
    return markdown.replace(MARK, reference()) if MARK in markdown else markdown


def reference() -> str:
    """A section a command, as Markdown."""
    return "\n".join(line for name, command in COMMANDS.items() for line in section(name, command))


def section(name: str, command: Command) -> Iterator[str]:
    """Heading, purpose, usage, and a table of what can be given."""
    parser = ArgumentParser(prog=f"utuning-search {name}", add_help=False)
    command.add_options(parser)
    text = command.description or f"{command.help[0].upper()}{command.help[1:]}."
    yield from (f"## {name}", "", text, "", "```text", parser.format_usage().strip(), "```", "")
    yield from ("| argument | meaning |", "|---|---|")
    for action in parser._actions:  # argparse has no public way to list them
        yield f"| {spelling(action)} | {cell(action.help or '')} |"
    yield ""


def spelling(action: Action) -> str:
    """As it is typed: the option's names with what they take, or the place holder."""
    takes = str(action.metavar or action.dest).replace("|", "\\|")
    if not action.option_strings:
        return f"`{takes}`"
    value = "" if action.nargs == 0 else f" {takes}"
    return ", ".join(f"`{option}{value}`" for option in action.option_strings)


def cell(text: str) -> str:
    """Plain text in a cell of a table."""
    for character in "|<>*_$":
        text = text.replace(character, f"&#{ord(character)};")
    return text.replace("%%", "%")
