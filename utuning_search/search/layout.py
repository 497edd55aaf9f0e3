"""What the files of a study's folder are called, and which of them no run needs any more."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path

from utuning_search.common.files import remove_unfinished
from utuning_search.common.locks import LOCK, Mark
from utuning_search.data.decoded import Store
from utuning_search.training.task import Task

SPEC, LOCAL, SPLITS, WEIGHTS, CHECKPOINTS = "spec.toml", "run.toml", "splits.json", "weights", "checkpoints"
USUAL = Path("studies")  # where studies lie unless told otherwise
IMAGES = ".images"  # begins the names of folders of decoded ones, for the processes of one run


def sweep_study(folder: Path, keep: Store | None = None) -> None:
    """`sweep` each folder of a study that runs write to."""
    for each in (folder, folder / WEIGHTS, folder / CHECKPOINTS):
        sweep(each, keep)


def sweep(folder: Path, keep: Store | None = None) -> None:
    """Remove what runs that were killed left in a folder: files half written, and decoded images, which are large.

    Whoever calls is the first in the folder, and may keep its own images; those of others that live are kept too.
    """
    remove_unfinished(folder)
    for left in {path.with_name(path.name.removesuffix(LOCK)) for path in folder.glob(f"{IMAGES}*")}:
        mark = Mark(left)
        if (keep is not None and left == keep.folder) or not mark.left():
            continue
        Store(left).remove()
        with suppress(OSError):  # of an older version, a file
            left.unlink(missing_ok=True)
        mark.remove()


def images_in(folder: Path, task: Task) -> Store | None:
    """Where decoded images of a task lie during a run; None for those that are in memory at once."""
    return None if task.data.source == "digits" else Store.beside(folder / IMAGES)


@contextmanager
def removed(store: Store | None, *, only_after_errors: bool = False) -> Iterator[None]:
    """Remove a store in the end, and after an error the folders that were made for it too, unless others use them."""
    above = [] if store is None else list(takewhile(lambda folder: not folder.exists(), store.folder.parents))
    try:
        yield
    except BaseException:
        if store is not None:
            store.remove()
            with suppress(OSError):  # something else lies in it
                for folder in above:
                    folder.rmdir()
        raise
    if store is not None and not only_after_errors:
        store.remove()


def named(folder: Path) -> str:
    """A study's folder as commands name it, for a shell."""
    place = "" if folder.parent == USUAL else f" --studies-dir {shlex.quote(str(folder.parent))}"
    return f"{shlex.quote(folder.name)}{place}"
