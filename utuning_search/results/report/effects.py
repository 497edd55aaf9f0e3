"""Which choices matter: the chart of effects, and what they are counted in."""

from collections.abc import Sequence

from utuning_search.results.report.axes import Chart, layout_of
from utuning_search.search.objectives.base import Objective, Setting
from utuning_search.search.surrogate.importance import Importance

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
    layout = layout_of(f"change of {objective.name.replace('_', ' ')} by one such edit ({unit_of(objective)})", "")
    layout["height"] = 90 + 30 * len(rows)
    layout["margin"]["l"] = 130
    return {"data": [data], "layout": layout}


def span_of(objective: Objective, setting: Setting) -> float:
    """What an effect of 1 is in the objective's `unit_of`: how far its bounds are apart."""
    worst, best = objective.bounds(setting)
    return 100.0 if objective.unit or objective.log else 100 * abs(best - worst)


def unit_of(objective: Objective) -> str:
    """Of a difference of its values, as `span_of` scales it."""
    return "points" if not objective.unit and not objective.log else "% of the objective's range"
