"""Files that are either whole or not there, written beside their place and then moved."""

import contextlib
import os
import uuid
from collections.abc import Callable
from pathlib import Path

from utuning_search.common.errors import StudyError


def write_atomically(path: Path, content: bytes | str | Callable[[Path], None]) -> None:
    """Write bytes, UTF-8 text, or whatever a function writes to the path it is given.

    Raises:
        StudyError: The disk is full or the folder cannot be written; what was there before still is.
    """
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        if callable(content):
            content(temporary)
        else:
            data = content.encode() if isinstance(content, str) else content
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        todo = "Everything finished before is safe; make room or give another folder, then resume."
        raise StudyError(f"file {path}", "it can be written", error.strerror or error, todo) from None
    finally:
        with contextlib.suppress(OSError):  # what could not be written cannot be removed either
            temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Create a folder and its parents, and prove that a file can be written in it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{uuid.uuid4().hex[:8]}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        todo = "Choose another with --studies-dir or --out."
        raise StudyError(f"folder {path}", "it can be created and written", error.strerror or error, todo) from None
