"""What `confirm --ood` and `finals` say of unknown images."""

from collections.abc import Iterable, Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from utuning_search.common.wording import printable
from utuning_search.results.ood.figures import Detection
from utuning_search.results.ood.summary import columns, figure, summary


def ood_lines(rows: Iterable[Detection], notes: Iterable[str] = ()) -> Iterator[RenderableType]:
    """A table of AUROC and FPR at 95% TPR by each score, and notes; nothing where there are no rows."""
    found = list(rows)
    lines = summary(found)
    if not lines:
        return
    names = columns(lines)
    seeds = max(row.seeds for row in found)
    title = (
        f"Unknown images against {found[0].test_images:,} test images: AUROC / FPR at 95% TPR in %, "
        f"mean of {'1 seed' if seeds == 1 else f'{seeds} seeds'}"
    )
    table = Table(title=title, title_justify="left")
    for name in ("unknown images", "design", "method"):
        table.add_column(name, overflow="fold")
    for name in ("accuracy", *names.values()):
        table.add_column(name, justify="right", no_wrap=True)
    for line in lines:
        count = next(iter(line.scores.values())).outlier_images
        cells = (figure(line.scores.get(score)) for score in names)
        words = (Text(printable(word)) for word in (f"{line.outliers} ({count:,})", line.name, line.method))
        table.add_row(*words, f"{100 * line.accuracy:.1f}%", *cells)
    yield table
    yield from (Text(f"note: {printable(note)}") for note in notes)
