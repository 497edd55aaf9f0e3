"""Charts of trials as plotly's JSON: the front, and learning curves."""

import math
import textwrap
from collections.abc import Mapping, Sequence

from utuning_search.common.counts import short
from utuning_search.designs.presets import title_of
from utuning_search.results.pictures.figure import FRONT, OTHER, PRESET, PRUNED
from utuning_search.results.pictures.limits import Value, fit
from utuning_search.results.report.axes import NAME, WRAPPED, Chart, as_drawn, axis_title, clean, layout_of, widened
from utuning_search.results.sampling_error import interval_of
from utuning_search.search.objectives.base import Objective
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.trials import TrialRecord, front_of

GROUPS = {"front": FRONT, "dominated": OTHER, "pruned": PRUNED}  # and colours


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
        return as_drawn(quality, record.values[quality.name])

    data = [_points(group, trials, x, y, hover) for group, trials in reversed(groups.items())]
    for trace in data:
        group = trace["meta"]["group"]
        if group != "pruned" and quality.name == "accuracy":
            _add_intervals(trace, groups[group], images)
        if group == "front" and line:
            trace |= {"mode": "lines+markers+text", "line": {"shape": "hv", "color": FRONT, "width": 1.5}}
    layout = layout_of("trial" if other is None else other.label, axis_title(quality))
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
            points += [(at, as_drawn(quality, measured[at]), hover[record.number]) for at in sorted(measured)]
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
    layout = layout_of("epoch", axis_title(quality))
    layout["xaxis"] |= {"tick0": 0, "dtick": -(-epochs // 10)}  # whole ones
    return {"data": data, "layout": layout}
