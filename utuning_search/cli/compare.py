"""`compare`: two studies side by side."""

import argparse
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from utuning_search.cli.console import PLAIN, console
from utuning_search.cli.picture import wanted
from utuning_search.cli.studies import load_study
from utuning_search.common.errors import InputError
from utuning_search.results.comparing import Attained, Side, attainment, refuse_incomparable, side_of
from utuning_search.results.pictures.comparison import save_comparison
from utuning_search.results.report.provenance import cost_of
from utuning_search.search.trials import TrialRecord

SHOWN = 6  # settings that differ


def run(arguments: argparse.Namespace) -> int:
    picture = wanted(arguments)
    first, second = arguments.names
    if first == second:
        raise InputError("compare", "it takes two studies", f"'{first}' twice")
    studies = [load_study(argparse.Namespace(**{**vars(arguments), "name": name})) for name in arguments.names]
    refuse_incomparable(*studies)
    a, b = (side_of(study) for study in studies)
    if picture is not None:
        save_comparison(a, b, picture.path, picture.look, picture.kind)
    for line in _lines(a, b):
        console.print(line)
    differences = studies[0].spec.differences(studies[1].spec, f"in {first}", f"in {second}")
    for said in differences[:SHOWN]:
        console.print(f"  differs: {said}", **PLAIN)
    if differences[SHOWN:]:
        console.print(f"  and {len(differences) - SHOWN} more settings", **PLAIN)
    return 0


def _lines(a: Side, b: Side) -> Iterator[RenderableType]:
    yield _sides(a, b)
    for one, other in ((a, b), (b, a)):
        volume, reached = other.progress()[-1][1], one.progress()[-1][0]
        epochs = one.epochs_to(volume)
        said = "never" if epochs is None else f"after {epochs:,} of {reached:,} epochs"
        yield Text(f"{one.name} reached the hypervolume of {other.name}, {volume:.4f}, {said}.")
    found = attainment(a, b)
    if found:
        yield _attained(a, b, found)
        if any(at.interval for at in found):
            yield Text(
                "95%: over the choice of validation images alone, of one training each. Who is ahead beyond it may "
                "still owe that to a seed; confirm decides."
            )


def _sides(a: Side, b: Side) -> Table:
    table = Table(title="Two studies", title_justify="left")
    table.add_column("")
    for side in (a, b):
        table.add_column(side.name, justify="right", overflow="fold")
    quality = a.objectives.quality
    both = min(side.progress()[-1][0] for side in (a, b))

    def row(what: str, *cells: str) -> None:
        table.add_row(what, *cells)

    row("cost", *(cost_of(side.records) for side in (a, b)))
    row("designs on the front", *(str(len(side.front)) for side in (a, b)))
    row(f"best {quality.name.replace('_', ' ')}", *(_best(side) for side in (a, b)))
    row("hypervolume", *(f"{side.progress()[-1][1]:.4f}" for side in (a, b)))
    row(f"hypervolume after {both:,} epochs", *(f"{side.volume_after(both):.4f}" for side in (a, b)))
    return table


def _best(side: Side) -> str:
    known = side.objectives.quality
    values = [r.values[known.name] for r in side.front]
    return known.text(max(values, key=known.gain)) if values else "-"


def _attained(a: Side, b: Side, found: Sequence[Attained]) -> Table:
    quality, cost = a.objectives.quality, a.objectives.cost
    table = Table(title=f"Best {quality.name.replace('_', ' ')} within a size", title_justify="left")
    for name in (cost.name, a.name, b.name, "difference", "95%", "ahead"):
        table.add_column(name, justify="right", no_wrap=name == cost.name)

    def cell(record: TrialRecord | None) -> str:
        return (
            "-" if record is None else f"{quality.text(record.values[quality.name])} ({record.preset or record.number})"
        )

    for at in found:
        both = at.a is not None and at.b is not None
        gap = at.b.values[quality.name] - at.a.values[quality.name] if at.a and at.b else 0.0
        ends = "" if at.interval is None else " to ".join(f"{100 * end:+.1f}" for end in at.interval)
        ahead = {"a": a.name, "b": b.name, "": "-"}[at.ahead]
        said = "-" if not both else f"{100 * gap:+.2f}" if not quality.unit else f"{gap:+g}"
        table.add_row(cost.text(at.cost), cell(at.a), cell(at.b), said, ends, ahead)
    return table
