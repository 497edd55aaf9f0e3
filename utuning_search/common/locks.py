"""Folders that one process has alone."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from utuning_search.common.errors import StudyError

LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: Path, study: str, does: str) -> Iterator[bool]:
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
        yield True
    finally:
        lock.release()


@contextlib.contextmanager
def first(folder: Path) -> Iterator[bool]:
    """Whether this process is the only one in `folder` that asks so, or the first; it stays so while it is entered.

    Where folders cannot be locked, as on some network file systems, nobody is.
    """
    lock = filelock.FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except (filelock.Timeout, OSError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


class Mark:
    """Says of a file or folder that a living process uses it, by a lock beside it.

    Args:
        path: What is used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f"{path.name}{LOCK}")
        self._lock = filelock.FileLock(self._path, blocking=False)

    def set(self) -> None:
        """From now on this process uses it, until `remove` or its end, however it ends."""
        if not self._lock.is_locked:
            with contextlib.suppress(OSError):  # where nothing can be locked, nobody is told
                self._lock.acquire()

    def left(self) -> bool:
        """Whether no living process uses it."""
        if not self._path.exists():
            return True
        try:
            self._lock.acquire()
        except (filelock.Timeout, OSError):
            return False
        self._lock.release()
        return True

    def remove(self) -> None:
        """Nobody uses it any more: it is gone."""
        self._lock.release()
        self._path.unlink(missing_ok=True)
