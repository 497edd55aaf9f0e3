"""The reliability diagram of a final."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from utuning_search.results.calibration import Calibration
from utuning_search.results.pictures.figure import DPI, FRONT, OTHER, PRESET, save


def draw_calibration(found: Calibration, title: str) -> Figure:
    """Share of right answers against how sure they were, and below how many answers were so sure.

    On the diagonal is who is right as often as it is sure; bars below it are too sure.
    """
    figure = Figure(figsize=(5.2, 5.8), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    width, middles = 1 / len(found.answers), (found.edges[:-1] + found.edges[1:]) / 2
    some = found.answers > 0
    axes.plot((0, 1), (0, 1), color=OTHER, linestyle="--", linewidth=1, zorder=2, label="as sure as right")
    axes.bar(middles[some], found.accuracy[some], width, color=PRESET, edgecolor="white", alpha=0.6, label="right")
    axes.scatter(
        found.confidence[some],
        found.accuracy[some],
        s=12 + 60 * found.answers[some] / found.answers.max(),
        color=FRONT,
        zorder=3,
        clip_on=False,
        label="mean of a bar's answers",
    )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("share that is right")
    axes.set_title(f"{title}\nexpected calibration error {100 * found.error:.1f} points", fontsize=10, wrap=True)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)  # where no bar can be
    below.bar(middles, 100 * found.answers / np.maximum(found.answers.sum(), 1), width, color=OTHER, edgecolor="white")
    below.set_xlabel("probability of the class that was answered")
    below.set_ylabel("answers (%)")
    for panel in (axes, below):
        panel.grid(alpha=0.25)
    return figure


def save_calibration(found: Calibration, title: str, path: Path) -> None:
    """Write `draw_calibration` as a PNG, whatever the file is called."""
    save(draw_calibration(found, title), path)
