"""What all pictures share: size, colours, axes, and how they are saved."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from utuning_search.common.counts import short
from utuning_search.common.files import write_atomically

FRONT, OTHER, PRUNED, PRESET = "#c2185b", "#607d8b", "#b0bec5", "#1565c0"


def empty() -> tuple[Figure, Axes]:
    """A figure to be written to a file, and its axes."""
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def save(figure: Figure, path: Path) -> None:
    """Write it as a PNG, whatever the file is called."""
    write_atomically(path, lambda place: figure.savefig(place, dpi=150, format="png"))


def dress(axes: Axes, title: str, accuracy: str) -> None:
    """Axes of an accuracy in per cent against trainable parameters, whose axis is logarithmic."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("trainable parameters, head included")
    axes.set_ylabel(accuracy)
    axes.set_title(title)
    axes.grid(alpha=0.25)
