"""Charts of finals: accuracy on test images against size, and which classes are taken for which."""

import math
import textwrap
from collections.abc import Sequence

from utuning_search.designs.presets import title_of
from utuning_search.results.classes import PerClass
from utuning_search.results.finals import Confirmation, Final
from utuning_search.results.metrics import words
from utuning_search.results.pictures.figure import FRONT, OTHER
from utuning_search.results.report.axes import NAME, WRAPPED, Chart, clean, layout_of, widened

SHADES = [[0.0, "#f7fbff"], [0.5, "#6baed6"], [1.0, "#08306b"]]  # plotly's own Blues are darkest where nothing is


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
    layout = layout_of("trainable parameters, head included", f"test {words(found.metric)} (%)")
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
    layout = layout_of("answered", "true")
    layout["yaxis"] |= {"autorange": "reversed", "type": "category"}
    layout["xaxis"] |= {"type": "category"}
    layout["height"] = 560
    return {"data": [data], "layout": layout}


def _described(final: Final) -> list[str]:
    return [final.finalist.name, *textwrap.wrap(str(final.finalist.design), WRAPPED)]
