"""What all charts share: axes, and names that have room within them."""

from collections.abc import Iterable
from html import escape
from typing import Any

from utuning_search.common.text import visible
from utuning_search.search.objectives.base import Objective

Chart = dict[str, Any]  # plotly's JSON: data and layout
WRAPPED = 64  # letters a line of what is shown at a point
LETTER, AXES = 6.0, 1000.0  # pixels: the width of a letter of a name, and of the axes in a wide window
NAME, GAP = 10, 12.0  # likewise: the size of a name, and from a point to its name


def layout_of(x: str, y: str) -> Chart:
    """Of a chart whose axes have these titles."""
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


def axis_title(objective: Objective) -> str:
    """Of an objective's axis."""
    return objective.label if objective.unit else f"{objective.label} (%)"


def as_drawn(objective: Objective, value: float) -> float:
    """A value as it is drawn: a share in per cent."""
    return value if objective.unit else 100 * value


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


def clean(text: str) -> str:
    """Text of others for plotly, which takes tags in it for markup."""
    return escape(visible(text), quote=False)
