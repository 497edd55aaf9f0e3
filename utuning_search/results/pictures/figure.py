"""What all pictures share: size, colours, axes, and how they are saved."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from utuning_search.common.counts import short
from utuning_search.common.files import write_atomically

FRONT, OTHER, PRUNED, PRESET = "#c2185b", "#607d8b", "#b0bec5", "#1565c0"


PARAMETERS = "trainable parameters, head included"


def empty(panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure to be written to a file, and its axes, side by side."""
    figure = Figure(figsize=(9 if panels == 1 else 7 * panels, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def save(figure: Figure, path: Path) -> None:
    """Write it as a PNG, whatever the file is called."""
    write_atomically(path, lambda place: figure.savefig(place, dpi=150, format="png"))


def dress(axes: Axes, title: str, x: str, y: str, *, log: bool = True) -> None:
    """Labels of both axes; a logarithmic x counts in shorthand."""
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value) if value >= 1 else f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title)
    axes.grid(alpha=0.25)
