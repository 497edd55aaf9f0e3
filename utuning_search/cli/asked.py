"""SIGTERM, which schedulers of clusters send to what is to make room: it is no failure."""

import signal
from collections.abc import Callable
from typing import NoReturn

from utuning_search.cli.console import PLAIN, console
from utuning_search.cli.stopped import Stopped


class Asked:
    """Whether this process was asked to end by SIGTERM, which strikes it as Ctrl-C does."""

    def __init__(self) -> None:
        self.to_end = False
        signal.signal(signal.SIGTERM, self._asked)

    def _asked(self, number: int, frame: object) -> NoReturn:
        del number, frame
        self.to_end = True
        raise KeyboardInterrupt


def ended_well(work: Callable[[], int]) -> int:
    """The exit code of a command's work: 0 too where SIGTERM ended it."""
    before = signal.getsignal(signal.SIGTERM)
    asked = Asked()
    try:
        return work()
    except (KeyboardInterrupt, Stopped) as error:
        if not asked.to_end:
            raise
        again = error.again if isinstance(error, Stopped) else ""
        console.print("Asked to end by SIGTERM; what was finished is kept, and its trials were given back.", **PLAIN)
        if again:
            console.print(f"Go on with:\n  utuning-search {again}", **PLAIN)
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)
