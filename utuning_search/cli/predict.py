"""`predict`: what images show, by an exported tuner."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from utuning_search.cli.console import console
from utuning_search.cli.options import PREDICTIONS, positive
from utuning_search.cli.streams import complain, say
from utuning_search.common.counts import counted
from utuning_search.common.errors import InputError
from utuning_search.common.wording import printable
from utuning_search.data.listing import SUFFIXES, images_below
from utuning_search.results.classifier import TunedClassifier
from utuning_search.results.load import load_tuned
from utuning_search.results.threshold import UNKNOWN
from utuning_search.training.runtime import resolve_device

Row = tuple[Path, str, list[tuple[str, float]]]  # an image, what is answered, and its classes with their probabilities
DIGITS = 6  # of a probability


def run(arguments: argparse.Namespace) -> int:
    if arguments.format not in PREDICTIONS:
        raise InputError("--format", f"format is one of {', '.join(PREDICTIONS)}", f"'{arguments.format}'")
    positive(arguments.top, "--top")
    positive(arguments.batch_size, "--batch-size")
    resolve_device(arguments.device)
    paths = [path for given in arguments.images for path in _images(Path(given))]
    model = load_tuned(
        arguments.export, device=arguments.device, data_dir=arguments.data_dir, checkpoint=arguments.checkpoint
    )
    if arguments.unknown and model.threshold is None:
        todo = "Export it again: utuning-search export NAME --unknown"
        raise InputError("--unknown", "the export keeps a threshold for it", "none", todo)
    skipped: dict[Path, str] = {}
    notes: list[str] = []
    top = min(arguments.top, len(model.classes))
    progress = _progress(arguments)
    # Older versions of rich (14.1 is one) end a line even of a disabled bar.
    with nullcontext() if progress.disable else progress:
        found = _rows(model, paths, top, arguments, skipped, notes, progress)
        if arguments.format == "csv":
            _say_csv(found, top)
        elif arguments.format == "json":
            _say_json(found, model.classes)
        else:
            table = _table(found, top)
    for path, reason in skipped.items():
        complain(f"warning: {path} cannot be read and was left out: {reason}")
    for note in notes:
        complain(f"note: {printable(note)}")
    if len(skipped) == len({*paths}):
        raise InputError("images", "at least one can be read", f"none of {len(paths):,}")
    if arguments.format == PREDICTIONS[0]:
        console.print(table)
    if skipped:
        complain(f"warning: {len(skipped):,} of {counted(len(paths), 'image')} left out.")
    return 0


def _images(given: Path) -> list[Path]:
    if given.is_dir():
        found = images_below(given)
        if not found:
            raise InputError(f"folder {given}", "there are images in it", "none", f"Images are {' '.join(SUFFIXES)}.")
        return found
    if not given.exists():
        raise InputError(f"image {given}", "it is an image file or a folder of images", "no such file or folder")
    return [given]


def _rows(
    model: TunedClassifier,
    paths: list[Path],
    top: int,
    arguments: argparse.Namespace,
    skipped: dict[Path, str],
    notes: list[str],
    progress: Progress,
) -> Iterator[Row]:
    """Images with their classes as they are predicted; `skipped` gets what cannot be read, `notes` what is odd."""
    task = progress.add_task("", total=len(paths))

    def skip(picture: object, reason: str) -> None:
        skipped[Path(str(picture))] = reason
        progress.advance(task)

    each = model.predict_each(paths, batch_size=arguments.batch_size, skipped=skip, noted=notes.append)
    for batch in each:
        for row, classes, known in zip(batch.rows, batch.top(top), batch.known.tolist(), strict=True):
            yield paths[row], classes[0][0] if known or not arguments.unknown else UNKNOWN, classes
        progress.advance(task, len(batch))


def _progress(arguments: argparse.Namespace) -> Progress:
    """A bar on standard error; none where nobody watches, or where it would run into what is printed."""
    shared = sys.stdout.isatty() and arguments.format != PREDICTIONS[0]
    columns = (TextColumn("predicting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        # Standard output is for other programs: by default the bar would take it over, and print it on its own stream.
        redirect_stdout=False,
        redirect_stderr=False,
        disable=arguments.quiet or shared or not sys.stderr.isatty(),
    )


def _say_csv(found: Iterator[Row], top: int) -> None:
    """One row an image: class and probability, with --top more of both."""
    more = [name for n in range(2, top + 1) for name in (f"class_{n}", f"probability_{n}")]
    header: list[object] = ["image", "class", "probability", *more]
    for path, answer, ((_, first), *others) in found:
        if header:
            say(_line(header))
            header = []
        rest = (value for name, share in others for value in (name, _rounded(share)))
        say(_line([path, answer, _rounded(first), *rest]))


def _line(values: list[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def _say_json(found: Iterator[Row], classes: tuple[str, ...]) -> None:
    """A list with one object an image, each in a line of its own."""
    number = {name: i for i, name in enumerate(classes)}
    before = ""
    for path, answer, known in found:
        top = [{"class": name, "label": number[name], "probability": _rounded(share)} for name, share in known]
        if before:
            say(f"{before},")
        first = {**top[0], "class": answer, "label": number.get(answer)}
        line = json.dumps({"image": str(path), **first, "top": top})  # ASCII: names may hold bytes that are no text
        before = line if before else f"[\n{line}"
    if before:
        say(f"{before}\n]")


def _rounded(share: float) -> float:
    return round(share, DIGITS)


def _table(found: Iterator[Row], top: int) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("image", overflow="fold")
    for n in range(top):
        table.add_column("class" if n == 0 else "", overflow="fold")
        table.add_column("", justify="right", no_wrap=True)
    for path, answer, classes in found:
        names = (answer, *(name for name, _ in classes[1:]))
        pairs = zip(names, classes, strict=True)
        named = (Text(v) for name, (_, share) in pairs for v in (printable(name), f"{100 * share:.1f}%"))
        table.add_row(Text(printable(str(path))), *named)
    return table
