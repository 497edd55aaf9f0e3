"""A storage on a server that may be away for a while: what is asked of it is asked again, until it answers.

A server is restarted, a connection is cut, a network is down for a minute: none of that is a reason to lose what GPUs
are in the middle of. Calls are made again with growing pauses; the first failure and the end of it are told, a line
each. All that Optuna writes can be written twice: attributes and values are the same, and of a trial that was
created twice the first copy is given back by whoever finds that it has the place of the second.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage

from utuning_search.common.lazy import load

P = ParamSpec("P")
T = TypeVar("T")
PATIENCE = 600.0  # seconds for which a server may be away
FIRST, LONGEST = 0.1, 5.0  # seconds between two tries, at first and at most
TURN = 2000  # milliseconds for which one waits for a turn before it looks after its own trials again
LOCK = 0x7574756E  # "utun": tells our locks apart from others in the same database
BUSY = "55P03"  # what PostgreSQL calls a lock that was not to be had in time


class PatientStorage:
    """Everything of a storage in a database on a server, but for what the module says.

    Optuna asks nothing of a storage but its methods, so this one passes on all that it does not have itself, whatever
    a version of Optuna adds.

    Args:
        storage: What it stands before.
        engine: SQLAlchemy's, of the same database.
        describe: Says what an error is, for a user.
        patience: Seconds for which the server may be away.

    Attributes:
        hurried: The storage itself, which fails at once.
        away: Seconds that were waited for the server in all.
        pause: Called to wait for some seconds.
        say: Called with one line when the server is away, and when it is back.
    """

    def __init__(
        self,
        storage: BaseStorage,
        engine: Any,
        describe: Callable[[BaseException], str] = str,
        patience: float = PATIENCE,
    ) -> None:
        self.hurried, self.patience, self.away = storage, patience, 0.0
        self.pause: Callable[[float], None] = time.sleep
        self.say: Callable[[str], None] = _nothing
        self._engine, self._describe = engine, describe
        self._draw = random.Random()  # of its own: it decides no trial

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.hurried, name)
        return partial(self.ask, found) if callable(found) and not name.startswith("_") else found

    def ask(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a function that talks to the server, called again for as long as that is away.

        Raises:
            Whatever the function raises: at once what is no trouble of the server, else once patience is over.
        """
        since, pause, said = time.monotonic(), FIRST, False
        while True:
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                passed = time.monotonic() - since
                if not is_away(error) or passed >= self.patience:
                    raise
                if not said and pause > FIRST:  # one that is back at once is not worth a line
                    self.say(f"the storage does not answer ({self._describe(error)}); waiting for it")
                    said = True
                # Not all at the same moment: whoever waits would fall upon a server that has just come back.
                self.pause(pause * self._draw.uniform(0.5, 1.0))
                pause = min(2 * pause, LONGEST)
                continue
            if pause > FIRST:
                waited = time.monotonic() - since
                self.away += waited
                if said:
                    self.say(f"the storage answers again, after {waited:.0f} s")
            return result

    def hurry(self) -> None:
        """Wait for nothing any more: this process is asked to end."""
        self.patience = 0.0

    @contextmanager
    def turn(self, study: int) -> Iterator[bool]:
        """Have a study for oneself while the next trial is chosen, as far as others ask for their turn too.

        Args:
            study: Its number in the storage.

        Yields:
            Whether it is ours; False where others had it for all of TURN.
        """
        taken = self.ask(self._take, study)
        if taken is None:
            yield False
            return
        try:
            yield True
        finally:
            # Closing gives the lock back. If the connection was lost meanwhile, the server has done so.
            with suppress(Exception):
                taken.close()

    def _take(self, study: int) -> Any:
        """A connection whose transaction holds the lock of a study, or None where others have it."""
        connection = self._engine.connect()
        try:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {TURN}")
            # Of a transaction, not of a session: it works behind poolers that share sessions, too.
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK}, {study:d})")
        except BaseException as error:
            with suppress(Exception):
                connection.close()
            if getattr(getattr(error, "orig", None), "sqlstate", "") == BUSY:
                return None
            raise
        return connection


def is_away(error: BaseException) -> bool:
    """Whether an error is the trouble of a server or of the way to it, rather than of what was asked."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) else error
    # The last one: Optuna tries to create a trial once more by itself, in the session whose connection was cut; what it
    # is told then is that this session has to be rolled back, as by now it has been.
    kinds = ["OperationalError", "InterfaceError", "DisconnectionError", "TimeoutError", "PendingRollbackError"]
    return isinstance(cause, tuple(load("sqlalchemy.exc", kind) for kind in kinds)) or bool(
        getattr(cause, "connection_invalidated", False)
    )


def patient(storage: BaseStorage) -> PatientStorage | None:
    """A storage as a patient one; None where it is none, as it is no server's."""
    found = cast(object, storage)  # it stands before a storage, and is none by its type
    return found if isinstance(found, PatientStorage) else None


def _nothing(line: str) -> None:
    del line
