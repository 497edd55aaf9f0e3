"""What the files of a study's folder are called, and which of them no run needs any more."""

import shlex
from contextlib import suppress
from pathlib import Path

from utuning_search.common.files import remove_unfinished

SPEC, LOCAL, WEIGHTS, SPLITS = "spec.toml", "run.toml", "weights", "splits.json"
USUAL = Path("studies")  # where studies lie unless told otherwise
IMAGES = ".images.safetensors"  # decoded ones, for the workers of one run


def sweep(folder: Path) -> None:
    """Remove what runs that were killed left in a folder: files half written, and decoded images, which are large.

    Whoever calls has the folder alone.
    """
    remove_unfinished(folder)
    with suppress(OSError):
        (folder / IMAGES).unlink(missing_ok=True)


def named(folder: Path) -> str:
    """A study's folder as commands name it, for a shell."""
    place = "" if folder.parent == USUAL else f" --studies-dir {shlex.quote(str(folder.parent))}"
    return f"{shlex.quote(folder.name)}{place}"
