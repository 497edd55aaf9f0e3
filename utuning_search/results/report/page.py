"""A page of HTML around charts, in one file: nothing of it is loaded from anywhere; the door of plotly."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from plotly.offline import get_plotlyjs

from utuning_search.common.text import visible
from utuning_search.results.report.axes import Chart

# A browser refuses whatever would leave the file, and so does a mail program that shows it.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #263238; max-width: 1080px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #cfd8dc; }
table { border-collapse: collapse; font-size: 13px; } .wide { overflow-x: auto; }
th, td { padding: 3px 10px 3px 0; text-align: left; vertical-align: top; border-bottom: 1px solid #eceff1; }
.number { text-align: right; }
td.number { white-space: nowrap; font-variant-numeric: tabular-nums; }
pre { background: #f5f7f8; padding: .8em; overflow-x: auto; font-size: 13px; }
.switches label { margin-right: 1.2em; } .note { color: #546e7a; font-size: 13px; }
.swatch { display: inline-block; width: .7em; height: .7em; margin-right: .3em; }
"""
SCRIPT = """
"use strict";
// Nothing is sent anywhere, and nothing is offered that would be.
const SETTINGS = {responsive: true, displaylogo: false, plotlyServerURL: "",
  modeBarButtonsToRemove: ["sendChartToCloud", "sendDataToCloud", "select2d", "lasso2d"]};
for (const place of document.querySelectorAll(".chart")) {
  const chart = JSON.parse(document.getElementById(place.id + "-data").textContent);
  const ready = Plotly.newPlot(place, chart.data, chart.layout, SETTINGS);
  ready.then(() => { place.dataset.drawn = "yes"; });
}
for (const box of document.querySelectorAll("input[data-chart]")) {
  box.addEventListener("change", () => {
    const place = document.getElementById(box.dataset.chart), rows = [...place.data.keys()];
    if (box.dataset.group) {
      const own = rows.filter((i) => place.data[i].meta && place.data[i].meta.group === box.dataset.group);
      Plotly.restyle(place, {visible: box.checked}, own);
    } else if (box.dataset.what === "bars") {
      Plotly.restyle(place, {"error_y.visible": box.checked}, rows.filter((i) => place.data[i].error_y));
    } else {
      for (const i of rows) {
        const kept = (place.data[i].mode || "").split("+").filter((part) => part !== "text");
        Plotly.restyle(place, {mode: (box.checked ? [...kept, "text"] : kept).join("+")}, [i]);
      }
    }
  });
}
for (const list of document.querySelectorAll("select[data-panels]")) {
  const show = () => {
    for (const panel of document.querySelectorAll("." + list.dataset.panels)) {
      panel.hidden = panel.dataset.name !== list.value;
      if (!panel.hidden) { panel.querySelectorAll(".chart").forEach((c) => Plotly.Plots.resize(c)); }
    }
  };
  list.addEventListener("change", show);
  show();
}
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole page; each part is HTML."""
    return "\n".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<link rel="icon" href="data:,"><title>{text(title)}</title><style>{STYLE}</style>',
            f"<script>{get_plotlyjs()}</script></head><body>",
            *parts,
            f"<script>{SCRIPT}</script></body></html>\n",
        ]
    )


def text(words: object) -> str:
    """Words of others as text of a page: no markup in it counts."""
    return escape(visible(str(words)))


def chart(name: str, drawn: Chart, about: str) -> str:
    """A chart of plotly by an id of its own, with a sentence for those who cannot see it."""
    data = json.dumps(drawn, allow_nan=False).replace("<", "\\u003c")  # or a name could end the script
    place = f'<div class="chart" id="{name}" role="img" aria-label="{text(about)}"></div>'
    return f'{place}<script type="application/json" id="{name}-data">{data}</script>'


def switches(name: str, groups: Mapping[str, str], *, bars: bool = False, names: bool = False) -> str:
    """Boxes that show and hide the groups of a chart, which are given with their colours; error bars; names."""
    boxes = [
        f'<label><input type="checkbox" checked data-chart="{name}" data-group="{group}">'
        f'<span class="swatch" style="background:{color}"></span>{text(group)}</label>'
        for group, color in groups.items()
    ]
    more = [("bars", "95% over images")] * bars + [("names", "names")] * names
    boxes += [
        f'<label><input type="checkbox" checked data-chart="{name}" data-what="{what}">{said}</label>'
        for what, said in more
    ]
    return f'<p class="switches">{"".join(boxes)}</p>'


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: Iterable[int] = ()) -> str:
    """A table; `numbers` are the columns that stand at the right."""
    right = set(numbers)
    head = "".join(
        f'<th scope="col"{" class=number" * (i in right)}>{text(name)}</th>' for i, name in enumerate(columns)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=number' * (i in right)}>{text(cell)}</td>" for i, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def folded(what: str, inner: str) -> str:
    """What is there for who opens it."""
    return f"<details><summary>{text(what)}</summary>{inner}</details>"


def choice(panels: Mapping[str, str], group: str, about: str) -> str:
    """One of several panels by its name, the first at the beginning."""
    options = "".join(f"<option>{text(name)}</option>" for name in panels)
    shown = "".join(f'<div class="{group}" data-name="{text(name)}">{inner}</div>' for name, inner in panels.items())
    return f'<p><label>{text(about)} <select data-panels="{group}">{options}</select></label></p>{shown}'
