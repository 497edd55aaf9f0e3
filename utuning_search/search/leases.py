"""Whose a trial is, and who is alive: each owner gives signs of life into the storage, and the others watch for them.

Optuna has heartbeats for databases only, not for journal files, and gives them inside `Study.optimize` only, which
does not run our trials; they compare the database's clock with times that it stamped. Here a sign is a value that was
not there before, on any storage, and each watcher times by its own clock for how long it has seen no new one. So no
two clocks need agree, and a new watcher knows nothing until it has watched for a whole lease.
"""

import platform
import threading
import time
import uuid
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.trial import FrozenTrial, TrialState

from utuning_search.search.patience import patient

BEAT = 10.0  # seconds between two signs of life
LEASE = 45.0  # seconds without one, after which a trial is given back: four are missed by then
PREFIX = "alive:"  # of the study's user attributes that hold owners' last signs


def home(folder: Path) -> str:
    """Where a study's folder lies, machine and all: a copy of it lies elsewhere, and is another owner."""
    return f"{platform.node()}:{folder.resolve()}"


class Heart:
    """Calls `beat` with a new value every few seconds, from a thread of its own, while it is entered.

    The first one is given once BEAT seconds have passed: a shorter run needs none.
    """

    def __init__(self, beat: Callable[[str], None], interval: float | None = None) -> None:
        self._beat, self._interval = beat, BEAT if interval is None else interval
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> "Heart":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(self._interval)  # a storage that does not answer holds up nobody

    def _live(self) -> None:
        life, number = uuid.uuid4().hex[:8], 0
        while not self._stopped.wait(self._interval):
            number += 1
            with suppress(Exception):  # a storage in trouble is met by whoever stores a result, and told there
                self._beat(f"{life} {number}")


class Watch:
    """What was seen of others, and since when by this process's clock.

    Args:
        lease: Seconds without a new sign, after which there is no life.
        clock: Gives seconds.
    """

    def __init__(self, lease: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease, self._clock = LEASE if lease is None else lease, clock
        self._seen: dict[int, tuple[Hashable, float]] = {}

    def lapsed(self, signs: Mapping[int, Hashable]) -> list[int]:
        """Those whose sign has not changed for a lease; whoever is not asked about is forgotten.

        Args:
            signs: The last sign of each, by number, read just now.
        """
        now = self._clock()
        seen = {number: self._seen.get(number, (sign, now)) for number, sign in signs.items()}
        self._seen = {n: known if known[0] == signs[n] else (signs[n], now) for n, known in seen.items()}
        return [number for number, (_, since) in self._seen.items() if now - since >= self._lease]


class Leases:
    """Trials on their way, told apart by who started them.

    Args:
        study: The Optuna study.
        storage: Its storage.
        owner: Who starts trials here.

    Attributes:
        shared: Whether others may have trials on their way; a journal's folder is locked by whoever runs.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage, owner: str) -> None:
        self._study, self._storage, self.owner = study, storage, owner
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self.shared = not isinstance(storage, JournalStorage)
        self._served = patient(storage)
        self._watch = Watch(clock=self._clock)

    def beat(self, sign: str) -> None:
        """Give a sign of life, one that was never given before."""
        storage = self._storage if self._served is None else self._served.hurried  # late, it is none any more
        storage.set_study_user_attr(self._study_id, f"{PREFIX}{self.owner}", sign)

    def _clock(self) -> float:
        """Seconds in which signs could be given: while a server is away, nobody can."""
        return time.monotonic() - (0.0 if self._served is None else self._served.away)

    def mine(self) -> list[int]:
        """Numbers of this owner's trials."""
        return [t.number for t in self._running() if self._owner_of(t) == self.owner]

    def lapsed(self) -> list[int]:
        """Numbers of others' trials whose owners gave no sign of life for a lease of being asked."""
        others = [t for t in self._running() if self._owner_of(t) != self.owner]
        signs = self._storage.get_study_user_attrs(self._study_id) if others else {}
        # What is told of a trial is a sign of life too.
        told = {t.number: (signs.get(f"{PREFIX}{self._owner_of(t)}"), len(t.user_attrs)) for t in others}
        return self._watch.lapsed(told)

    def _running(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _owner_of(self, trial: FrozenTrial) -> str:
        # It is the first thing that is told of a trial, and its process may be between the two. Not in a journal, where
        # nobody else begins any.
        unknown = "" if self.shared else self.owner
        owner: str = trial.user_attrs.get("owner", unknown)
        return owner
