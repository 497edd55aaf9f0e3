"""Names in pictures cover nothing: no marker, no line, no other name, not the key."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.cbook import STEP_LOOKUP_MAP
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.transforms import Affine2D, Bbox

from utuning_search.designs.presets import title_of
from utuning_search.results.pictures.figure import Look
from utuning_search.results.pictures.front import draw_front
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.trials import TrialRecord, front_of
from utuning_search.testing.pretend import PretendStudy

from .recorded import RECORDED, recorded_trials, validation_of

LEADER = 0.4  # width of the thin lines that join names to markers
NO_ROOM = "No room for the names of "


def markers(axes: Axes) -> Iterator[Bbox]:
    """Boxes in pixels around all markers, from the shapes that are drawn."""
    for collection in axes.collections:
        if isinstance(collection, PathCollection):
            shape = collection.get_paths()[0].get_extents(Affine2D(collection.get_transforms()[0]))
            for x, y in collection.get_offset_transform().transform(collection.get_offsets()):
                yield Bbox.from_extents(x + shape.x0, y + shape.y0, x + shape.x1, y + shape.y1)


def lines(axes: Axes) -> Iterator[Path]:
    """Lines and bars in pixels, but those that join names to markers."""
    for line in axes.lines:
        if line.get_linewidth() != LEADER:
            x, y = line.get_data()
            corners = STEP_LOOKUP_MAP[line.get_drawstyle()](np.asarray(x, float), np.asarray(y, float))
            yield Path(axes.transData.transform(np.column_stack(corners)))
    for collection in axes.collections:
        if isinstance(collection, LineCollection):
            for segment in collection.get_segments():
                yield Path(axes.transData.transform(segment))


def check(figure: Figure) -> set[str]:
    """Nothing is covered; the names."""
    figure.draw_without_rendering()
    frame, names = figure.bbox, set[str]()
    for axes in figure.axes:
        boxes = {text: text.get_window_extent() for text in axes.texts}
        for text, box in boxes.items():
            assert not [m for m in markers(axes) if m.overlaps(box)], f"{text.get_text()} lies on a marker"
            assert not [p for p in lines(axes) if p.intersects_bbox(box, filled=False)], f"{text.get_text()} on a line"
            assert not [k for k in figure.legends if k.get_window_extent().overlaps(box)], "a name lies on the key"
            assert frame.x0 <= box.x0 <= box.x1 <= frame.x1, f"{text.get_text()} is cut"
            assert frame.y0 <= box.y0 <= box.y1 <= frame.y1, f"{text.get_text()} is cut"
        for (a, first), (b, second) in itertools.combinations(boxes.items(), 2):
            assert not first.overlaps(second), f"{a.get_text()} and {b.get_text()} lie on each other"
        names |= {text.get_text() for text in boxes}
    return names


def nameless(figure: Figure) -> set[str]:
    """Names that the picture says it has no room for."""
    said = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    return set(said.partition(NO_ROOM)[2].removesuffix(".").split(", ")) - {""}


def expected(records: list[TrialRecord]) -> tuple[set[str], set[str]]:
    """Names of the front, and of all known methods."""
    front = {title_of(r.preset) or str(r.number) for r in front_of(records)}
    return front, {title_of(r.preset) for r in records if r.preset and r.state == "complete" and r.reused is None}


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("2026-11-24_full_digits-2", 80),
        ("2026-11-24_presets_cifar100-subset", 80),
        ("2026-11-24_presets_digits-3", 80),
        ("2026-11-25_full_cifar100-subset", 80),
        ("2026-11-25_full_cifar100-subset", 160),
    ],
)
def test_names_of_recorded_fronts_cover_nothing(name: str, width: float) -> None:
    (folder,) = (f for f in RECORDED if f.name == name)
    records = recorded_trials(folder)
    figure = draw_front(records, Look(name, width), images=validation_of(folder))
    names = check(figure)
    front, known = expected(records)
    said = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert front <= names, "the front is named"
    assert [n for n in known if n not in names and n not in said] == [], "what has no name in the picture is said below"
    assert figure.get_figwidth() * 25.4 == pytest.approx(width)


@pytest.mark.parametrize("objectives", [("accuracy", "parameters"), ("accuracy", "flops", "parameters")])
def test_names_of_random_fronts_cover_nothing(objectives: tuple[str, ...]) -> None:
    study = PretendStudy(objectives=Objectives(objectives), seed=len(objectives))
    study.play(60)
    figure = draw_front(study.scheduler.records(), Look(width=80), Objectives(objectives), images=400)
    assert len(check(figure)) > 5
    assert len({axes.get_position().x0 for axes in figure.axes}) == 1, "narrow panels stand below each other"


def test_what_has_no_room_is_said() -> None:
    """Far too many known methods."""
    trial = recorded_trials(RECORDED[0])[0]
    records = [
        TrialRecord(
            number=i, state="complete", key=str(i), design=None, preset=f"method-{i}", parameters=20_000 + 300 * i,
            accuracy=0.8 - 0.0005 * i, epochs=1, seconds=1.0, rungs={}, reused=None, reason="",
        )
        for i in range(60)
    ]  # fmt: skip
    figure = draw_front([trial, *records], Look(width=60))
    names, without = check(figure), nameless(figure)
    assert without
    assert names | without == {title_of(r.preset) for r in [trial, *records]}
    assert not names & without


def test_far_trials_are_cut_and_counted() -> None:
    (folder,) = (f for f in RECORDED if f.name == "2026-11-24_presets_cifar100-subset")
    records = recorded_trials(folder)
    figure = draw_front(records, Look(width=80))
    (axes,) = figure.axes
    low = axes.get_ylim()[0]
    below = [r for r in records if 100 * (r.accuracy or 0) < low]
    assert {r.preset for r in below} == {"mam", "parallel-adapter"}
    assert max(axes.get_xlim()) < min(r.parameters for r in below)
    said = " ".join(text.get_text() for text in figure.texts).replace("\n", " ")
    assert "Below the picture: 2 dominated (Parallel adapter 2.4, MAM adapter 7.7)." in said
    front = front_of(records)
    assert all(low < 100 * (r.accuracy or 0) < axes.get_ylim()[1] for r in front)
