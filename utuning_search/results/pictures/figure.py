"""What all pictures share: sizes and colours, axes, the key below them, and how they are saved."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullFormatter

from utuning_search.common.counts import short
from utuning_search.common.errors import InputError
from utuning_search.common.files import write_atomically

FRONT, OTHER, PRUNED, PRESET = "#c2185b", "#607d8b", "#90a4ae", "#1565c0"
PARAMETERS = "trainable parameters, head included"
MM = 1 / 25.4  # inches
WIDTH = 160.0  # of a picture, mm: a page's text
NARROWEST, WIDEST = 60.0, 400.0
SIDE_BY_SIDE = 120.0  # narrower than that, panels stand below each other
TEXT, SMALL = 7.0, 6.0  # points, whatever the width: as a caption, and as what may be smaller than it
KEY_COLUMN = 38.0  # mm that an entry of the key takes
LETTER = 1.15  # mm, the width of a small one on average
LINE = 1.4 * SMALL / 72  # inches, the height of a line below the axes
DPI = 250
FORMATS = ("png", "pdf", "svg")
# Letters stay letters: fonts are embedded as TrueType, which publishers ask for, and an SVG's text can be edited.
Entry = tuple[Artist | Container, str]  # a marker and what it means
_SAVED: Any = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "utuning-search"}
_UNDATED = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}  # the same picture is the same file


@dataclass(frozen=True)
class Look:
    """How a picture is to look.

    Attributes:
        title: Above it; empty for none, as in a paper, where the caption says it.
        width: In millimetres. Text has the same size at any width.
    """

    title: str = ""
    width: float = WIDTH

    def __post_init__(self) -> None:
        if not NARROWEST <= self.width <= WIDEST:
            raise InputError("--width", f"a width is {NARROWEST:g} to {WIDEST:g} mm", f"{self.width:g}")


def format_of(path: Path, where: str = "--out") -> str:
    """The format that a file's name asks for."""
    found = path.suffix.removeprefix(".").lower()
    if found not in FORMATS:
        raise InputError(where, f"it names a file that ends with {', '.join(f'.{f}' for f in FORMATS)}", f"'{path}'")
    return found


def empty(look: Look, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure to be written to a file, and its axes: side by side, or below each other where it is narrow."""
    rows, columns = (1, panels) if panels == 1 or look.width / panels >= SIDE_BY_SIDE / 2 else (panels, 1)
    height = look.width / columns * (0.62 if columns == 1 and look.width > SIDE_BY_SIDE else 0.75)
    figure = Figure(figsize=(look.width * MM, height * rows * MM), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=2 * MM, h_pad=1 * MM)  # type: ignore[union-attr,call-arg]  # the constrained one's
    FigureCanvasAgg(figure)
    if look.title:
        figure.suptitle(look.title, fontsize=TEXT + 1, wrap=True)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def save(figure: Figure, path: Path, kind: str = "png") -> None:
    """Write it in a format of `FORMATS`, whatever the file is called."""
    with matplotlib.rc_context(_SAVED):
        write_atomically(path, lambda place: figure.savefig(place, format=kind, metadata=_UNDATED[kind]))


def dress(axes: Axes, x: str, y: str, *, log: bool = True) -> None:
    """Labels and ticks of both axes, once their limits stand; a logarithmic x counts in shorthand."""
    axes.tick_params(labelsize=SMALL, width=0.5, length=2.5)
    axes.tick_params(which="minor", width=0.4, length=1.5)
    if log:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        ticks = _ticks(low, high, axes.get_position().width * axes.figure.get_figwidth() / MM)  # type: ignore[union-attr]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FixedFormatter([short(t) if t >= 1 else f"{t:g}" for t in ticks]))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(x, fontsize=TEXT)
    axes.set_ylabel(y, fontsize=TEXT)
    axes.grid(alpha=0.25, linewidth=0.5)
    for side, spine in axes.spines.items():
        spine.set_linewidth(0.5)
        spine.set_visible(side in ("left", "bottom"))


def _ticks(low: float, high: float, width: float) -> list[float]:
    """Round numbers between the limits: as many as fit into so many millimetres, and two at least."""
    for steps in ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [float(t) for t in LogLocator(subs=steps, numticks=99).tick_values(low, high) if low <= t <= high]
        if len(found) <= max(width / 9, 2):
            return found
    return found[:: -(-len(found) // max(int(width / 9), 2))]


def key(figure: Figure, entries: Sequence[Entry], notes: Sequence[str], look: Look) -> None:
    """What markers mean, below the axes, where it covers nothing; and what else there is to say, below that.

    The picture grows by the height that this takes, so that the axes stay as large as they were.

    Args:
        figure: Of `empty`.
        entries: Markers and what they mean.
        notes: Sentences; each begins a line.
        look: Of the figure.
    """
    columns = max(int(look.width // KEY_COLUMN), 1)
    rows, said = -(-len(entries) // columns), _wrapped(notes, look)
    taken, height = (rows * LINE + MM + _height(said)), figure.get_figheight()
    figure.set_figheight(height + taken)
    bottom = taken / (height + taken)
    figure.get_layout_engine().set(rect=(0, bottom, 1, 1 - bottom))  # type: ignore[union-attr,call-arg]  # likewise
    if entries:
        handles, labels = zip(*entries, strict=True)
        figure.legend(
            handles, labels, loc="upper left", bbox_to_anchor=(0, bottom), ncols=columns, fontsize=SMALL, frameon=False,
            handletextpad=0.4, handlelength=1.4, columnspacing=1.2, borderpad=0.0, borderaxespad=0.6, labelspacing=0.35,
        )  # fmt: skip
    _write(figure, said)


def append(figure: Figure, note: str, look: Look) -> None:
    """One more note below a picture whose layout stands: everything else stays as it is, to the pixel."""
    said, height = _wrapped([note], look), figure.get_figheight()
    more = _height(said)

    def moved(y: float) -> float:
        return (y * height + more) / (height + more)

    for axes in figure.axes:
        box = axes.get_position()
        axes.set_position((box.x0, moved(box.y0), box.width, moved(box.y1) - moved(box.y0)))
    for legend in figure.legends:
        anchor = figure.transFigure.inverted().transform_bbox(legend.get_bbox_to_anchor())
        legend.set_bbox_to_anchor((anchor.x0, moved(anchor.y0)))
    for text in figure.texts:
        text.set_y(moved(text.get_position()[1]))
    figure.set_figheight(height + more)
    _write(figure, said)


def _wrapped(notes: Sequence[str], look: Look) -> str:
    width = int(look.width / LETTER)
    return "\n".join(line for note in notes for line in textwrap.wrap(note, width, break_on_hyphens=False))


def _height(said: str) -> float:
    """Of lines of notes, in inches."""
    return (said.count("\n") + 1) * LINE if said else 0.0


def _write(figure: Figure, said: str) -> None:
    """Notes at the bottom of a figure."""
    x, y = 0.6 * SMALL / 72 / figure.get_figwidth(), MM / 2 / figure.get_figheight()
    if said:
        figure.text(x, y, said, fontsize=SMALL, color="#444444", va="bottom", in_layout=False)
