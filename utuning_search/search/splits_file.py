"""splits.json: which images a study's trials are trained and compared on, and what is odd about them."""

import json
from pathlib import Path
from typing import Any

from utuning_search.common.files import write_atomically
from utuning_search.data.decoded import SearchData
from utuning_search.search.layout import SPLITS


def write_splits(folder: Path, data: SearchData) -> None:
    """Write it into a study's folder."""
    write_atomically(folder / SPLITS, json.dumps(data.index(), indent=1) + "\n")


def read_splits(folder: Path) -> dict[str, Any]:
    """What it says; nothing if it is not there. It decides nothing."""
    try:
        found: dict[str, Any] = json.loads((folder / SPLITS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def skipped_images(folder: Path) -> dict[str, str]:
    """Images that were left out, and why, by name."""
    try:
        index = read_splits(folder)
        return {**index["proxy"]["skipped"], **index["validation"]["skipped"]}
    except (KeyError, TypeError):  # of an older version, or not ours: it decides nothing
        return {}


def notes_on_images(folder: Path) -> tuple[str, ...]:
    """What was done to the images, and what is odd about them, a line each."""
    found = read_splits(folder).get("notes")
    return tuple(map(str, found)) if isinstance(found, list) else ()
