"""Folders that one process has alone."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from utuning_search.common.errors import StudyError

LOCK = ".lock"


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
