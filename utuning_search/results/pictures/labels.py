"""Names beside the markers of known methods, each where it covers least."""

from typing import cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from utuning_search.results.pictures.figure import PRESET

MARKER = 7  # pixels from the middle of a known method's marker to its tips
# Where a known method's name may stand, in points from its marker: above, below, beside, and farther.
NAME_OFFSETS = (
    (0, 9), (0, -9), (9, 0), (-9, 0), (8, 8), (-8, 8), (8, -8), (-8, -8), (0, 20), (0, -20), (0, 31), (0, -31),
)  # fmt: skip


def name_presets(axes: Axes, presets: list[tuple[float, float, float, str]]) -> None:
    """Names at (x, y, half a bar's height), each where it covers least of markers and other names.

    The axes' limits have to stand.
    """
    if not presets:
        return
    # Settles the layout, so that extents in pixels are those of the picture.
    cast(Figure, axes.figure).draw_without_rendering()
    points = axes.transData.transform([(x, y) for x, y, _, _ in presets])
    taken = [Bbox.from_extents(x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in points]
    for x, y, bar, name in sorted(presets):
        tried: list[tuple[float, int, Annotation, Bbox]] = []
        for i, (dx, dy) in enumerate(NAME_OFFSETS):
            text = axes.annotate(
                name,
                (x, y + bar * (dy > 0) - bar * (dy < 0)),
                xytext=(dx, dy),
                textcoords="offset points",
                ha="center" if dx == 0 else "left" if dx > 0 else "right",
                va="center" if dy == 0 else "bottom" if dy > 0 else "top",
                fontsize=8,
                color=PRESET,
                zorder=6,
            )
            extent = text.get_window_extent()
            tried.append((_covered(extent, [*taken, axes.bbox]), i, text, extent))
            if tried[-1][0] == 0:
                break
        best = min(tried, key=lambda t: t[:2])
        taken.append(best[3])
        for _, _, text, _ in tried:
            if text is not best[2]:
                text.remove()


def _covered(extent: Bbox, others: list[Bbox]) -> float:
    """Square pixels of `extent` that lie on others; the last of them is the frame, outside of which counts too."""
    *taken, frame = others
    area = sum(o.width * o.height for o in (Bbox.intersection(extent, t) for t in taken) if o is not None)
    inside = Bbox.intersection(extent, frame)
    return float(area + extent.width * extent.height - (0 if inside is None else inside.width * inside.height))
