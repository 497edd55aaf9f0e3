"""What commands say of finals: their table, how they read against each other, and what selection flattered."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from utuning_search.common.wording import printable
from utuning_search.results.finals import Confirmation, Final
from utuning_search.results.metrics import words
from utuning_search.results.remeasure import flattery
from utuning_search.results.statistics.paired import DOUBT
from utuning_search.results.words import advice, readings, resolution

MEASURED = ("trial", "test", "95%", "validation", "ECE")
COLUMNS = (*MEASURED, "parameters", "tuner", "inference", "merged", "seconds", "MB")


def finals_lines(found: Confirmation) -> Iterator[RenderableType]:
    """The table of the finals, one line each against its rival, and what all of them together can tell."""
    yield _table(found)
    yield from map(Text, readings(found))
    standing = sum(f.survives for f in found.front)
    others = sum(f.survives for f in found.finals) - standing
    pairs = len(found.comparisons)
    corrected = f", corrected for {pairs} comparisons" if pairs > 1 else ""
    yield Text(
        f"{standing} of {len(found.front)} designs of the search's front survive, and {others} besides: no design of "
        f"at most their size is better beyond doubt (p below {DOUBT:.2f}{corrected})."
    )
    told = resolution(found.comparisons)
    if told is not None:
        seeds = "1 seed" if found.seeds == 1 else f"{found.seeds} seeds"
        yield Text(f"{found.test_images:,} images and {seeds} tell differences of about {100 * told:.1f} points.")
    for final in found.finals:
        if final.beaten_by:
            yield Text(f"{final.finalist.name}: {advice(found, final)}.")
    yield from map(Text, _remeasured(found))
    yield from (Text(f"note: {printable(note)}") for note in found.notes)


def _table(found: Confirmation) -> Table:
    passes = "1 epoch" if found.epochs == 1 else f"{found.epochs} epochs"
    how = f"{passes} on all training images" + ("" if found.augmented else ", not augmented")
    seeds = f"mean ± sd over {found.seeds} seeds" if found.seeds > 1 else "one seed, so without a spread"
    title = f"Finals: {words(found.metric)} on {found.test_images:,} test images, {seeds}; {how}"
    table = Table(title=title, title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("survives", justify="center", no_wrap=True)
    table.add_column("nearest known method", overflow="fold", ratio=2)
    table.add_column("design", overflow="fold", ratio=3)
    for final in found.finals:
        who = final.finalist
        table.add_row(
            "-" if who.trial is None else str(who.trial),
            _spread(final),
            "-" if final.interval is None else "-".join(f"{100 * end:.1f}" for end in final.interval),
            "-" if who.validation is None else f"{100 * who.validation:.2f}%",
            "-" if (sure := final.calibration) is None else f"{100 * sure.error:.1f}%",
            f"{who.parameters:,}",
            f"{who.tuner_parameters:,}",
            _number(final.middle("inference_ratio"), "×{:.2f}"),
            _number(final.middle("merged_ratio"), "×{:.2f}"),
            _number(final.middle("seconds"), "{:.1f}"),
            _number(final.memory_mb, "{:.0f}"),
            "yes" if final.survives else "failed" if final.mean is None else "no",
            f"{who.nearest} ({who.preset})" if who.preset else who.nearest,
            Text(str(who.design) if not final.reason else f"{who.design} ({final.reason})"),
        )
    return table


def _remeasured(found: Confirmation) -> Iterator[str]:
    """How much validation accuracies were flattered, of what the search chose and, beside it, of the others."""
    others = [f for f in found.finals if not f.finalist.on_front]
    for whose, finals in (("of the front", found.front), ("besides", others)):
        known = [f for f in finals if f.flattered is not None]
        bias = flattery(known)
        if bias is not None:
            designs = f"{len(known)} {'design' if len(known) == 1 else 'designs'} {whose}"
            yield (
                f"Selection bias on validation: {100 * bias:+.1f} points on average "
                f"({designs} x {len(known[0].remeasured)} fresh seeds)"
            )


def _spread(final: Final) -> str:
    if final.mean is None:
        return "-"
    return f"{100 * final.mean:.2f}%" + ("" if final.sd is None else f" ± {100 * final.sd:.2f}")


def _number(value: float | None, shape: str) -> str:
    return "-" if value is None else shape.format(value)
