"""Where a task's relative paths are looked up."""

import os
from pathlib import Path

from utuning_search.common.errors import InputError

DATA_DIR = "UTUNING_DATA_DIR"


def searched(data_dir: Path | None) -> list[Path]:
    """Where relative data paths start: the data directory, $UTUNING_DATA_DIR, the working directory."""
    return [Path(folder) for folder in (data_dir, os.environ.get(DATA_DIR), Path.cwd()) if folder]


def look_up(path: str, data_dir: Path | None) -> Path | None:
    """A data file or folder, absolute or in the first of `searched` that has it; None if none does."""
    candidates = (folder / path for folder in searched(data_dir))  # an absolute path stands for itself
    return next((candidate for candidate in candidates if candidate.exists()), None)


def find_data(path: str, data_dir: Path | None, where: str) -> Path:
    """As `look_up`, for what has to be there."""
    found = look_up(path, data_dir)
    if found is not None:
        return found
    folders = ", ".join(map(str, searched(data_dir)))
    todo = f"Say where it is now: give --data-dir, the folder that holds it, or set {DATA_DIR}."
    raise InputError(where, "it exists in the data directory", f"'{path}' in none of {folders}", todo)
