"""Telling callbacks: one after the other, and none of them can stop the run."""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence

from utuning_search.search.callbacks.base import Callback, FinalRecord, Started
from utuning_search.search.masking import mask
from utuning_search.search.trials import TrialRecord

MOST_FAILURES = 3  # in a row at one event, before a callback is told no more of it: a dead server takes minutes a call
SHOWN = 200  # characters of what it raised


def warn(line: str) -> None:
    """What is done with a line unless told otherwise."""
    warnings.warn(line, stacklevel=2)


class Telling:
    """Tells callbacks what happens.

    Args:
        callbacks: In this order.
        say: Called with one line where one of them raises.
    """

    def __init__(self, callbacks: Sequence[Callback], say: Callable[[str], None] = warn) -> None:
        self._callbacks, self._say = tuple(callbacks), say
        self._failures: Counter[tuple[int, str]] = Counter()  # in a row, by callback and event
        self._deaf: set[int] = set()  # those that could not begin

    def start(self, started: Started) -> None:
        self._each("on_start", lambda c: c.on_start(started))

    def rung(self, trial: TrialRecord, epoch: int) -> None:
        self._each("on_rung", lambda c: c.on_rung(trial, epoch))

    def trial(self, trial: TrialRecord) -> None:
        """Of one that may be settled; nothing is said of others, which another process gave back meanwhile."""
        if trial.settled:
            self._each("on_trial", lambda c: c.on_trial(trial))

    def final(self, final: FinalRecord) -> None:
        self._each("on_final", lambda c: c.on_final(final))

    def remeasured(self, fresh: FinalRecord) -> None:
        self._each("on_remeasured", lambda c: c.on_remeasured(fresh))

    def end(self) -> None:
        self._each("on_end", lambda c: c.on_end())

    def _each(self, event: str, tell: Callable[[Callback], None]) -> None:
        for index, callback in enumerate(self._callbacks):
            place = index, event
            if index in self._deaf or self._failures[place] >= MOST_FAILURES:
                continue
            try:
                tell(callback)
            except Exception as error:  # whatever somebody's code, a server or a disk has to say
                self._failures[place] += 1
                rest = "the run goes on"
                if event == "on_start":
                    self._deaf.add(index)
                    rest += " without it"
                elif self._failures[place] >= MOST_FAILURES:
                    rest += f", and tells it no more of that after {MOST_FAILURES} failures in a row"
                said = f"{type(error).__name__}: {mask(' '.join(str(error).split()))[:SHOWN]}"
                self._say(f"{callback}, {event}: {said}; {rest}.")
            else:
                self._failures[place] = 0
