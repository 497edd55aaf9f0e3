"""`--launcher`: workers of a study that run elsewhere, as tasks of Ray or as jobs that submitit hands to Slurm."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from utuning_search.cli.console import PLAIN, console
from utuning_search.cli.options import LAUNCHERS, STORAGE
from utuning_search.common.errors import InputError, StudyError, nearest
from utuning_search.common.lazy import load
from utuning_search.search.artifacts import place_of_artifacts
from utuning_search.search.storage import is_shared
from utuning_search.search.study import Study

OPTION = "--launcher"
Value = str | int


@dataclass(frozen=True)
class Launch:
    """What a launcher is to start.

    Attributes:
        study: Name of the study.
        folder: Of the study here, for what the launcher writes.
        arguments: Of `utuning-search worker`, but for its storage.
        storage: URL of the study's storage, with its password.
        workers: How many; None for as many as the launcher finds useful.
        gpus: Whether workers are to have GPUs, where there are any.
        options: Of the launcher.
    """

    study: str
    folder: Path
    arguments: tuple[str, ...]
    storage: str
    workers: int | None
    gpus: bool
    options: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """A worker that was launched has ended.

    Attributes:
        where: It ran, in the launcher's words.
        reason: Why it did not end well, in one line; or empty.
    """

    where: str
    reason: str


def check_launcher(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be launched, before anything is written.

    Raises:
        InputError: An option's value.
    """
    if not arguments.launcher:
        return
    name, options = _parsed(arguments.launcher)
    if not is_shared(arguments.storage):
        todo = f"Give --storage postgresql+psycopg://... or ${STORAGE}."
        rule = "it goes with a study in a PostgreSQL database, which its workers join"
        raise InputError(OPTION, rule, "another" if arguments.storage else "no storage", todo)
    if arguments.log:
        todo = "Go on with the study without --launcher, but with --log: what is missing is written then."
        raise InputError("--log", f"workers of {OPTION} write no logs", arguments.log[0], todo)
    if arguments.device is not None and ":" in arguments.device:
        todo = "Give --device cuda, or none."
        raise InputError("--device", f"with {OPTION} each worker is given a GPU of its own", arguments.device, todo)
    if arguments.workers == 0:
        raise InputError("--workers", f"with {OPTION} it is at least 1", 0)
    load(_module(name), "check")(options)


def launch(study: Study, arguments: argparse.Namespace) -> bool:
    """Launch workers of a study, and wait for their end; whether they came to it, rather than Ctrl-C or SIGTERM.

    Raises:
        StudyError: None of them ended well.
    """
    name, options = _parsed(arguments.launcher)
    device = arguments.device or study.local.get("device", "auto")
    wanted = Launch(
        study.name,
        study.folder.resolve(),
        _arguments(study, arguments),
        arguments.storage,
        arguments.workers,
        device != "cpu",
        options,
    )
    with console.status("Launching workers ...") as status:

        def changed(working: int, workers: int) -> None:
            settled = sum(r.settled for r in study.trials())
            status.update(f"{working} of {workers} workers at work, {settled} trials settled")

        try:
            ended: list[Ended] = load(_module(name), "launch")(wanted, changed)
        except KeyboardInterrupt:
            return False
    failed = [e for e in ended if e.reason]
    if len(failed) == len(ended):
        todo = f"Mend the cause; then: utuning-search worker {study.name} {OPTION} {arguments.launcher}"
        raise StudyError(OPTION, "workers end well", f"{failed[0].where}: {failed[0].reason.removesuffix('.')}", todo)
    for one in failed:
        console.print(f"  warning: {one.where}: {one.reason}", **PLAIN)
    return True


def _parsed(text: str) -> tuple[str, dict[str, Value]]:
    """The launcher and its options of text such as `submitit:slurm_partition=gpu,gpus_per_node=1`."""
    name, _, rest = text.partition(":")
    if name not in LAUNCHERS:
        raise InputError(OPTION, "it is a known one", f"'{name}'", nearest(name, LAUNCHERS))
    options: dict[str, Value] = {}
    for part in rest.split(",") if rest else ():
        key, _, value = part.partition("=")
        if not key.isidentifier() or not value:
            raise InputError(OPTION, f"its options are written like {name}:KEY=VALUE,KEY=VALUE", f"'{part}'")
        options[key] = int(value) if value.isdecimal() else value
    return name, options


def _module(name: str) -> str:
    """The module of a launcher, imported by who asks for it. It has two functions.

    `check(options)` raises InputError where its library is not there, or has not these options. `launch(wanted,
    on_change)` starts workers and waits for all of them; `on_change` is told how many still work, of how many. After
    KeyboardInterrupt it stops them.
    """
    return f"{__package__}.launch_{name}"


def _arguments(study: Study, arguments: argparse.Namespace) -> tuple[str, ...]:
    """What a worker is given. Paths are whole: it may start in another folder."""
    found = [study.name, f"--studies-dir={study.folder.parent.resolve()}", "--workers=1", "--quiet"]
    for option in ("trials", "epochs", "time", "device"):
        value = getattr(arguments, option)
        found += [] if value is None else [f"--{option}={value}"]
    data_dir = arguments.data_dir or study.local.get("data_dir")
    found += [f"--data-dir={Path(data_dir).resolve()}"] if data_dir else []
    found += [f"--artifacts={place_of_artifacts(arguments.artifacts)}"] if arguments.artifacts else []
    return tuple(found)
