"""Processes of our own: none outlives its parent, none is struck by Ctrl-C or SIGTERM, none falls silent unnoticed.

How each ended is known. Silence is counted by this process's clock, and only while it listens: a machine that slept,
or a run that was stopped and continued, is no worker's silence.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from utuning_search.common.environment import environment
from utuning_search.common.errors import StudyError

Message = TypeVar("Message")
LEAVING = 60.0  # seconds that a process may take to end after it closed its pipe; a GPU's memory is freed slowly
BEAT = 5.0  # seconds between the signs of life of a process, whatever it works on
SILENCE = 30.0  # seconds without one, after which it is given up
STARTING = 600.0  # the same until the first one: libraries may come from a slow disk
LOOK = 1.0  # seconds of silence that one look can add
# A fresh interpreter, into which nothing of this process is copied; on Linux a copy of one that has imported what
# workers need, and has done nothing else: they begin at once, and share those libraries' memory. On macOS a copy of a
# process that has loaded Apple's libraries may crash.
START: Literal["spawn", "forkserver"] = "forkserver" if sys.platform == "linux" else "spawn"
# SIGUSR1 and SIGUSR2 too, by which schedulers tell that time is over.
SPARED = tuple(getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, n))
GUARD = 'call it under `if __name__ == "__main__":`'


@dataclass(frozen=True)
class Lost:
    """A worker is gone, or its surroundings let it down, and why; its work has no result.

    Attributes:
        reason: In a user's words.
        hopeless: Whether none of its kind ever began, and for a reason that will be the next one's too.
    """

    reason: str
    hopeless: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Ended:
    """A process ended.

    Attributes:
        exitcode: Below 0 that of the signal which killed it.
        began: Whether it came as far as its work.
        silent: Seconds without a sign of life, after which it was killed from here; 0 where it ended by itself.
    """

    exitcode: int
    began: bool = field(default=True, compare=False)
    silent: float = field(default=0.0, compare=False)

    @property
    def reason(self) -> str:
        if self.silent:
            return f"its worker process did not answer for {self.silent:.0f} s"
        when = "" if self.began else " while it was starting"
        if self.exitcode < 0:
            name = signal.Signals(-self.exitcode).name
            return f"its worker process was killed by {name}{when}" + (" (out of memory?)" if name == "SIGKILL" else "")
        hint = f"; a script that starts workers has to {GUARD}" if self.unimportable and not _main_is_ours() else ""
        return f"its worker process ended with exit code {self.exitcode}{when}{hint}"

    @property
    def unimportable(self) -> bool:
        """Whether it ended as one does that cannot import what it is to run, or the program that started it."""
        return self.exitcode > 0 and not self.began


@dataclass(frozen=True)
class _Beat:
    """A sign of life."""


class Channel:
    """A process's end of its pipe: objects that can be pickled, both ways.

    When the parent is gone the process ends at once, whatever it does: nobody is left to work for.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._sending = threading.Lock()

    def send(self, message: object) -> None:
        with self._parent(), self._sending:
            self._pipe.send(message)

    def beat(self) -> None:
        """Give a sign of life, for `Workers` only; a parent that is gone is found by others."""
        with contextlib.suppress(OSError), self._sending:
            self._pipe.send(_Beat())

    def receive(self) -> Any:
        """The parent's next message, as soon as there is one."""
        with self._parent():
            return self._pipe.recv()

    def pending(self) -> bool:
        """Whether the parent has said something that was not received yet."""
        with self._parent():
            return bool(self._pipe.poll())

    @contextlib.contextmanager
    def _parent(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, BrokenPipeError, ConnectionResetError):
            os._exit(0)


@dataclass
class _Process:
    """One of `Workers`: the process, our end of its pipe, whether it began, and for how many seconds it was silent."""

    process: Any
    pipe: Any
    began: bool = False
    silent: float = 0.0

    @property
    def patience(self) -> float:
        return SILENCE if self.began else STARTING


class Workers(Generic[Message]):
    """Some processes, numbered by their user, who launches each and may launch one anew once it has ended.

    Args:
        imports: Names of modules that each of them needs. They are imported once for all, where processes are copies
            of one; a program whose first such process is started by others than us imports them in each.

    Attributes:
        begun: Whether any of them ever came as far as its work.
    """

    def __init__(self, imports: Sequence[str] = ()) -> None:
        multiprocessing.set_forkserver_preload(list(imports))  # not "__main__": each imports it for itself, or fails
        self._running: dict[int, _Process] = {}
        self.begun = False

    def launch(self, worker: int, target: Callable[..., None], *args: Any) -> None:
        """Start `target(channel, *args)` in a process of its own; it ends when that returns.

        Args:
            worker: A number under which no process is running.
            target: A function of a module, for it is found by name in the other process.
            args: Sent there.

        Raises:
            StudyError: This program is no file that other processes could import.
        """
        _check_main()
        try:
            self._launch(_context(), worker, target, args)
        except (EOFError, ConnectionError):  # what it would have been a copy of was killed at this moment
            self._launch(multiprocessing.get_context("spawn"), worker, target, args)

    def _launch(self, context: Any, worker: int, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        """Start a process the way of a context of `multiprocessing`, which have no common class that makes one."""
        ours, theirs = context.Pipe()
        # What it is a copy of has the environment of the first of them.
        given = (theirs, BEAT, dict(os.environ), target, args)
        process = context.Process(target=_live, args=given, daemon=True)
        self._running[worker] = _Process(process, ours)
        # The first of those that are copies waits for what they share; Ctrl-C has to be heard meanwhile.
        with signals_blocked() if context.get_start_method() == "spawn" else contextlib.nullcontext():
            process.start()
        theirs.close()  # so that its end closes the pipe for us

    def send(self, worker: int, message: object) -> None:
        """Say something to a process; if it is gone, the next `wait` tells."""
        with contextlib.suppress(OSError):
            self._running[worker].pipe.send(message)

    def wait(self, seconds: float | None = None) -> list[tuple[int, Message | Ended]]:
        """What processes said or that they ended, as soon as there is something; empty after `seconds` without."""
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            left = LOOK if until is None else max(until - time.monotonic(), 0.0)
            events = self._look(min(left, LOOK))
            if events or (until is not None and time.monotonic() >= until):
                return events

    def close(self) -> None:
        """Kill all processes now, whatever they do."""
        for one in self._running.values():
            one.pipe.close()
            if one.process.pid is not None:  # it was started
                one.process.kill()
        for one in self._running.values():
            if one.process.pid is not None:
                one.process.join()
        self._running.clear()

    def _look(self, seconds: float) -> list[tuple[int, Message | Ended]]:
        """What there is within `seconds`, signs of life left out; those without any for too long are ended."""
        pipes = {one.pipe: worker for worker, one in self._running.items()}
        since = time.monotonic()
        ready = multiprocessing.connection.wait(list(pipes), timeout=seconds)
        passed = min(time.monotonic() - since, LOOK)  # no more: this process may itself have been stopped meanwhile
        events: list[tuple[int, Message | Ended]] = []
        for pipe, worker in pipes.items():
            one = self._running[worker]
            if pipe not in ready:
                one.silent += passed
                if one.silent > one.patience:
                    one.process.kill()
                    events.append((worker, self._ended(worker, one.patience)))
                continue
            one.silent = 0.0
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                events.append((worker, self._ended(worker)))
                continue
            one.began = self.begun = True
            if not isinstance(message, _Beat):
                events.append((worker, message))
        return events

    def _ended(self, worker: int, silent: float = 0.0) -> Ended:
        one = self._running.pop(worker)
        exitcode = _end(one.process)
        one.pipe.close()
        return Ended(exitcode, one.began, silent)


def _context() -> Any:
    """How the next process is started."""
    if START == "forkserver":
        try:
            with signals_blocked(), _same_paths():  # copies inherit both
                multiprocessing.forkserver.ensure_running()
            return multiprocessing.get_context(START)
        except ChildProcessError:  # this program is itself a copy of one that has processes
            pass
    return multiprocessing.get_context("spawn")


def _same_paths() -> contextlib.AbstractContextManager[None]:
    """A program started in here imports from the same places as this one, and not from the folder that it is in.

    `multiprocessing` tells copies of this program's places, but before Python 3.13 not what they are copies of.
    """
    places = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
    return environment(PYTHONPATH=places, PYTHONSAFEPATH="1")


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """A process started in here never gets SIGINT or SIGTERM, which are the parent's to heed.

    A terminal sends Ctrl-C to all processes, and so do some schedulers with SIGTERM. From its first moment on: it takes
    seconds to import torch before it could ask to be spared. This process gets what came meanwhile when this ends.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # The first process brings it along, and as it starts it lets SIGINT in again, for itself and that process.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SPARED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live(
    pipe: Any, beat: float, environment: dict[str, str], target: Callable[..., None], args: tuple[Any, ...]
) -> None:
    """A process's life."""
    os.environ.clear()
    os.environ.update(environment)
    for number in SPARED:  # where they could not be blocked
        signal.signal(number, signal.SIG_IGN)
    channel = Channel(pipe)
    channel.beat()
    threading.Thread(target=_attend, args=(channel, beat), daemon=True).start()
    target(channel, *args)


def _attend(channel: Channel, beat: float) -> None:
    """Give signs of life, and end the process at once when its parent has ended, however it ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        while not multiprocessing.connection.wait([parent.sentinel], timeout=beat):
            channel.beat()
        os._exit(0)


def _check_main() -> None:
    """Refuse a program that comes from a pipe: what is started here imports it again, as multiprocessing does."""
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if getattr(main, "__spec__", None) is None and file is not None and not Path(file).exists():
        todo = f"Put it into a file and {GUARD}, or train in this process with workers=0."
        raise StudyError("workers", "the program that starts them is a file", file, todo)


def _main_is_ours() -> bool:
    """Whether the program is the command line, which has its guard, as a module or as the script that pip made."""
    main, package = sys.modules["__main__"], __name__.partition(".")[0]
    homes = (
        getattr(getattr(main, "__spec__", None), "name", ""),
        getattr(getattr(main, "main", None), "__module__", ""),
    )
    return any(home.partition(".")[0] == package for home in homes)


def _end(process: Any) -> int:
    """The exit code of a process that closed its pipe."""
    process.join(timeout=LEAVING)
    if process.exitcode is None:
        process.kill()
        process.join()
    return int(process.exitcode)
