"""The picture of a study's front."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utuning_search.results.pictures.figure import FRONT, OTHER, PRESET, PRUNED, dress, empty, save
from utuning_search.results.pictures.labels import name_presets
from utuning_search.search.trials import TrialRecord, front_of


def draw_front(records: list[TrialRecord], title: str) -> Figure:
    """Validation accuracy against trainable parameters: front, dominated and pruned trials, presets by name."""
    figure, axes = empty()
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
    dress(axes, title, "validation accuracy (%)")
    if shown:
        axes.legend(loc="best", framealpha=0.9)
    name_presets(axes, [(r.parameters, r.accuracy or 0, 0.0, r.preset) for r in presets])
    return figure


def save_front(records: list[TrialRecord], title: str, path: Path) -> None:
    """Write `draw_front` as a PNG, whatever the file is called."""
    save(draw_front(records, title), path)


def _scatter(axes: Axes, records: list[TrialRecord], label: str, **style: object) -> None:
    if records:
        x, y = [r.parameters for r in records], [100 * (r.accuracy or 0) for r in records]
        axes.scatter(x, y, label=label, **style)  # type: ignore[arg-type]  # style is scatter's own keywords


def _zoom(axes: Axes, complete: list[TrialRecord]) -> None:
    """Show the finished trials whole; trials pruned far below them may leave the picture."""
    values = [100 * (r.accuracy or 0) for r in complete]
    if values and max(values) > min(values):
        span = max(values) - min(values)
        axes.set_ylim(max(min(values) - 0.35 * span, -3), max(values) + 0.12 * span)
