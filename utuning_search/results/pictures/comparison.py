"""The picture of two studies side by side: their fronts, and their hypervolume over epochs."""

from pathlib import Path

from matplotlib.figure import Figure

from utuning_search.results.comparing import Side
from utuning_search.results.pictures.figure import FRONT, PRESET, Entry, Look, dress, empty, key, save
from utuning_search.results.pictures.limits import fit
from utuning_search.results.sampling_error import interval_of

COLORS = (PRESET, FRONT)
MARGIN = 0.07  # of the range of hypervolumes


def draw_comparison(a: Side, b: Side, look: Look = Look()) -> Figure:
    """Fronts of two studies of the same objectives, with 95% intervals of accuracies over images, and hypervolumes.

    A study of one objective has no front to draw: then it is the hypervolume alone.
    """
    quality, cost = a.objectives.quality, a.objectives.cost
    share = 100.0 if not quality.unit else 1.0
    two = len(a.objectives) > 1
    figure, panels = empty(look, 2 if two else 1)
    entries: list[Entry] = []
    for side, color in zip((a, b), COLORS, strict=True):
        epochs, reached = zip(*side.progress(), strict=True)
        (line,) = panels[-1].step(epochs, reached, where="post", color=color, linewidth=1.0)
        entries.append((line, f"{side.name} ({len(side.front)})"))
        if two:
            places = [r.values[cost.name] for r in side.front]
            heights = [share * r.values[quality.name] for r in side.front]
            panels[0].step(places, heights, where="post", color=color, linewidth=1.0, zorder=3)
            panels[0].scatter(places, heights, s=14, color=color, zorder=4)
            if quality.name == "accuracy":
                bars = [interval_of(r, side.images) or (0.0, 0.0) for r in side.front]
                lows, highs = ([100 * pair[end] for pair in bars] for end in (0, 1))
                panels[0].vlines(places, lows, highs, colors=color, alpha=0.3, linewidth=1.6, zorder=1)
    if two:
        log = cost.log
        best = [*a.front, *b.front]
        limits = fit(best, [], lambda r: r.values[cost.name], lambda r: share * r.values[quality.name], log=log)
        if limits is not None:
            panels[0].set_xscale("log" if log else "linear")
            panels[0].set_xlim(limits.x)
        dress(panels[0], cost.label, quality.label if quality.unit else f"{quality.label} (%)", log=log)
    volumes = [volume for side in (a, b) for _, volume in side.progress() if volume > 0]
    if volumes and max(volumes) > min(volumes):  # what the first trial adds to nothing would hide the rest
        span = max(volumes) - min(volumes)
        panels[-1].set_ylim(min(volumes) - MARGIN * span, max(volumes) + MARGIN * span)
    dress(panels[-1], "epochs trained", "hypervolume", log=False)
    key(figure, entries, [], look)
    return figure


def save_comparison(a: Side, b: Side, path: Path, look: Look = Look(), kind: str = "png") -> None:
    """Write `draw_comparison` in a format of `figure.FORMATS`, whatever the file is called."""
    save(draw_comparison(a, b, look), path, kind)
