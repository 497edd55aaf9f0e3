"""Standard output and error, without a library: what is printed for other programs, and what is said in one line."""

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from utuning_search.cli.stopped import STOPPED
from utuning_search.common.text import visible

PROGRAM = "utuning-search"
QUIETLY = f"{PROGRAM}: stopped."


def say(text: str) -> None:
    """Print lines for other programs to read, neither broken nor coloured."""
    print(visible(text))


def complain(text: str) -> None:
    """Print one line to standard error."""
    print(f"{PROGRAM}: {visible(' '.join(text.splitlines()))}", file=sys.stderr)


def open_closed() -> None:
    """Open standard streams that whoever started us has closed (`>&-`, some services), onto nothing.

    Else the next file that is opened, such as a journal, has the number of one of them and gets what is printed.
    """
    for number in range(3):  # what is opened gets the least number that is free
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # as long as we run


def accept_any_text() -> None:
    """Let standard output and error take what their encoding has no letters for, as escapes instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def stopped_at_once() -> Iterator[None]:
    """End the process at Ctrl-C or SIGTERM in here, while libraries are imported and nothing has begun.

    Inside of them a KeyboardInterrupt may become anything, such as an import that failed; in C++ it is an abort.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    mine = {number: way for number, way in usual.items() if signal.getsignal(number) is way}  # else a caller's own
    for number in mine:
        signal.signal(number, _leave)
    try:
        yield
    finally:
        for number, way in mine.items():
            signal.signal(number, way)


def _leave(signum: int, frame: object) -> NoReturn:
    del signum, frame
    os.write(2, f"{QUIETLY}\n".encode())
    os._exit(STOPPED)
