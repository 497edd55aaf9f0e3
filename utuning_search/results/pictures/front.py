"""The picture of a study's front."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utuning_search.designs.presets import title_of
from utuning_search.results.pictures.figure import (
    FRONT,
    OTHER,
    PRESET,
    PRUNED,
    Entry,
    Look,
    append,
    dress,
    empty,
    key,
    save,
)
from utuning_search.results.pictures.labels import Label, Line, Point, place
from utuning_search.results.pictures.limits import Value, fit
from utuning_search.results.sampling_error import interval_of, near_front
from utuning_search.search.objectives.base import Objective
from utuning_search.search.objectives.registry import USUAL, Objectives
from utuning_search.search.trials import TrialRecord, front_of

# Areas of markers in square points, as `scatter` takes them, and how far they reach in points.
SIZES = {"pruned": 9.0, "dominated": 10.0, "near": 24.0, "front": 16.0, "known": 26.0}
REACH = {"pruned": 1.8, "dominated": 1.9, "near": 2.8, "front": 2.3, "known": 3.8}
NAMED_OUTSIDE = 6  # known methods beyond the axes that are named


def draw_front(
    records: Sequence[TrialRecord], look: Look = Look(), objectives: Objectives = USUAL, images: int | None = None
) -> Figure:
    """The first measured objective against each other one: front, dominated and pruned trials, known methods by name.

    By default that is validation accuracy against trainable parameters. A study of one objective is drawn over trials.
    Designs of the front that are no known method have their trial's number. Axes fit the front; what lies far off it is
    not drawn, and counted below. With the number of validation `images`, the front's accuracies have their 95%
    intervals, and trials within its sampling error are ringed; see `sampling_error.near_front`.
    """
    quality = objectives.quality
    others = [o for o in objectives if o.name != quality.name]
    figure, panels = empty(look, max(len(others), 1))
    wanted: list[Objective | None] = [*others] or [None]
    pairs = zip(panels, wanted, strict=True)
    drawn = [_Panel(axes, records, objectives, other, images) for axes, other in pairs]
    beyond = dict.fromkeys(text for panel in drawn if (text := panel.outside()))
    key(figure, drawn[0].entries, list(beyond), look)  # colours and markers are the same in all
    for said in dict.fromkeys([panel.name() for panel in drawn]):  # once the layout stands
        append(figure, said, look)
    return figure


def save_front(
    records: Sequence[TrialRecord],
    path: Path,
    look: Look = Look(),
    objectives: Objectives = USUAL,
    images: int | None = None,
    kind: str = "png",
) -> None:
    """Write `draw_front` in a format of `figure.FORMATS`, whatever the file is called."""
    save(draw_front(records, look, objectives, images), path, kind)


class _Panel:
    """One pair of axes: draws all but names at once."""

    def __init__(
        self,
        axes: Axes,
        records: Sequence[TrialRecord],
        objectives: Objectives,
        other: Objective | None,
        images: int | None,
    ) -> None:
        self.axes, self.entries = axes, list[Entry]()
        self._quality = quality = objectives.quality
        self._x: Value = (lambda r: float(r.number)) if other is None else _reader(other)
        self._y = _reader(quality)
        self._points, self._lines = list[Point](), list[Line]()
        known = [r for r in records if r.reused is None and r.settled]
        shown = [r for r in known if all(name in r.values for name in objectives.names)]
        self._best = front_of(records, objectives)
        standing = {r.number for r in self._best}
        self._rest = [r for r in shown if r.number not in standing]
        bars = _bars(self._best, objectives, images)
        log = other is not None and other.log
        self.limits = fit(
            self._best,
            self._rest,
            self._x,
            self._y,
            [end for pair in bars for end in pair],
            log=log,
            best_is_high=quality.direction == "maximize",
            most=float("inf") if quality.unit else 100.0,
        )
        if self.limits is not None:
            axes.set_xscale("log" if log else "linear")
            axes.set_xlim(self.limits.x)
            axes.set_ylim(self.limits.y)
            outside = {r.number for r in self.limits.outside}
            self._draw([r for r in shown if r.number not in outside], near_front(records, images, objectives), bars)
            if len(objectives) == 2:  # of more, no line separates the front from the rest
                self._step()
        dress(axes, "trial" if other is None else _label(other), _label(quality), log=log)

    def _draw(
        self, shown: Sequence[TrialRecord], near: Sequence[TrialRecord], bars: Sequence[tuple[float, float]]
    ) -> None:
        rest = [r for r in shown if r in self._rest]
        pruned = [r for r in rest if r.state == "pruned"]
        dominated = [r for r in rest if r.state == "complete"]
        inside = {r.number for r in shown}
        near = [r for r in near if r.number in inside]
        presets = [r for r in shown if r.preset and r.state == "complete"]
        self._scatter("front", self._best, f"Pareto front ({len(self._best)})", color=FRONT, zorder=4)
        if bars:
            places = [self._x(r) for r in self._best]
            lows, highs = zip(*bars, strict=True)
            drawn = self.axes.vlines(places, lows, highs, colors=FRONT, alpha=0.3, linewidth=1.6, zorder=1)
            self.entries.append((drawn, "95% over images"))
            self._lines += [((x, x), pair) for x, pair in zip(places, bars, strict=True)]
        self._scatter("known", presets, "known method", marker="D", facecolors="none", edgecolors=PRESET, zorder=5)
        self._scatter("dominated", dominated, f"dominated ({len(dominated)})", color=OTHER, alpha=0.55)
        ring = {"facecolors": "none", "edgecolors": FRONT, "alpha": 0.6, "zorder": 3}
        self._scatter("near", near, f"near the front ({len(near)})", **ring)
        self._scatter("pruned", pruned, f"pruned ({len(pruned)})", marker="x", color=PRUNED)

    def _step(self) -> None:
        x, y = [self._x(r) for r in self._best], [self._y(r) for r in self._best]
        self.axes.step(x, y, where="post", color=FRONT, linewidth=1.0, zorder=3)
        corners = [(b, a) for a, b in zip(y, x[1:], strict=False)]
        path = [
            p
            for pair in zip(zip(x, y, strict=True), [*corners, (x[-1], y[-1])] if x else [], strict=True)
            for p in pair
        ]
        self._lines.append(([p[0] for p in path], [p[1] for p in path]))

    def _scatter(self, what: str, records: Sequence[TrialRecord], label: str, **style: object) -> None:
        if records:
            x, y = [self._x(r) for r in records], [self._y(r) for r in records]
            drawn = self.axes.scatter(x, y, s=SIZES[what], linewidths=0.7, **style)  # type: ignore[arg-type]  # scatter's own
            self.entries.append((drawn, label))
            self._points += [(a, b, REACH[what]) for a, b in zip(x, y, strict=True)]

    def name(self) -> str:
        """Write the names, of the front first, then of the best known methods off it; see `labels.place`."""
        if self.limits is None:
            return ""
        outside = {r.number for r in self.limits.outside}
        sign = -1 if self._quality.direction == "maximize" else 1
        known = [r for r in self._rest if _is_known(r) and r.number not in outside]
        known.sort(key=lambda r: sign * self._y(r))
        labels = [
            Label(self._x(r), self._y(r), title_of(r.preset) or str(r.number), PRESET if r.preset else FRONT)
            for r in (*self._best, *known)
        ]
        return place(self.axes, labels, self._points, self._lines)

    def outside(self) -> str:
        """A sentence on what lies beyond the axes; empty where nothing does."""
        if self.limits is None or not self.limits.outside:
            return ""
        beyond, (bottom, _) = self.limits.outside, self.limits.y
        side = "below" if all(self._y(r) < bottom for r in beyond) else "beyond"
        states = Counter("pruned" if r.state == "pruned" else "dominated" for r in beyond)
        said = " and ".join(f"{count} {state}" for state, count in sorted(states.items()))
        known = [
            f"{title_of(r.preset)} {self._quality.short(r.values[self._quality.name])}" for r in beyond if _is_known(r)
        ]
        more = f" and {len(known) - NAMED_OUTSIDE} more known methods" if known[NAMED_OUTSIDE:] else ""
        named = f" ({', '.join(known[:NAMED_OUTSIDE])}{more})" if known else ""
        return f"{side.capitalize()} the picture: {said}{named}."


def _is_known(record: TrialRecord) -> bool:
    return bool(record.preset) and record.state == "complete"


def _reader(objective: Objective) -> Value:
    """A trial's value as it is drawn: a share in per cent."""
    factor = 1.0 if objective.unit else 100.0
    return lambda record: factor * record.values[objective.name]


def _label(objective: Objective) -> str:
    return objective.label if objective.unit else f"{objective.label} (%)"


def _bars(best: Sequence[TrialRecord], objectives: Objectives, images: int | None) -> list[tuple[float, float]]:
    """Of the front's accuracies, in per cent; none where another objective is drawn, or their images are not known."""
    if objectives.quality.name != "accuracy":
        return []
    known = [interval_of(r, images) for r in best]
    return [(100 * pair[0], 100 * pair[1]) for pair in known if pair is not None]
