"""The picture of a confirmation: the finals on the test images."""

from pathlib import Path

from matplotlib.figure import Figure

from utuning_search.results.finals import Confirmation, Final
from utuning_search.results.metrics import words
from utuning_search.results.pictures.figure import FRONT, OTHER, PARAMETERS, PRESET, PRUNED, dress, empty, save
from utuning_search.results.pictures.labels import name_presets


def draw_finals(found: Confirmation, title: str) -> Figure:
    """Mean accuracy or other metric on the test images over seeds, with its 95% interval, against trainable parameters.

    A line joins the survivors whose means are above those of all smaller ones; the others are not known to be worse.
    An interval is of one design alone, over images and seeds; whether two can be told apart is decided pair by pair on
    the same images, and is narrower. Without predictions a bar is the standard deviation over seeds. A small dash is
    what the search read on its validation images.
    """
    figure, (axes,) = empty()
    measured = [f for f in found.finals if f.mean is not None]
    best: list[Final] = []
    for final in measured:
        if final.survives and (not best or (final.mean or 0) > (best[-1].mean or 0)):
            best.append(final)
    if best:
        x, y = [f.finalist.parameters for f in best], [100 * (f.mean or 0) for f in best]
        axes.plot(x, y, color=FRONT, linewidth=1.6, zorder=3)
    for survives, color in ((True, FRONT), (False, OTHER)):
        shown = [f for f in measured if f.survives is survives]
        if shown:
            axes.errorbar(
                [f.finalist.parameters for f in shown],
                [100 * (f.mean or 0) for f in shown],
                yerr=[[_bar(f)[end] for f in shown] for end in (0, 1)],
                fmt="o",
                color=color,
                markersize=6,
                capsize=3,
                zorder=4,
                label=f"{'survives' if survives else 'beaten'} ({len(shown)})",
            )
    read = [f for f in measured if f.finalist.validation is not None]
    if read:
        x, y = [f.finalist.parameters for f in read], [100 * (f.finalist.validation or 0) for f in read]
        axes.scatter(
            x, y, marker="_", color=PRUNED, s=90, zorder=2, label=f"validation {words(found.metric)} in the search"
        )
    presets = [
        (float(f.finalist.parameters), 100 * (f.mean or 0), max(_bar(f)), f.finalist.preset)
        for f in measured
        if f.finalist.preset
    ]
    if presets:
        places = [n for n, *_ in presets], [mean for _, mean, *_ in presets]
        axes.scatter(*places, marker="D", facecolors="none", edgecolors=PRESET, s=90, zorder=5, label="known methods")
    seeds = f"{found.seeds} seeds" if found.seeds > 1 else "one seed"
    seeds += ", 95%" if any(f.interval for f in measured) else ", mean ± sd" if found.seeds > 1 else ""
    dress(axes, title, PARAMETERS, f"{words(found.metric)} on {found.test_images:,} test images (%), {seeds}")
    axes.margins(0.08, 0.12)
    if measured:
        axes.legend(loc="best", framealpha=0.9)
    name_presets(axes, presets)
    return figure


def _bar(final: Final) -> tuple[float, float]:
    """Points from the mean down and up to the ends of its bar."""
    mean = final.mean or 0.0
    low, high = final.interval or (mean - (final.sd or 0.0), mean + (final.sd or 0.0))
    return 100 * max(mean - low, 0.0), 100 * max(high - mean, 0.0)


def save_finals(found: Confirmation, title: str, path: Path) -> None:
    """Write `draw_finals` as a PNG, whatever the file is called."""
    save(draw_finals(found, title), path)
