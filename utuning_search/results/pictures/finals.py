"""The picture of a confirmation: the finals on the test images."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from utuning_search.designs.presets import title_of
from utuning_search.results.finals import Confirmation, Final
from utuning_search.results.metrics import words
from utuning_search.results.pictures.figure import (
    FRONT,
    OTHER,
    PARAMETERS,
    PRESET,
    PRUNED,
    Entry,
    Look,
    append,
    dress,
    empty,
    key,
    save,
)
from utuning_search.results.pictures.labels import Label, Line, Point, place

REACH, DASH = 3.8, 3.6  # points from the middle of the largest marker to its tip, and of a dash to its end
SIDE = 1.08  # of the smallest and the largest size, to both ends of the axis, and no less than that


def draw_finals(found: Confirmation, look: Look = Look()) -> Figure:
    """Mean accuracy or other metric on the test images over seeds, with its 95% interval, against trainable parameters.

    A line joins the survivors whose means are above those of all smaller ones; the others are not known to be worse.
    An interval is of one design alone, over images and seeds; whether two can be told apart is decided pair by pair on
    the same images, and is narrower. Without predictions a bar is the standard deviation over seeds. A small dash is
    what the search read on its validation images. Known methods have their names, others their trial's number.
    """
    figure, (axes,) = empty(look)
    measured = [f for f in found.finals if f.mean is not None]
    entries: list[Entry] = []
    points: list[Point] = []
    lines: list[Line] = []
    best: list[Final] = []
    for final in measured:
        if final.survives and (not best or _mean(final) > _mean(best[-1])):
            best.append(final)
    if best:
        path = [_size(f) for f in best], [_mean(f) for f in best]
        axes.plot(*path, color=FRONT, linewidth=1.0, zorder=3)
        lines.append(path)
    for survives, color in ((True, FRONT), (False, OTHER)):
        shown = [f for f in measured if f.survives is survives]
        if shown:
            places = [_size(f) for f in shown], [_mean(f) for f in shown]
            bars = [[100 * f.bar[end] for f in shown] for end in (0, 1)]
            style: dict[str, Any] = {
                "fmt": "o",
                "markersize": 4,
                "capsize": 1.5,
                "elinewidth": 0.8,
                "capthick": 0.8,
                "zorder": 4,
            }
            drawn = axes.errorbar(*places, yerr=bars, color=color, **style)
            entries.append((drawn, f"{'survives' if survives else 'beaten'} ({len(shown)})"))
            points += [(x, y, 2.3) for x, y in zip(*places, strict=True)]
            lines += [((x, x), (y - a, y + b)) for x, y, a, b in zip(*places, *bars, strict=True)]
    presets = [f for f in measured if f.finalist.preset]
    if presets:
        places = [_size(f) for f in presets], [_mean(f) for f in presets]
        style = {"marker": "D", "facecolors": "none", "edgecolors": PRESET, "s": 26, "linewidths": 0.7, "zorder": 5}
        entries.append((axes.scatter(*places, **style), "known method"))
        points += [(x, y, REACH) for x, y in zip(*places, strict=True)]
    read = [f for f in measured if f.finalist.validation is not None]
    if read:
        places = [_size(f) for f in read], [100 * (f.finalist.validation or 0.0) for f in read]
        dashes = axes.scatter(*places, marker="_", color=PRUNED, s=(2 * DASH) ** 2, linewidths=0.9, zorder=2)
        entries.append((dashes, "validation in the search"))
        points += [(x, y, DASH) for x, y in zip(*places, strict=True)]
    axes.margins(y=0.08)
    if measured:
        sizes = [_size(f) for f in measured]
        pad = max((max(sizes) / min(sizes)) ** 0.06, SIDE)
        axes.set_xlim(min(sizes) / pad, max(sizes) * pad)
    seeds = f"{found.seeds} seeds" if found.seeds > 1 else "one seed"
    seeds += ", 95%" if any(f.interval for f in measured) else ", mean ± sd" if found.seeds > 1 else ""
    dress(axes, PARAMETERS, f"test {words(found.metric)} (%)", log=bool(measured))
    key(figure, entries, [f"{found.test_images:,} test images; {seeds}."], look)
    measured.sort(key=lambda f: (not f.survives, -_mean(f)))
    append(figure, place(axes, [_label(f) for f in measured], points, lines), look)
    return figure


def save_finals(found: Confirmation, path: Path, look: Look = Look(), kind: str = "png") -> None:
    """Write `draw_finals` in a format of `figure.FORMATS`, whatever the file is called."""
    save(draw_finals(found, look), path, kind)


def _label(final: Final) -> Label:
    who = final.finalist
    name = title_of(who.preset) or ("new" if who.trial is None else str(who.trial))
    return Label(_size(final), _mean(final), name, PRESET if who.preset else FRONT if final.survives else OTHER)


def _size(final: Final) -> float:
    return float(final.finalist.parameters)


def _mean(final: Final) -> float:
    """In per cent."""
    return 100 * (final.mean or 0.0)
