"""Files that are either whole or not there, written beside their place and then moved; and folders one has alone."""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from utuning_search.common.errors import StudyError

LOCK = ".lock"


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


@contextlib.contextmanager
def locked(folder: Path, study: str, does: str) -> Iterator[None]:
    """Keep other processes that lock `folder` out; whoever comes second is told what one of them `does` already.

    Raises:
        StudyError: Another process has it, or the folder cannot be locked.
    """
    # The kernel gives the lock back when its holder dies, however it dies.
    lock = filelock.FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        todo = "Wait for it, or stop it; --workers N uses more cores in one process."
        raise StudyError(f"study '{study}'", f"one process {does} it", "another one", todo) from None
    except OSError as error:
        raise StudyError(f"study '{study}'", "its folder can be locked", error.strerror or error) from None
    try:
        yield
    finally:
        lock.release()


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
