"""Where commands print: rich's console, and how lines and lists look on it."""

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from utuning_search.common.text import visible

PIPED_WIDTH = 160  # columns where nobody's screen says how many: tables in files and pipes stay whole


class _Console(Console):
    """Prints text that others wrote, such as names and descriptions: no markup in it counts, nor control characters."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


_LITERAL: dict[str, Any] = {"markup": False, "emoji": False}
console = _Console(**_LITERAL) if sys.stdout.isatty() else _Console(width=PIPED_WIDTH, **_LITERAL)
errors = _Console(stderr=True, **_LITERAL)  # for what is no part of a command's answer
# For lines with paths, commands or messages: neither broken at the screen's width nor coloured.
PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True}


def listing(name: str, *columns: str) -> Table:
    """A table whose first column is what one types, so it is never cut off; the others wrap."""
    table = Table(box=None, pad_edge=False)
    table.add_column(name, no_wrap=True)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
