"""The picture of a front; the matplotlib door. Functions draw what they are given and write a file."""

from pathlib import Path
from typing import cast

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from utuning_search.common.files import write_atomically
from utuning_search.results.finals import Confirmation
from utuning_search.search.trials import TrialRecord, front_of

MARKER = 7  # pixels from the middle of a known method's marker to its tips
# Where a known method's name may stand, in points from its marker: above, below, beside, and farther.
NAME_OFFSETS = (
    (0, 9), (0, -9), (9, 0), (-9, 0), (8, 8), (-8, 8), (8, -8), (-8, -8), (0, 20), (0, -20), (0, 31), (0, -31),
)  # fmt: skip
FRONT, OTHER, PRUNED, PRESET = "#c2185b", "#607d8b", "#b0bec5", "#1565c0"


def draw_front(records: list[TrialRecord], title: str) -> Figure:
    """Validation accuracy against trainable parameters: front, dominated and pruned trials, presets by name."""
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    best = front_of(records)
    standing = {r.number for r in best}
    shown = [r for r in records if r.accuracy is not None and r.reused is None and r.settled]
    pruned = [r for r in shown if r.state == "pruned"]
    complete = [r for r in shown if r.state == "complete"]
    dominated = [r for r in complete if r.number not in standing]
    _scatter(axes, pruned, f"pruned at a rung ({len(pruned)})", marker="x", color=PRUNED, s=26)
    _scatter(axes, dominated, f"dominated ({len(dominated)})", color=OTHER, alpha=0.45, s=26)
    if best:
        x, y = [r.parameters for r in best], [100 * (r.accuracy or 0) for r in best]
        axes.step(x, y, where="post", color=FRONT, linewidth=1.6, zorder=3)
        axes.scatter(x, y, color=FRONT, s=42, zorder=4, label=f"Pareto front ({len(best)})")
    presets = [r for r in complete if r.preset]
    if presets:
        _scatter(axes, presets, "known methods", marker="D", facecolors="none", edgecolors=PRESET, s=58, zorder=5)
    _zoom(axes, complete)
    _dress(axes, title, "validation accuracy (%)")
    if shown:
        axes.legend(loc="best", framealpha=0.9)
    _name_presets(axes, [(r.parameters, r.accuracy or 0, 0.0, r.preset) for r in presets])
    return figure


def save_front(records: list[TrialRecord], title: str, path: Path) -> None:
    """Write `draw_front` as a PNG, whatever the file is called."""
    figure = draw_front(records, title)
    write_atomically(path, lambda place: figure.savefig(place, dpi=150, format="png"))


def draw_finals(found: Confirmation, title: str) -> Figure:
    """Test accuracy, mean and standard deviation over seeds, against trainable parameters; survivors joined.

    A small dash is what the search read on its validation images; its height above the point is luck.
    """
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    measured = [f for f in found.finals if f.mean is not None]
    best = [f for f in measured if f.survives]
    if best:
        x, y = [f.finalist.parameters for f in best], [100 * (f.mean or 0) for f in best]
        axes.plot(x, y, color=FRONT, linewidth=1.6, zorder=3)
    for survives, color in ((True, FRONT), (False, OTHER)):
        shown = [f for f in measured if f.survives is survives]
        if shown:
            axes.errorbar(
                [f.finalist.parameters for f in shown],
                [100 * (f.mean or 0) for f in shown],
                yerr=[100 * (f.sd or 0) for f in shown],
                fmt="o",
                color=color,
                markersize=6,
                capsize=3,
                zorder=4,
                label=f"{'survives' if survives else 'beaten'} ({len(shown)})",
            )
    read = [f for f in measured if f.finalist.validation is not None]
    if read:
        x, y = [f.finalist.parameters for f in read], [100 * (f.finalist.validation or 0) for f in read]
        axes.scatter(x, y, marker="_", color=PRUNED, s=90, zorder=2, label="validation accuracy in the search")
    presets = [
        (f.finalist.parameters, f.mean or 0, f.sd or 0, f.finalist.preset) for f in measured if f.finalist.preset
    ]
    if presets:
        x, y = [n for n, *_ in presets], [100 * mean for _, mean, *_ in presets]
        axes.scatter(x, y, marker="D", facecolors="none", edgecolors=PRESET, s=90, zorder=5, label="known methods")
    seeds = f"{found.seeds} seeds, mean ± sd" if found.seeds > 1 else "one seed"
    _dress(axes, title, f"accuracy on {found.test_images:,} test images (%), {seeds}")
    axes.margins(0.08, 0.12)
    if measured:
        axes.legend(loc="best", framealpha=0.9)
    _name_presets(axes, presets)
    return figure


def save_finals(found: Confirmation, title: str, path: Path) -> None:
    """Write `draw_finals` as a PNG, whatever the file is called."""
    figure = draw_finals(found, title)
    write_atomically(path, lambda place: figure.savefig(place, dpi=150, format="png"))


def short(value: float) -> str:
    """A count in the field's shorthand: 650, 1.8k, 25k, 0.27M."""
    if value >= 1e5:
        return f"{value / 1e6:.2f}".rstrip("0").rstrip(".") + "M"
    return f"{value / 1e3:.1f}".rstrip("0").rstrip(".") + "k" if value >= 1e3 else f"{value:.0f}"


def _scatter(axes: Axes, records: list[TrialRecord], label: str, **style: object) -> None:
    if records:
        x, y = [r.parameters for r in records], [100 * (r.accuracy or 0) for r in records]
        axes.scatter(x, y, label=label, **style)  # type: ignore[arg-type]  # style is scatter's own keywords


def _dress(axes: Axes, title: str, accuracy: str) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("trainable parameters, head included")
    axes.set_ylabel(accuracy)
    axes.set_title(title)
    axes.grid(alpha=0.25)


def _name_presets(axes: Axes, presets: list[tuple[int, float, float, str]]) -> None:
    """Names at (parameters, accuracy, half a bar's height), each where it covers least of markers and other names.

    The axes' limits have to stand.
    """
    if not presets:
        return
    cast(
        Figure, axes.figure
    ).draw_without_rendering()  # settles the layout, so that extents in pixels are those of the picture
    points = axes.transData.transform([(x, 100 * y) for x, y, _, _ in presets])
    taken = [Bbox.from_extents(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in points]
    for parameters, accuracy, bar, name in sorted(presets):
        tried: list[tuple[float, int, Annotation, Bbox]] = []
        for i, (dx, dy) in enumerate(NAME_OFFSETS):
            text = axes.annotate(
                name,
                (parameters, 100 * (accuracy + bar * (dy > 0) - bar * (dy < 0))),
                xytext=(dx, dy),
                textcoords="offset points",
                ha="center" if dx == 0 else "left" if dx > 0 else "right",
                va="center" if dy == 0 else "bottom" if dy > 0 else "top",
                fontsize=8,
                color=PRESET,
                zorder=6,
            )
            extent = text.get_window_extent()
            tried.append((_covered(extent, [*taken, axes.bbox]), i, text, extent))
            if tried[-1][0] == 0:
                break
        best = min(tried, key=lambda t: t[:2])
        taken.append(best[3])
        for _, _, text, _ in tried:
            if text is not best[2]:
                text.remove()


def _covered(extent: Bbox, others: list[Bbox]) -> float:
    """Square pixels of `extent` that lie on others; the last of them is the frame, outside of which counts too."""
    *taken, frame = others
    area = sum(o.width * o.height for o in (Bbox.intersection(extent, t) for t in taken) if o is not None)
    inside = Bbox.intersection(extent, frame)
    return float(area + extent.width * extent.height - (0 if inside is None else inside.width * inside.height))


def _zoom(axes: Axes, complete: list[TrialRecord]) -> None:
    """Show the finished trials whole; trials pruned far below them may leave the picture."""
    values = [100 * (r.accuracy or 0) for r in complete]
    if values and max(values) > min(values):
        span = max(values) - min(values)
        axes.set_ylim(max(min(values) - 0.35 * span, -3), max(values) + 0.12 * span)
