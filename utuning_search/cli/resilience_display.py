"""What `confirm --corruptions` and `finals` say of corrupted images and flipped bits."""

from collections.abc import Iterable, Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from utuning_search.common.wording import printable
from utuning_search.results.resilience.summary import columns, summary
from utuning_search.results.resilience.table import Hardship


def resilience_lines(rows: Iterable[Hardship]) -> Iterator[RenderableType]:
    """A table of accuracies; nothing where there are no rows."""
    found = list(rows)
    lines = summary(found)
    if not lines:
        return
    title = (
        f"In trouble: accuracy in % on {found[0].test_images:,} corrupted test images at severities 1 / 2 / 3, and "
        "with bits of the tuner flipped at each rate; one training"
    )
    table = Table(title=title, title_justify="left")
    names = columns(lines)
    table.add_column("design", overflow="fold")
    table.add_column("clean", justify="right", no_wrap=True)
    for name in names.values():
        table.add_column(name, justify="right")
    for line in lines:
        cells = (line.cell(trouble) for trouble in names)
        table.add_row(Text(printable(line.name)), f"{100 * line.clean:.1f}", *cells)
    yield table
