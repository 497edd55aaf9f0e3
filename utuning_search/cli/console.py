"""Where commands print: rich's console, and how lines and lists look on it."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

PIPED_WIDTH = 160  # columns where nobody's screen says how many: tables in files and pipes stay whole
console = Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)
# For lines with paths, commands or messages: neither broken at the screen's width nor read as markup.
PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}


def listing(name: str, *columns: str) -> Table:
    """A table whose first column is what one types, so it is never cut off; the others wrap."""
    table = Table(box=None, pad_edge=False)
    table.add_column(name, no_wrap=True)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
