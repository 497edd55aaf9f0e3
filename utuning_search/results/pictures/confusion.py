"""The picture of a confusion matrix."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from utuning_search.results.pictures.figure import DPI, save

MOST_CLASSES = 100  # of more, no square can be seen
NAMED, WRITTEN = 40, 15  # classes up to which each has its name, and each square its share
LONGEST = 18  # letters of a name


def draw_confusion(confusion: npt.NDArray[np.int64], classes: Sequence[str], title: str) -> Figure:
    """Share of each true class's images (rows) that are taken for each class (columns).

    Args:
        confusion: Answers, (classes, classes).
        classes: Names, by number.
        title: Above it.
    """
    count = len(classes)
    side = 4.6 + 0.1 * min(count, NAMED)
    figure = Figure(figsize=(side + 0.8, side), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shares = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, shrink=0.8, label="of a class's images (%)")
    step = 1 if count <= NAMED else -(-count // 20)
    names = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in classes][::step]
    axes.set_xticks(range(0, count, step), names, rotation=90, fontsize=7)
    axes.set_yticks(range(0, count, step), names, fontsize=7)
    if count <= WRITTEN:
        for i, j in np.argwhere(confusion > 0):
            color = "white" if shares[i, j] > 50 else "black"
            said = f"{shares[i, j]:.0f}" if shares[i, j] >= 0.5 else "·"
            axes.text(j, i, said, ha="center", va="center", color=color, fontsize=7)
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=10, wrap=True)
    return figure


def save_confusion(confusion: npt.NDArray[np.int64], classes: Sequence[str], title: str, path: Path) -> None:
    """Write `draw_confusion` as a PNG, whatever the file is called."""
    save(draw_confusion(confusion, classes, title), path)
