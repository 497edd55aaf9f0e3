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

    Attributes:
        ending: Whether this process was asked to end by SIGTERM, in `gently`.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, Any], Any]] = {}
        self._open, self._pending = False, 0
        self._gentle = self.ending = False

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
                number, self._pending = self._pending, 0
                self._arrived(number, None)
            yield
        finally:
            self._open = False

    @contextmanager
    def gently(self) -> Iterator[None]:
        """In here the first SIGTERM only makes `ending` true; it strikes at `strike`."""
        self._gentle = True
        try:
            yield
        finally:
            self._gentle = False

    def sleep(self, seconds: float) -> None:
        """Sleep, with signals let in; SIGTERM strikes here at once, as nobody knows for how long somebody sleeps."""
        gentle, self._gentle = self._gentle, False
        try:
            self.strike()
            with self.let_in():
                time.sleep(seconds)
        finally:
            self._gentle = gentle

    def strike(self) -> None:
        """Let SIGTERM strike that came before, in `gently`."""
        if self.ending:
            self._handlers[signal.SIGTERM](signal.SIGTERM, None)

    def _arrived(self, number: int, frame: object) -> None:
        if number == signal.SIGTERM and self._gentle and not self.ending:
            self.ending = True
        elif self._open:
            self._open, self._pending = False, 0
            self._handlers[number](number, frame)
        else:
            self._pending = number
