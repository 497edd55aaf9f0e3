"""The picture of a study's front."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utuning_search.results.pictures.figure import FRONT, OTHER, PRESET, PRUNED, dress, empty, save
from utuning_search.results.pictures.labels import name_presets
from utuning_search.results.sampling_error import interval_of, near_front
from utuning_search.search.objectives.base import Objective
from utuning_search.search.objectives.registry import USUAL, Objectives
from utuning_search.search.trials import TrialRecord, front_of

Value = Callable[[TrialRecord], float]


def draw_front(
    records: Sequence[TrialRecord], title: str, objectives: Objectives = USUAL, images: int | None = None
) -> Figure:
    """The first measured objective against each other one: front, dominated and pruned trials, presets by name.

    By default that is validation accuracy against trainable parameters. A study of one objective is drawn over trials.
    With the number of validation `images`, the front's accuracies have their 95% intervals, and trials within its
    sampling error are ringed; see `sampling_error.near_front`.
    """
    near = near_front(records, images, objectives)
    quality = objectives.quality
    others = [o for o in objectives if o.name != quality.name]
    figure, panels = empty(max(len(others), 1))
    y = _reader(quality)
    if not others:
        _draw(panels[0], records, objectives, lambda r: float(r.number), y, near, images)
        dress(panels[0], title, "trial", _label(quality), log=False)
    if len(others) > 1:
        figure.suptitle(title)
    for axes, other in zip(panels, others, strict=False):
        _draw(axes, records, objectives, _reader(other), y, near, images)
        dress(axes, title if len(others) == 1 else "", _label(other), _label(quality), log=other.log)
    if _shown(records, objectives):
        panels[0].legend(loc="best", framealpha=0.9)  # colours and markers are the same in all
    for axes, other in zip(panels, others, strict=False):  # once the layout stands
        _name(axes, records, objectives, _reader(other), y)
    return figure


def save_front(
    records: Sequence[TrialRecord],
    title: str,
    path: Path,
    objectives: Objectives = USUAL,
    images: int | None = None,
) -> None:
    """Write `draw_front` as a PNG, whatever the file is called."""
    save(draw_front(records, title, objectives, images), path)


def _reader(objective: Objective) -> Value:
    """A trial's value as it is drawn: a share in per cent."""
    factor = 1.0 if objective.unit else 100.0
    return lambda record: factor * record.values[objective.name]


def _label(objective: Objective) -> str:
    return objective.label if objective.unit else f"{objective.label} (%)"


def _shown(records: Sequence[TrialRecord], objectives: Objectives) -> list[TrialRecord]:
    known = [r for r in records if r.reused is None and r.settled]
    return [r for r in known if all(name in r.values for name in objectives.names)]


def _draw(
    axes: Axes,
    records: Sequence[TrialRecord],
    objectives: Objectives,
    x: Value,
    y: Value,
    near: Sequence[TrialRecord],
    images: int | None,
) -> None:
    best = front_of(records, objectives)
    standing = {r.number for r in best}
    shown = _shown(records, objectives)
    pruned = [r for r in shown if r.state == "pruned"]
    complete = [r for r in shown if r.state == "complete"]
    dominated = [r for r in complete if r.number not in standing]
    _scatter(axes, pruned, x, y, f"pruned at a rung ({len(pruned)})", marker="x", color=PRUNED, s=26)
    _scatter(axes, dominated, x, y, f"dominated ({len(dominated)})", color=OTHER, alpha=0.45, s=26)
    label = f"within the front's sampling error ({len(near)})"
    _scatter(axes, near, x, y, label, facecolors="none", edgecolors=FRONT, alpha=0.5, linewidths=0.8, s=52, zorder=3)
    ends = _intervals(best, objectives, images)
    if ends:
        lows, highs = zip(*ends, strict=True)
        places, label = [x(r) for r in best], "95% over validation images"
        axes.vlines(places, lows, highs, colors=FRONT, alpha=0.25, linewidth=3, zorder=1, label=label)
    if best:
        if len(objectives) == 2:  # of more, no line separates the front from the rest
            axes.step([x(r) for r in best], [y(r) for r in best], where="post", color=FRONT, linewidth=1.6, zorder=3)
        _scatter(axes, best, x, y, f"Pareto front ({len(best)})", color=FRONT, s=42, zorder=4)
    presets = [r for r in complete if r.preset]
    _scatter(axes, presets, x, y, "known methods", marker="D", facecolors="none", edgecolors=PRESET, s=58, zorder=5)
    _zoom(axes, [y(r) for r in complete], [end for pair in ends for end in pair], share=not objectives.quality.unit)


def _intervals(best: Sequence[TrialRecord], objectives: Objectives, images: int | None) -> list[tuple[float, float]]:
    """Of the front's accuracies, in per cent; none where another objective is drawn, or their images are not known."""
    if objectives.quality.name != "accuracy":
        return []
    known = [interval_of(r, images) for r in best]
    return [(100 * pair[0], 100 * pair[1]) for pair in known if pair is not None]


def _name(axes: Axes, records: Sequence[TrialRecord], objectives: Objectives, x: Value, y: Value) -> None:
    presets = [r for r in _shown(records, objectives) if r.preset and r.state == "complete"]
    name_presets(axes, [(x(r), y(r), 0.0, r.preset) for r in presets])


def _scatter(axes: Axes, records: Sequence[TrialRecord], x: Value, y: Value, label: str, **style: object) -> None:
    if records:
        places = [x(r) for r in records], [y(r) for r in records]
        axes.scatter(*places, label=label, **style)  # type: ignore[arg-type]  # style is scatter's own keywords


def _zoom(axes: Axes, values: Sequence[float], ends: Sequence[float], *, share: bool) -> None:
    """Show finished trials and the front's intervals whole; trials pruned far below them may leave the picture."""
    if values and max(values) > min(values):
        span = max(values) - min(values)
        low = min([min(values) - 0.35 * span, *(end - 0.05 * span for end in ends)])
        axes.set_ylim(max(low, -3) if share else low, max([*values, *ends]) + 0.12 * span)
