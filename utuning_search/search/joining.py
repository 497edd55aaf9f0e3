"""Join a study in a database from anywhere: its folder here is made of what the database holds."""

import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import tomli_w

from utuning_search.common.errors import StudyError
from utuning_search.common.files import make_folder, write_atomically
from utuning_search.common.wording import listed
from utuning_search.data.spec import STORED
from utuning_search.search.creation import CREATING, check_name
from utuning_search.search.layout import LOCAL, SPEC
from utuning_search.search.leases import home
from utuning_search.search.masking import mask
from utuning_search.search.patience import is_away
from utuning_search.search.spec import StudySpec
from utuning_search.search.storage import place_of
from utuning_search.search.stored import open_study
from utuning_search.training.context import SearchContext
from utuning_search.tuners import BackboneShape

T = TypeVar("T")
LOOK = 1.0  # seconds between looks at a study that is not there yet


def join(folder: Path, url: str, wait: float = 0.0) -> None:
    """Make the folder of a study that a database holds; processes that do so at the same time write the same.

    Args:
        folder: Called as the study; it has no study yet.
        url: Of the database.
        wait: Seconds for which the study may still be created.

    Raises:
        StudyError: The database cannot be opened, holds no such study, holds one that is still created, or one of which
            the images lie in another folder only.
    """
    check_name(folder.name)
    until = time.monotonic() + wait
    while True:
        try:
            spec = _ready(folder, url)
            break
        except StudyError:
            if time.monotonic() >= until:
                raise
        time.sleep(LOOK)
    make_folder(folder)
    if not (folder / LOCAL).exists():
        settings = {"owner": uuid.uuid4().hex, "device": "auto", "storage": mask(url), "at": home(folder)}
        write_atomically(folder / LOCAL, tomli_w.dumps(settings))
    write_atomically(folder / SPEC, spec.to_toml())  # last: from here on there is a study


def patiently(load: Callable[[], T], wait: float) -> T:
    """What is loaded from a database whose server may be away, as where both are started at the same time.

    Raises:
        StudyError: At once for any other reason, and after `wait` seconds for this one.
    """
    until = time.monotonic() + wait
    while True:
        try:
            return load()
        except StudyError as error:
            if error.__context__ is None or not is_away(error.__context__) or time.monotonic() >= until:
                raise
        time.sleep(LOOK)


def _ready(folder: Path, url: str) -> StudySpec:
    """The spec of a study that can be joined."""
    where, name = place_of(url, folder), f"study '{folder.name}'"
    _, study, kept = open_study(url, folder)
    creating = study.user_attrs.get(CREATING)
    if creating:
        todo = "Wait for it, or if it was killed, run it there again."
        raise StudyError(f"{where}, {name}", "its creation has ended", f"one on its way in {creating}", todo)
    if kept.spec.task.data.source == STORED:
        todo = "Give its images as files, with --data, to a new study."
        rule = "its images can be found from other machines"
        raise StudyError(f"{where}, {name}", rule, "images that were given in Python, in its own folder", todo)
    return kept.spec


def refuse_others(
    where: str, spec: StudySpec, shape: BackboneShape, classes: Sequence[str], context: SearchContext
) -> None:
    """Raise StudyError where what was loaded here is not what a study was created with."""
    if context.shape != shape:
        todo = "Give the weights it was created with, or start a new study."
        raise StudyError(f"{where}, backbone", f"its shape is {shape}", context.shape, todo)
    todo = "Give the data it was created with, or start a new study."
    found = list(context.data.classes)
    if found != list(classes):
        parts = (("without", set(classes) - set(found)), ("with", set(found) - set(classes)))
        got = " and ".join(f"{word} {listed(sorted(names))}" for word, names in parts if names) or "another order"
        raise StudyError(f"{where}, data", f"its classes are the study's {len(classes)}", got, todo)
    if context.data.digest != spec.data:
        raise StudyError(f"{where}, data", f"its digest is {spec.data}", context.data.digest, todo)
