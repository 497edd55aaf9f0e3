"""Names beside markers, each where it covers nothing; the door of textalloc."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import textalloc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from utuning_search.results.pictures.figure import SMALL

# Of the picture, between a name and what else there is; how far it may stand from its marker; places that are tried.
MARGIN, NEAR, FAR, TRIED = 0.003, 0.010, 0.28, 600


@dataclass(frozen=True)
class Label:
    """A name that is to stand beside a point, in the axes' own numbers."""

    x: float
    y: float
    text: str
    color: str


Point = tuple[float, float, float]  # x, y, and how far its marker reaches from there, in points
Line = tuple[Sequence[float], Sequence[float]]  # x and y of its corners


def place(axes: Axes, labels: Sequence[Label], points: Iterable[Point], lines: Iterable[Line]) -> str:
    """Write names where they cover neither points nor lines nor each other, and join those far from theirs to it.

    The first given have the first choice. Limits and layout have to stand.

    Args:
        axes: That they are written on.
        labels: The most important first.
        points: All markers; those of the labels among them.
        lines: All that is drawn besides, bars among them.

    Returns:
        A sentence that names those for which there was no room, and which are not written; or empty.
    """
    if not labels:
        return ""
    figure = cast(Figure, axes.figure)
    figure.draw_without_rendering()  # settles the layout, so that extents in pixels are those of the picture
    figure.set_layout_engine("none")
    spots, known = np.array(list(points), dtype=float).reshape(-1, 3), list(lines)
    pixels = figure.dpi / 72
    own = {(float(x), float(y)): float(reach) for x, y, reach in sorted(spots.tolist(), key=lambda p: p[2])}
    *_, texts, _ = textalloc.allocate(
        axes,
        [label.x for label in labels],
        [label.y for label in labels],
        [label.text for label in labels],
        x_scatter=spots[:, 0],
        y_scatter=spots[:, 1],
        scatter_sizes=spots[:, 2] * pixels,
        text_scatter_sizes=[own.get((label.x, label.y), 0.0) * pixels for label in labels],
        x_lines=[list(x) for x, _ in known] or None,
        y_lines=[list(y) for _, y in known] or None,
        textsize=SMALL,
        textcolor=[label.color for label in labels],
        linecolor=[label.color for label in labels],
        linewidth=0.4,
        margin=MARGIN,
        min_distance=NEAR,
        max_distance=FAR,
        nbr_candidates=TRIED,
        draw_all=False,
        avoid_label_lines_overlap=True,
        avoid_crossing_label_lines=True,
        plot_kwargs={"alpha": 0.6, "zorder": 2},
        va="bottom",
        zorder=6,
    )
    written: list[Text | None] = list(texts)
    without = dict.fromkeys(label.text for label, text in zip(labels, written, strict=True) if text is None)
    return f"No room for the names of {', '.join(without)}." if without else ""
