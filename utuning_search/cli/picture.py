"""The options of a picture that is written into a file."""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

from utuning_search.common.errors import InputError
from utuning_search.results.pictures.figure import WIDTH, Look, format_of


@dataclass(frozen=True)
class Wanted:
    """A picture that was asked for.

    Attributes:
        path: The file.
        kind: Its format, one of `figure.FORMATS`.
        look: How it is to look.
    """

    path: Path
    kind: str
    look: Look


def wanted(arguments: argparse.Namespace, usual_title: str = "") -> Wanted | None:
    """What `options.add_picture` reads; None where no file is named.

    Raises:
        InputError: A file, format or width that cannot be.
    """
    png = getattr(arguments, "png", None)
    option, name = ("--png", png) if arguments.out is None else ("--out", arguments.out)
    if name is None:
        for given in ("width", "title"):
            if getattr(arguments, given) is not None:
                raise InputError(f"--{given}", "it is of a picture, which --out FILE names", "no --out")
        return None
    path = Path(name)
    if not path.name:
        raise InputError(option, "it names a file", f"'{name}'")
    kind = "png" if option == "--png" else format_of(path, option)
    title = usual_title if arguments.title is None else arguments.title
    return Wanted(path, kind, Look(title, _width(arguments.width)))


def _width(text: str | None) -> float:
    """Millimetres, from 80 or 80mm."""
    if text is None:
        return WIDTH
    try:
        found = float(text.removesuffix("mm"))
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise InputError("--width", "it is in millimetres, such as 80", f"'{text}'")
    return found
