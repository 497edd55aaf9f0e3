"""Charts as plotly's JSON: data and layout, made of what a study holds and nothing else."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from utuning_search.common.counts import short
from utuning_search.common.text import visible
from utuning_search.designs.presets import title_of
from utuning_search.results.classes import PerClass
from utuning_search.results.finals import Confirmation, Final
from utuning_search.results.metrics import words
from utuning_search.results.pictures.figure import FRONT, OTHER, PRESET, PRUNED
from utuning_search.results.pictures.limits import Value, fit
from utuning_search.results.sampling_error import interval_of
from utuning_search.search.objectives.base import Objective, Setting
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.surrogate.importance import Importance
from utuning_search.search.trials import TrialRecord, front_of

Chart = dict[str, Any]
GROUPS = {"front": FRONT, "dominated": OTHER, "pruned": PRUNED}  # and colours
KINDS = {
    "learning_rate": "learning rate",
    "size": "size of a tuner",
    "tuner": "kind of a tuner",
    "add": "one tuner more",
    "drop": "one tuner fewer",
    "operation": "operation",
    "blocks": "blocks",
    "form": "form",
    "scale": "scale",
    "option": "another option",
}
WRAPPED = 64  # letters a line of what is shown at a point
LETTER, AXES = 6.0, 1000.0  # pixels: the width of a letter of a name, and of the axes in a wide window
NAME, GAP = 10, 12.0  # likewise: the size of a name, and from a point to its name
SHADES = [[0.0, "#f7fbff"], [0.5, "#6baed6"], [1.0, "#08306b"]]  # plotly's own Blues are darkest where nothing is


def by_group(records: Sequence[TrialRecord], objectives: Objectives) -> dict[str, list[TrialRecord]]:
    """Trials that can be drawn: of the front, the cheapest first, dominated, pruned; each design once."""
    known = [r for r in records if r.reused is None and r.settled]
    shown = [r for r in known if all(name in r.values for name in objectives.names)]
    best = front_of(records, objectives)
    standing = {r.number for r in best}
    rest = [r for r in shown if r.number not in standing]
    return {
        "front": best,
        "dominated": [r for r in rest if r.state == "complete"],
        "pruned": [r for r in rest if r.state == "pruned"],
    }


def hovers(
    records: Sequence[TrialRecord], objectives: Objectives, nearest: Mapping[str, str], images: int | None
) -> dict[int, str]:
    """What is shown at a trial's points, by its number: what it is, what it reached, its design and what it is near."""
    found = {}
    for record in records:
        head = f"trial {record.number}" + (f": {title_of(record.preset)}" if record.preset else "")
        ends = interval_of(record, images)
        values = [
            f"{o.name.replace('_', ' ')} {o.text(record.values[o.name])}" for o in objectives if o.name in record.values
        ]
        if ends is not None and "accuracy" in objectives.names:
            values.append(f"95%: {100 * ends[0]:.1f} to {100 * ends[1]:.1f}")
        lines = [", ".join(values), f"{record.state}, {record.epochs} epochs, {record.seconds:.0f} s"]
        if nearest.get(record.key) and not record.preset:
            lines += textwrap.wrap(f"nearest: {nearest[record.key]}", WRAPPED)
        lines += textwrap.wrap(str(record.design or ""), WRAPPED)
        found[record.number] = "<br>".join([f"<b>{clean(head)}</b>", *map(clean, lines)])
    return found


def clean(text: str) -> str:
    """Text of others for plotly, which takes tags in it for markup."""
    return escape(visible(text), quote=False)


def front_chart(
    records: Sequence[TrialRecord],
    objectives: Objectives,
    other: Objective | None,
    hover: Mapping[int, str],
    images: int | None,
) -> Chart:
    """The first measured objective against another one, or over trials; the axes fit the front."""
    quality = objectives.quality
    groups = by_group(records, objectives)
    line = len(objectives) == 2  # of more, none separates the front from the rest

    def x(record: TrialRecord) -> float:
        return float(record.number) if other is None else record.values[other.name]

    def y(record: TrialRecord) -> float:
        return _shown(quality, record.values[quality.name])

    data = [_points(group, trials, x, y, hover) for group, trials in reversed(groups.items())]
    for trace in data:
        group = trace["meta"]["group"]
        if group != "pruned" and quality.name == "accuracy":
            _add_intervals(trace, groups[group], images)
        if group == "front" and line:
            trace |= {"mode": "lines+markers+text", "line": {"shape": "hv", "color": FRONT, "width": 1.5}}
    layout = _layout("trial" if other is None else other.label, _axis(quality))
    log = other is not None and other.log
    layout["xaxis"]["type"] = "log" if log else "linear"
    front = data[-1].get("error_y", {"array": [], "arrayminus": []})
    values = data[-1]["y"]
    ends = [v + e for v, e in zip(values, front["array"], strict=False)]
    ends += [v - e for v, e in zip(values, front["arrayminus"], strict=False)]
    rest = [*groups["dominated"], *groups["pruned"]]
    limits = fit(groups["front"], rest, x, y, ends, log=log, best_is_high=quality.direction == "maximize")
    if limits is not None:
        bottom, top = limits.y
        shown = [
            (math.log10(place) if log else place, name, trace["textposition"])
            for trace in data
            for place, height, name in zip(trace["x"], trace["y"], trace["text"], strict=True)
            if name and bottom <= height <= top
        ]
        span = (math.log10(limits.x[0]), math.log10(limits.x[1])) if log else limits.x
        layout["xaxis"]["range"] = widened(span, shown)
        layout["yaxis"]["range"] = [bottom, top]
    if log:
        ticks = [step * 10.0**power for power in range(-3, 13) for step in (1, 2, 5)]  # whatever is zoomed to
        layout["xaxis"] |= {"tickvals": ticks, "ticktext": [short(t) if t >= 1 else f"{t:g}" for t in ticks]}
    return {"data": data, "layout": layout}


def widened(span: tuple[float, float], names: Iterable[tuple[float, str, str]]) -> list[float]:
    """The ends of an axis, moved so that names beside points lie within it, in a window that is not narrow.

    Args:
        span: From and to, in what the axis counts linearly: logarithms where it is logarithmic.
        names: Where each one's point is, its text, and its `textposition`.
    """
    low, high = span
    known = [(x, min((GAP + LETTER * len(name)) / AXES, 0.4), position) for x, name, position in names]
    for _ in range(3):  # room at one end is taken from the other
        for x, share, position in known:
            if position.endswith("left"):
                low = min(low, (x - share * high) / (1 - share))
            else:
                high = max(high, (x - share * low) / (1 - share))
    return [low, high]


def _points(group: str, trials: Sequence[TrialRecord], x: Value, y: Value, hover: Mapping[int, str]) -> Chart:
    """The trials of a group: known methods are diamonds and have their names, others of the front their numbers.

    Names stand beside their error bars: those of the front above its line, the others, which lie below it, below them.
    """
    known = [bool(r.preset) and r.state == "complete" for r in trials]
    names = [title_of(r.preset) if k else str(r.number) for r, k in zip(trials, known, strict=True)]
    front = group == "front"
    return {
        "type": "scatter",
        "name": f"{group} ({len(trials)})",
        "meta": {"group": group},
        "mode": "markers+text",
        "x": [x(r) for r in trials],
        "y": [y(r) for r in trials],
        "text": [clean(name) if k or front else "" for name, k in zip(names, known, strict=True)],
        "textposition": "top left" if front else "bottom right",
        "textfont": {"size": NAME, "color": FRONT if front else PRESET},
        "cliponaxis": False,
        "hovertext": [hover[r.number] for r in trials],
        "hoverinfo": "text",
        "marker": {
            "color": GROUPS[group],
            "size": 9 if front else 7,
            "symbol": ["x" if group == "pruned" else "diamond" if k else "circle" for k in known],
            "line": {"color": PRESET, "width": [2 if k else 0 for k in known]},
            "opacity": 1.0 if front else 0.7,
        },
    }


def _add_intervals(trace: Chart, trials: Sequence[TrialRecord], images: int | None) -> None:
    """Wilson's, of the accuracies of a trace; none where one is unknown."""
    ends = [interval_of(r, images) for r in trials]
    known = [pair for pair in ends if pair is not None]
    if known and len(known) == len(ends):
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [100 * high - value for value, (_, high) in zip(trace["y"], known, strict=True)],
            "arrayminus": [value - 100 * low for value, (low, _) in zip(trace["y"], known, strict=True)],
            "thickness": 1.2 if trace["meta"]["group"] == "front" else 0.6,
            "width": 0,
            "visible": True,
        }


def curves_chart(
    records: Sequence[TrialRecord], objectives: Objectives, epochs: int, hover: Mapping[int, str]
) -> Chart:
    """What each trial was measured at, rung by rung to its end; a line a trial."""
    quality, data = objectives.quality, []
    for group, trials in reversed(by_group(records, objectives).items()):
        points: list[tuple[int | None, float | None, str]] = []
        for record in trials:
            measured = {at: values[quality.name] for at, values in record.measured.items() if quality.name in values}
            if record.state == "complete":
                measured[epochs] = record.values[quality.name]
            points += [(at, _shown(quality, measured[at]), hover[record.number]) for at in sorted(measured)]
            points.append((None, None, ""))  # where the next line begins
        front = group == "front"
        data.append(
            {
                "type": "scatter",
                "name": f"{group} ({len(trials)})",
                "meta": {"group": group},
                "mode": "lines+markers",
                "x": [x for x, _, _ in points],
                "y": [y for _, y, _ in points],
                "hovertext": [said for _, _, said in points],
                "hoverinfo": "text",
                "line": {"color": GROUPS[group], "width": 1.5 if front else 1},
                "marker": {"color": GROUPS[group], "size": 5},
                "opacity": 1.0 if front else 0.6,
            }
        )
    layout = _layout("epoch", _axis(quality))
    layout["xaxis"] |= {"tick0": 0, "dtick": -(-epochs // 10)}  # whole ones
    return {"data": data, "layout": layout}


def importance_chart(found: Sequence[Importance], objective: Objective, span: float) -> Chart:
    """The effect of each kind of edit with its interval; `span` as of `span_of`."""
    rows = list(reversed(found))
    data = {
        "type": "bar",
        "orientation": "h",
        "x": [span * i.effect for i in rows],
        "y": [KINDS.get(i.kind, i.kind) for i in rows],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [span * (i.high - i.effect) for i in rows],
            "arrayminus": [span * (i.effect - i.low) for i in rows],
            "thickness": 1.2,
        },
        "marker": {"color": "#90caf9"},
        "hovertext": [
            f"{span * i.effect:.2f} (95%: {span * i.low:.2f} to {span * i.high:.2f}), {i.edits} edits" for i in rows
        ],
        "hoverinfo": "text",
    }
    layout = _layout(f"change of {objective.name.replace('_', ' ')} by one such edit ({unit_of(objective)})", "")
    layout["height"] = 90 + 30 * len(rows)
    layout["margin"]["l"] = 130
    return {"data": [data], "layout": layout}


def finals_chart(found: Confirmation) -> Chart:
    """Mean accuracy or other metric of finals on test images, with its interval, against trainable parameters."""
    data: list[Chart] = []
    for survives, color in ((False, OTHER), (True, FRONT)):
        finals = [f for f in found.finals if f.survives is survives and f.mean is not None]
        means = [100 * (f.mean or 0.0) for f in finals]
        data.append(
            {
                "type": "scatter",
                "name": f"{'survives' if survives else 'beaten'} ({len(finals)})",
                "mode": "markers+text",
                "x": [f.finalist.parameters for f in finals],
                "y": means,
                "text": [clean(title_of(f.finalist.preset) or f.finalist.name) for f in finals],
                "textposition": "top right",
                "textfont": {"size": NAME},
                "hovertext": ["<br>".join(map(clean, _described(f))) for f in finals],
                "hoverinfo": "text+y",
                "marker": {"color": color, "size": 8},
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [100 * f.bar[1] for f in finals],
                    "arrayminus": [100 * f.bar[0] for f in finals],
                    "thickness": 1.2,
                },
            }
        )
    layout = _layout("trainable parameters, head included", f"test {words(found.metric)} (%)")
    layout["xaxis"]["type"] = "log"
    names = [(math.log10(x), name, t["textposition"]) for t in data for x, name in zip(t["x"], t["text"], strict=True)]
    if names:
        places = [x for x, _, _ in names]
        pad = 0.06 * (max(places) - min(places)) or 0.1
        layout["xaxis"]["range"] = widened((min(places) - pad, max(places) + pad), names)
    return {"data": data, "layout": layout}


def confusion_chart(each: PerClass, classes: Sequence[str]) -> Chart:
    """Share of each true class's images (rows) that are taken for each class (columns)."""
    totals = each.confusion.sum(axis=1, keepdims=True).clip(1)
    names = [clean(name) for name in classes]
    data = {
        "type": "heatmap",
        "z": (100 * each.confusion / totals).round(1).tolist(),
        "x": names,
        "y": names,
        "colorscale": SHADES,
        "zmin": 0,
        "zmax": 100,
        "hovertemplate": "true %{y}, answered %{x}: %{z}%<extra></extra>",
        "colorbar": {"title": {"text": "%"}},
    }
    layout = _layout("answered", "true")
    layout["yaxis"] |= {"autorange": "reversed", "type": "category"}
    layout["xaxis"] |= {"type": "category"}
    layout["height"] = 560
    return {"data": [data], "layout": layout}


def span_of(objective: Objective, setting: Setting) -> float:
    """What an effect of 1 is in the objective's `unit_of`: how far its bounds are apart."""
    worst, best = objective.bounds(setting)
    return 100.0 if objective.unit or objective.log else 100 * abs(best - worst)


def unit_of(objective: Objective) -> str:
    """Of a difference of its values, as `span_of` scales it."""
    return "points" if not objective.unit and not objective.log else "% of the objective's range"


def _layout(x: str, y: str) -> Chart:
    axis: Chart = {"zeroline": False, "gridcolor": "#e4e8ea", "linecolor": "#90a4ae", "automargin": True}
    return {
        "xaxis": {**axis, "title": {"text": x, "standoff": 8}},  # from the longest of its ticks' names
        "yaxis": {**axis, "title": {"text": y, "standoff": 8}},
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "showlegend": False,
        "plot_bgcolor": "white",
        "height": 460,
        "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
        "font": {"family": "system-ui, sans-serif", "size": 12},
    }


def _axis(objective: Objective) -> str:
    return objective.label if objective.unit else f"{objective.label} (%)"


def _shown(objective: Objective, value: float) -> float:
    """A value as it is drawn: a share in per cent."""
    return value if objective.unit else 100 * value


def _described(final: Final) -> list[str]:
    return [final.finalist.name, *textwrap.wrap(str(final.finalist.design), WRAPPED)]
