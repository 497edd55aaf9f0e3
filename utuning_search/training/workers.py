"""Processes of our own: none outlives its parent, none is struck by Ctrl-C, and how each ended is known."""

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Message = TypeVar("Message")
LEAVING = 60.0  # seconds that a process may take to end after it closed its pipe; a GPU's memory is freed slowly


@dataclass(frozen=True)
class Lost:
    """A worker is gone, and why; its work has no result."""

    reason: str


@dataclass(frozen=True)
class Ended:
    """A process ended; its exit code, below 0 that of the signal which killed it."""

    exitcode: int

    @property
    def reason(self) -> str:
        if self.exitcode < 0:
            name = signal.Signals(-self.exitcode).name
            return f"its worker process was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
        return f"its worker process ended with exit code {self.exitcode}"


class Channel:
    """A process's end of its pipe: objects that can be pickled, both ways.

    When the parent is gone the process ends at once, whatever it does: nobody is left to work for.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe

    def send(self, message: object) -> None:
        with self._parent():
            self._pipe.send(message)

    def receive(self) -> Any:
        """The parent's next message, as soon as there is one."""
        with self._parent():
            return self._pipe.recv()

    @contextlib.contextmanager
    def _parent(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, BrokenPipeError, ConnectionResetError):
            os._exit(0)


class Workers(Generic[Message]):
    """Some processes, numbered by their user, who launches each and may launch one anew once it has ended."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._running: dict[int, tuple[Any, Any]] = {}  # process and our end of its pipe

    def launch(self, worker: int, target: Callable[..., None], *args: Any) -> None:
        """Start `target(channel, *args)` in a process of its own; it ends when that returns.

        Args:
            worker: A number under which no process is running.
            target: A function of a module, for it is found by name in the other process.
            args: Sent there.
        """
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_live, args=(theirs, target, args), daemon=True)
        self._running[worker] = process, ours
        with signals_blocked():
            process.start()
        theirs.close()  # so that its end closes the pipe for us

    def send(self, worker: int, message: object) -> None:
        """Say something to a process; if it is gone, the next `wait` tells."""
        with contextlib.suppress(OSError):
            self._running[worker][1].send(message)

    def wait(self, seconds: float | None = None) -> list[tuple[int, Message | Ended]]:
        """What processes said or that they ended, as soon as there is something; empty after `seconds` without."""
        pipes = {pipe: worker for worker, (_, pipe) in self._running.items()}
        events: list[tuple[int, Message | Ended]] = []
        for ready in multiprocessing.connection.wait(list(pipes), timeout=seconds):
            worker = pipes[ready]
            process, pipe = self._running[worker]
            try:
                events.append((worker, pipe.recv()))
            except (EOFError, OSError):
                events.append((worker, Ended(_end(process))))
                del self._running[worker]
                pipe.close()
        return events

    def close(self) -> None:
        """Kill all processes now, whatever they do."""
        for process, pipe in self._running.values():
            pipe.close()
            if process.pid is not None:  # it was started
                process.kill()
        for process, _ in self._running.values():
            if process.pid is not None:
                process.join()
        self._running.clear()


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """A process started in here never gets SIGINT; the terminal sends Ctrl-C to it too, but it is the parent's.

    From its first moment on: it takes seconds to import torch before it could ask to be spared. This process
    gets what came meanwhile when this ends.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # The first process brings it along, and as it starts it lets SIGINT in again, for itself and that process.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live(pipe: Any, target: Callable[..., None], args: tuple[Any, ...]) -> None:
    """A process's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be blocked
    threading.Thread(target=_end_with_parent, daemon=True).start()
    target(Channel(pipe), *args)


def _end_with_parent() -> None:
    """Wait for the parent's end, however it ends, and end at once."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


def _end(process: Any) -> int:
    """The exit code of a process that closed its pipe."""
    process.join(timeout=LEAVING)
    if process.exitcode is None:
        process.kill()
        process.join()
    return int(process.exitcode)
