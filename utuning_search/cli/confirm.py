"""`confirm`: a front in earnest, on the test split."""

import argparse
from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from utuning_search.cli.display import PLAIN, console
from utuning_search.cli.options import add_place, positive
from utuning_search.common.errors import InputError
from utuning_search.results.confirm import SEEDS, TOP, Progress, confirm
from utuning_search.results.finalists import RULE
from utuning_search.results.finals import Confirmation, Final
from utuning_search.results.pictures import save_finals
from utuning_search.results.tables import FINALS_CSV, write_finals
from utuning_search.search.pareto import knee
from utuning_search.search.study import Study

FINALS_PNG = "finals.png"
STOPPED = 130


def add_commands(commands: Any) -> None:
    text = "train a front again on all training images, with several seeds, and test it"
    long = f"{text[0].upper()}{text[1:]}. Designs of the front: {RULE}; besides them the strongest known methods tried."
    parser = commands.add_parser("confirm", help=text, description=long)
    add_place(parser, name=True)
    parser.add_argument("--top", type=int, default=TOP, metavar="N", help=f"designs of the front (default: {TOP})")
    text = "confirm this trial, instead of the front and the strongest known methods; commas, or several times"
    parser.add_argument("--trial", action="append", default=[], metavar="N", help=text)
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"trainings each (default: {SEEDS})")
    text = "confirm a known method too, such as adapter-plus:rank=4; commas, several times, or all"
    parser.add_argument("--preset", action="append", default=[], metavar="P", help=text)
    parser.add_argument("--epochs", type=int, metavar="N", help="of each training (default: the task's)")
    text = "train on the images as they are, without random crops and mirror images (8-pixel images have none)"
    parser.add_argument("--no-augment", action="store_true", help=text)
    text = "processes; 0 trains in this one (default: one a CPU core, or one a GPU)"
    parser.add_argument("--workers", type=int, metavar="N", help=text)
    parser.add_argument("--device", metavar="D", help="auto, cpu, cuda or mps (default: the study's)")
    parser.add_argument("--data-dir", metavar="DIR", help="where the task's relative paths start")
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing until it is done")
    parser.set_defaults(run=confirm_command)


def confirm_command(arguments: argparse.Namespace) -> int:
    for option in ("top", "seeds", "epochs"):  # before a study is opened
        positive(getattr(arguments, option), f"--{option}")
    study = Study.load(arguments.name, studies_dir=arguments.studies_dir, storage=arguments.storage)
    place = "" if arguments.studies_dir == "studies" else f" --studies-dir {arguments.studies_dir}"
    place += " --storage URL" if arguments.storage else ""
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
            on_progress=None if arguments.quiet else say_progress,
        )
    except KeyboardInterrupt:
        again = f"utuning-search confirm {study.name}{_options(arguments)}{place}"
        console.print(f"\nStopped; all that was finished is kept. Go on with:\n  {again}", **PLAIN)
        return STOPPED
    write_finals(study, found)
    title = f"{study.spec.space.name} on {study.spec.task.name}: finals"
    save_finals(found, title, study.folder / FINALS_PNG)
    for line in _lines(found):
        console.print(line)
    console.print(f"\nPicture  {study.folder / FINALS_PNG}\nTable    {study.folder / FINALS_CSV}", **PLAIN)
    console.print("Next", **PLAIN)
    for line in _next(study, found, _options(arguments, seeds=2 * found.seeds)):
        console.print(f"  utuning-search {line}{place}", **PLAIN)
    return 0


def _trials(given: list[str]) -> list[int]:
    names = [name.strip() for text in given for name in text.split(",")]
    for name in names:
        if not name.isdecimal():
            raise InputError("--trial", "it is the number of a complete trial in the study", f"'{name}'")
    return [int(name) for name in names]


def _options(arguments: argparse.Namespace, **changed: int) -> str:
    """What was asked for, where it is not the default: whoever goes on has to ask for the same."""
    usual = {"top": TOP, "seeds": SEEDS, "epochs": None, "workers": None, "device": None, "data_dir": None}
    given = {name: changed.get(name, getattr(arguments, name)) for name in usual}
    said = [f" --{name.replace('_', '-')} {value}" for name, value in given.items() if value != usual[name]]
    said += [" --no-augment"] if arguments.no_augment else []
    said += [f" --trial {t}" for t in arguments.trial]
    return "".join([*said, *(f" --preset {p}" for p in arguments.preset)])


def say_progress(progress: Progress) -> None:
    """One line a finished training."""
    outcome, who = progress.outcome, progress.finalist
    got = f"{100 * outcome.accuracy:.2f}%" if outcome.accuracy is not None else f"failed: {outcome.reason}"
    took = "" if outcome.seconds is None else f" in {outcome.seconds:.0f}s"
    name = who.preset or str(who.design)
    console.print(f"[{progress.done}/{progress.total}] {got} on test{took}  seed {outcome.seed}  {name}", **PLAIN)


def _lines(found: Confirmation) -> Iterator[RenderableType]:
    passes = "1 epoch" if found.epochs == 1 else f"{found.epochs} epochs"
    how = f"{passes} on all training images" + ("" if found.augmented else ", not augmented")
    seeds = f"mean ± sd over {found.seeds} seeds" if found.seeds > 1 else "one seed, so without a spread"
    title = f"Finals: accuracy on {found.test_images:,} test images, {seeds}; {how}"
    table = Table(title=title, title_justify="left")
    for name in ("trial", "test", "search", "parameters", "tuner", "inference", "merged", "seconds", "MB"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("survives", justify="center", no_wrap=True)
    table.add_column("nearest known method", overflow="fold", ratio=2)
    table.add_column("design", overflow="fold", ratio=3)
    for final in found.finals:
        who = final.finalist
        table.add_row(
            "-" if who.trial is None else str(who.trial),
            _spread(final),
            "-" if who.validation is None else f"{100 * who.validation:.2f}%",
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
    yield table
    standing = sum(f.survives for f in found.front)
    others = sum(f.survives for f in found.finals) - standing
    yield Text(
        f"{standing} of {len(found.front)} designs of the search's front survive, and {others} other known methods: no "
        "design of at most their size is better by more than one standard error of the difference."
    )
    if found.luck is not None:
        yield Text(
            f"Selection luck: the search's validation accuracy is {abs(100 * found.luck):.2f} points "
            f"{'above' if found.luck >= 0 else 'below'} the test mean, "
            "on average over the front's designs; what augmentation and more images changed is in it too."
        )


def _next(study: Study, found: Confirmation, more: str) -> Iterator[str]:
    """Exports of the most accurate survivor and the survivors' knee, and more seeds."""
    tried = [f for f in found.survivors if f.finalist.trial is not None]
    if tried:
        accuracy, sizes = [f.mean or 0.0 for f in tried], [f.finalist.parameters for f in tried]
        picks = (tried[max(range(len(tried)), key=lambda i: accuracy[i])], tried[knee(accuracy, sizes)])
        for trial in dict.fromkeys(f.finalist.trial for f in picks):
            yield f"export {study.name} --pick trial={trial}"
    yield f"confirm {study.name}{more}"


def _spread(final: Final) -> str:
    if final.mean is None:
        return "-"
    return f"{100 * final.mean:.2f}%" + ("" if final.sd is None else f" ± {100 * final.sd:.2f}")


def _number(value: float | None, shape: str) -> str:
    return "-" if value is None else shape.format(value)
