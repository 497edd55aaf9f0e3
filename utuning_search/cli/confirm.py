"""`confirm`: a front in earnest, on the test split."""

import argparse
import shlex
from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from utuning_search.cli.console import PLAIN, console
from utuning_search.cli.display import say_again, say_progress
from utuning_search.cli.options import positive
from utuning_search.cli.stopped import Stopped
from utuning_search.cli.studies import FINALS_PNG, load_study, place_of, write_confirmation
from utuning_search.common.errors import InputError
from utuning_search.common.wording import printable
from utuning_search.results.confirm import confirm
from utuning_search.results.defaults import SEEDS, TOP
from utuning_search.results.finals import Confirmation, Final
from utuning_search.results.metrics import checked, words
from utuning_search.results.outcomes import FINALS
from utuning_search.results.remeasure import flattery, remeasure
from utuning_search.results.statistics.paired import DOUBT
from utuning_search.results.tables import COMPARISONS_CSV, FINALS_CSV
from utuning_search.results.words import advice, readings, resolution, smallest_equal
from utuning_search.search.study import Study

DIGITS = 18  # of a trial's number


def run(arguments: argparse.Namespace) -> int:
    for option in ("top", "seeds", "epochs", "remeasure"):  # before a study is opened
        positive(getattr(arguments, option), f"--{option}")
    if arguments.metric is not None:
        checked(arguments.metric)
    study = load_study(arguments)
    place = place_of(arguments)
    try:
        found = confirm(
            study,
            top=arguments.top,
            trials=_trials(arguments.trial),
            seeds=arguments.seeds,
            presets=arguments.preset,
            epochs=arguments.epochs,
            augment=not arguments.no_augment,
            workers=arguments.workers,
            device=arguments.device,
            data_dir=arguments.data_dir,
            metric=arguments.metric,
            on_progress=None if arguments.quiet else say_progress,
        )
        if arguments.remeasure is not None:
            found = remeasure(
                study,
                found,
                arguments.remeasure,
                workers=arguments.workers,
                device=arguments.device,
                data_dir=arguments.data_dir,
                on_progress=None if arguments.quiet else say_again,
            )
    except KeyboardInterrupt:
        raise Stopped(f"confirm {study.name}{_options(arguments)}{place}") from None
    write_confirmation(study, found)
    for line in _lines(found):
        console.print(line)
    console.print(f"\nPicture  {study.folder / FINALS_PNG}", **PLAIN)
    console.print(f"Tables   {study.folder / FINALS_CSV}  {study.folder / FINALS / COMPARISONS_CSV}", **PLAIN)
    console.print("Next", **PLAIN)
    for line in _next(study, found, _options(arguments, seeds=2 * found.seeds)):
        console.print(f"  utuning-search {line}{place}", **PLAIN)
    return 0


def _trials(given: list[str]) -> list[int]:
    names = [name.strip() for text in given for name in text.split(",")]
    for name in names:
        if not name.isdecimal() or len(name) > DIGITS:  # int() reads no more than some thousands
            raise InputError("--trial", "it is the number of a complete trial in the study", f"'{name}'")
    return [int(name) for name in names]


def _options(arguments: argparse.Namespace, **changed: int) -> str:
    """What was asked for, where it is not the default: whoever goes on has to ask for the same."""
    usual = {"top": TOP, "seeds": SEEDS, "epochs": None, "remeasure": None}
    usual |= {"metric": None, "workers": None, "device": None, "data_dir": None}
    given = {name: changed.get(name, getattr(arguments, name)) for name in usual}
    said = [
        f" --{name.replace('_', '-')} {shlex.quote(str(value))}"
        for name, value in given.items()
        if value != usual[name]
    ]
    said += [" --no-augment"] if arguments.no_augment else []
    said += [f" --trial {shlex.quote(t)}" for t in arguments.trial]
    return "".join([*said, *(f" --preset {shlex.quote(p)}" for p in arguments.preset)])


def _lines(found: Confirmation) -> Iterator[RenderableType]:
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
    for name in (
        "trial",
        "test",
        "95%",
        "validation",
        "ECE",
        "parameters",
        "tuner",
        "inference",
        "merged",
        "seconds",
        "MB",
    ):
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


def _next(study: Study, found: Confirmation, more: str) -> Iterator[str]:
    """Exports of the most accurate survivor and of the smallest that cannot be told apart from it, and more seeds."""
    tried = [f for f in found.survivors if f.finalist.trial is not None]
    if tried:
        best = max(tried, key=lambda f: f.mean or 0.0)
        for trial in dict.fromkeys(f.finalist.trial for f in (best, smallest_equal(found, best)) if f in tried):
            yield f"export {study.name} --pick trial={trial}"
    yield f"confirm {study.name}{more}"


def _spread(final: Final) -> str:
    if final.mean is None:
        return "-"
    return f"{100 * final.mean:.2f}%" + ("" if final.sd is None else f" ± {100 * final.sd:.2f}")


def _number(value: float | None, shape: str) -> str:
    return "-" if value is None else shape.format(value)
