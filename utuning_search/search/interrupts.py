"""Signals that raise, such as Ctrl-C, only where they may strike."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any


class Interrupts:
    """Lets signals that raise, such as Ctrl-C, strike only where they are let in: never in the middle of a write.

    What comes at another time strikes at the next such place. Outside the main thread, and for signals without
    a handler in Python, nothing is changed.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, Any], Any]] = {}
        self._open, self._pending = False, 0

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, self._arrived)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @contextmanager
    def let_in(self) -> Iterator[None]:
        self._open = True
        try:
            if self._pending:
                self._arrived(self._pending, None)
            yield
        finally:
            self._open = False

    def sleep(self, seconds: float) -> None:
        """Sleep, with signals let in."""
        with self.let_in():
            time.sleep(seconds)

    def _arrived(self, number: int, frame: object) -> None:
        if self._open:
            self._open, self._pending = False, 0
            self._handlers[number](number, frame)
        else:
            self._pending = number
