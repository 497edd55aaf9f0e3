"""Optuna storages: the journal file in a study's folder, or any URL; checks, repair, masking."""

import json
import re
import warnings
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from utuning_search.errors import StudyError

JOURNAL = "journal.log"
_PASSWORD = re.compile(r"(://[^:/@\s]*:)\S*(@)")  # up to the last @: a password may hold one, or a slash
_IN_QUERY = re.compile(r"(password=)[^&\s]*", re.IGNORECASE)


def quiet_optuna() -> None:
    """Only Optuna's errors; its messages on each trial would tear the display apart."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def mask(url: str) -> str:
    """A storage URL fit for screens and files: the password replaced by ***."""
    return _IN_QUERY.sub(r"\1***", _PASSWORD.sub(r"\1***\2", url))


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """The storage of a URL, or without one the journal in `folder`.

    Raises:
        StudyError: The journal is damaged, or the storage cannot be reached.
    """
    # Not every message of a database driver hides the password, so none is shown as it is.
    if url is None:
        path = folder / JOURNAL
        check_journal(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return JournalStorage(JournalFileBackend(str(path)))
        except OSError as error:
            raise StudyError(f"journal {path}", "it can be read and written", error.strerror) from None
    try:
        return optuna.storages.get_storage(url)
    except Exception as error:
        raise StudyError(
            f"--storage {mask(url)}", "the storage can be opened", f"{type(error).__name__}: {mask(str(error))[:200]}"
        ) from None


def check_journal(path: Path) -> None:
    """Raise StudyError if a journal file has a torn or unreadable line; a file that is not there is fine."""
    if path.exists():
        whole, total = _sound_bytes(path)
        if whole < total:
            todo = f"Run: utuning-search repair {path.parent.name} --studies-dir {path.parent.parent}"
            got = f"{total - whole} unreadable bytes after {whole} good ones"
            raise StudyError(f"journal {path}", "every line is whole", got, todo)


def repair_journal(path: Path) -> tuple[int, int]:
    """Cut a journal back to its last sound line; what is cut off is kept in a file beside it.

    Returns:
        (bytes kept, bytes cut).
    """
    if not path.exists():
        raise StudyError(f"journal {path}", "it exists", "no such file")
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        whole, total = _sound_bytes(path)
        if whole < total:
            content = path.read_bytes()
            path.with_suffix(".damaged").write_bytes(content[whole:])
            with path.open("r+b") as file:
                file.truncate(whole)
    finally:
        lock.release()
    return whole, total - whole


def _sound_bytes(path: Path) -> tuple[int, int]:
    """(bytes up to the end of the last line before any that is torn or not JSON, all bytes)."""
    whole = 0
    with path.open("rb") as file:
        for line in file:
            try:
                sound = line.endswith(b"\n") and isinstance(json.loads(line), dict)
            except ValueError:
                sound = False
            if not sound:
                break
            whole += len(line)
    return whole, path.stat().st_size
