"""Where a task's relative paths are looked up."""

import os
from collections.abc import Iterator
from contextlib import suppress
from glob import has_magic
from pathlib import Path

from utuning_search.backbones.names import FOLDER, HUB, parse_name
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.common import files
from utuning_search.common.errors import InputError

DATA_DIR = "UTUNING_DATA_DIR"


def searched(data_dir: Path | None) -> list[Path]:
    """Where relative data paths start: the data directory, $UTUNING_DATA_DIR, the working directory."""
    return [Path(folder) for folder in (data_dir, os.environ.get(DATA_DIR), Path.cwd()) if folder]


def look_up(path: str, data_dir: Path | None) -> Path | None:
    """A data file or folder, absolute or in the first of `searched` that has it; None if none does."""
    candidates = (folder / path for folder in searched(data_dir))  # an absolute path stands for itself
    return next((candidate for candidate in candidates if is_there(candidate)), None)


def is_there(place: Path) -> bool:
    """Whether a file or folder exists, or some that a pattern such as photos/train-*.parquet fits."""
    return files.is_there(place) or next(matching(place), None) is not None


def matching(pattern: Path) -> Iterator[Path]:
    """Files that a pattern with *, ? or [...] in it fits; none for a path without."""
    base = fixed(pattern)
    if base != pattern:
        with suppress(OSError):  # a part of it is a name that no file can have
            yield from (path for path in base.glob(str(pattern.relative_to(base))) if path.is_file())


def fixed(pattern: Path) -> Path:
    """The folder that a pattern begins with; a path without one itself."""
    return next(path for path in (pattern, *pattern.parents) if files.is_there(path) or not has_magic(str(path)))


def find_data(path: str, data_dir: Path | None, where: str) -> Path:
    """As `look_up`, for what has to be there."""
    found = look_up(path, data_dir)
    if found is not None:
        return found
    folders = ", ".join(map(str, searched(data_dir)))
    todo = f"Say where it is now: give --data-dir, the folder that holds it, or set {DATA_DIR}."
    raise InputError(where, "it exists in the data directory", f"'{path}' in none of {folders}", todo)


def find_backbone(spec: BackboneSpec, data_dir: Path | None, where: str) -> str:
    """The name that a spec's backbone is loaded by: of a folder, where it lies now.

    Args:
        spec: Of it.
        data_dir: Where relative paths start.
        where: What names it, for errors.

    Raises:
        InputError: There is no such folder.
    """
    named = parse_name(spec.name)
    if named.source != FOLDER:
        return spec.exact
    path = str(Path(named.place).expanduser())
    try:
        return f"{FOLDER}:{find_data(path, data_dir, where)}"
    except InputError as error:
        todo = error.todo
        if ":" not in spec.name:
            todo += f" A timm model has no slash in its name; a repository of the hub is {HUB}:USER/MODEL."
        raise InputError(error.where, error.rule, error.got, todo) from None
