"""What a parser is to the fuzzer, and how a command is asked."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from utuning_search.cli.main import main

from .mutations import Draw


@dataclass(frozen=True)
class Parser:
    """One parser.

    Attributes:
        make: Draws an odd input.
        feed: Gives it to the parser; whatever is raised but the package's own errors is a finding.
    """

    make: Callable[[Draw], Any]
    feed: Callable[[Any], None]


class Untidy(Exception):
    """A command refused its input, but not with one printable line and exit code 2."""


def said(*arguments: str) -> str:
    """What a command prints, refused or not; its refusals are one line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: object = main(arguments)
        except SystemExit as error:  # argparse's way
            return f"{error.code}"
    lines = err.getvalue().encode("utf-8", "backslashreplace").decode().splitlines()  # as the command sets its streams
    errors = [line for line in lines if line.startswith("utuning-search: error: ")]
    if (code, len(errors)) not in ((0, 0), (2, 1)) or not all(line.isprintable() for line in lines):
        raise Untidy(f"exit code {code}, {err.getvalue()[-500:]!r}")
    return out.getvalue()
