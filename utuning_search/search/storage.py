"""Optuna storages: the journal file in a study's folder, or any URL; checks, repair, masking."""

import contextlib
import os
import shlex
import warnings
import weakref
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import filelock
import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from utuning_search.common.errors import StudyError
from utuning_search.common.lazy import load
from utuning_search.search.journal_lines import is_line, parse
from utuning_search.search.masking import mask, masked
from utuning_search.search.patience import LOCK, PatientStorage

Storage = BaseStorage  # for those who are no door to optuna
JOURNAL = "journal.log"
SAFE = "Everything finished before is safe; mend the cause, then resume."
SHOWN = 200  # characters of a database's message
LIBPQ = ("psycopg", "psycopg2")  # drivers that take its settings
TABLES = 0  # beside LOCK, where turns have the number of a study, from 1 on
# Seconds, and of the last milliseconds: half a minute without an answer, and a connection is lost.
KEEPALIVE = {
    "connect_timeout": 10,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def quiet_optuna() -> None:
    """Only Optuna's errors; its messages on each trial would tear the display apart."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)


class JournalLock(JournalFileOpenLock):
    """A lock that the kernel gives back when its holder dies, however it dies.

    Optuna's own lock is a file: it outlives a killed process, and everyone else waits half a minute for it.
    """

    def __init__(self, journal: Path) -> None:
        self._held = filelock.FileLock(journal.with_name(f".{journal.name}.lock"))

    def acquire(self) -> bool:
        self._held.acquire()
        return True

    def release(self) -> None:
        self._held.release()


class _Journal(JournalFileBackend):
    """A journal file whose trouble is a StudyError, and which ends with a whole line after it."""

    def __init__(self, path: Path) -> None:
        self._path, self._guard = path, JournalLock(path)
        super().__init__(str(path), self._guard)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        try:
            for line in super().read_logs(log_number_from):
                if not (isinstance(line, dict) and is_line(line)):
                    raise ValueError("one that is not Optuna's")
                yield line
        except OSError as error:
            raise StudyError(f"journal {self._path}", "it can be read", error.strerror or error, SAFE) from None
        except (ValueError, RecursionError) as error:
            raise StudyError(f"journal {self._path}", "every line is whole", error, _repair(self._path)) from None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            self._guard.acquire()  # the same process may acquire it again
            try:
                before = self._path.stat().st_size
                try:
                    super().append_logs(logs)
                except OSError:
                    os.truncate(self._path, before)  # a full disk takes the first half of a line
                    raise
            finally:
                self._guard.release()
        except OSError as error:
            raise StudyError(f"journal {self._path}", "it can be written", error.strerror or error, SAFE) from None


def place_of(url: str | None, folder: Path) -> str:
    """A study's storage in the words of an error."""
    return f"--storage {mask(url)}" if url else f"journal {folder / JOURNAL}"


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """The storage of a URL, or without one the journal in `folder`, which is created if need be.

    Raises:
        StudyError: The journal is damaged, or the storage cannot be reached or ends with this process.
    """
    if not url:
        path = folder / JOURNAL
        check_journal(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return JournalStorage(_Journal(path))
        except OSError as error:
            raise StudyError(f"journal {path}", "it can be read and written", error.strerror) from None
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, AssertionError) as error:
            # Of lines that contradict each other.
            got = f"{type(error).__name__}: {error}"
            raise StudyError(f"journal {path}", "its lines tell one story", got, _repair(path)) from None
    if _is_in_memory(url):
        todo = "Give a file, such as sqlite:///studies.db"
        raise StudyError(place_of(url, folder), "a storage outlasts its process", "a database in memory", todo)
    try:
        return _served(url) if is_shared(url) else optuna.storages.get_storage(url)
    except Exception as error:
        raise StudyError(place_of(url, folder), "the storage can be opened", _said(error, url)) from None


def is_shared(url: str | None) -> bool:
    """Whether many processes, on many machines, may run one study in a storage: PostgreSQL's."""
    try:
        return bool(url) and load("sqlalchemy.engine", "make_url")(url).get_backend_name() == "postgresql"
    except Exception:  # no URL, which whoever opens it will say
        return False


def _served(url: str) -> BaseStorage:
    """The storage of a PostgreSQL server, which waits for it where it is away."""
    parsed = load("sqlalchemy.engine", "make_url")(url)
    # libpq's own settings, in a URL or in its environment, stand; these find out when the other side is gone.
    mine = {k: v for k, v in KEEPALIVE.items() if k not in parsed.query} if parsed.get_driver_name() in LIBPQ else {}
    with _alone(url, mine):
        storage = optuna.storages.RDBStorage(url, {"pool_pre_ping": True, "connect_args": mine})
    opened = PatientStorage(
        optuna.storages.get_storage(storage), storage.engine, lambda error: _said(error.__cause__ or error, url)
    )
    weakref.finalize(opened, storage.engine.dispose)  # the server is told that its connections are not needed
    return cast(BaseStorage, opened)


@contextlib.contextmanager
def _alone(url: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Have a database for oneself: of two that make Optuna's tables at the same moment one would be refused by it."""
    engine = load("sqlalchemy", "create_engine")(url, connect_args=dict(options))
    try:
        with engine.connect() as connection:  # its transaction ends with it, and the lock with that
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK}, {TABLES})")
            yield
    finally:
        engine.dispose()


def _is_in_memory(url: str) -> bool:
    """Whether it is one of SQLite's databases that are nowhere but in a process."""
    try:
        parsed = load("sqlalchemy.engine", "make_url")(url)
        name = parsed.database or ""
        return parsed.get_backend_name() == "sqlite" and (
            not name or ":memory:" in name or parsed.query.get("mode") == "memory"
        )
    except Exception:  # no URL, which whoever opens it will say
        return False


@contextlib.contextmanager
def storage_errors(url: str | None, folder: Path) -> Iterator[None]:
    """Make one StudyError of what a database raises while it is used."""
    try:
        yield
    except StorageInternalError as error:
        got = _said(error.__cause__ or error, url)
        raise StudyError(place_of(url, folder), "it can be read and written", got, SAFE) from None
    except Exception as error:
        if url and isinstance(error, load("sqlalchemy.exc", "SQLAlchemyError")):
            raise StudyError(place_of(url, folder), "it can be read and written", _said(error, url), SAFE) from None
        raise


def _said(error: BaseException, url: str | None) -> str:
    # Not every message of a database driver hides the password, so none is shown as it is; some have many lines.
    return f"{type(error).__name__}: {' '.join(masked(str(error), url or '').split())[:SHOWN]}"


def check_journal(path: Path) -> None:
    """Raise StudyError if a journal file has a torn or unreadable line; a file that is not there is fine."""
    if path.exists():
        whole, total = _sound_bytes(path)
        if whole < total:  # or another process is writing its last line right now
            with contextlib.suppress(StudyError), journal_locked(path):  # where nobody can write, nobody is
                whole, total = _sound_bytes(path)
        if whole < total:
            got = f"{total - whole} unreadable bytes after {whole} good ones"
            raise StudyError(f"journal {path}", "every line is whole", got, _repair(path))


@contextlib.contextmanager
def journal_locked(path: Path) -> Iterator[None]:
    """Keep other processes from reading a journal's end or writing to it."""
    lock = JournalLock(path)
    try:
        lock.acquire()
    except OSError as error:
        raise StudyError(f"journal {path}", "it can be locked", error.strerror or error) from None
    try:
        yield
    finally:
        lock.release()


def _repair(path: Path) -> str:
    name, place = shlex.quote(path.parent.name), shlex.quote(str(path.parent.parent))
    return f"Run: utuning-search repair {name} --studies-dir {place}"


def _sound_bytes(path: Path) -> tuple[int, int]:
    """(bytes up to the end of the last line before any that is torn or not Optuna's, all bytes)."""
    whole = 0
    with path.open("rb") as file:
        for line in file:
            if parse(line) is None:
                break
            whole += len(line)
    return whole, path.stat().st_size
