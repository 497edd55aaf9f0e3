"""Processes of our own: none outlives its parent, none is struck by Ctrl-C, and how each ended is known."""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from utuning_search.common.errors import UTuningError

T = TypeVar("T")
R = TypeVar("R")
Work = Callable[[int, T], Iterator[R]]


@dataclass(frozen=True)
class Lost:
    """A worker is gone, and why; it is replaced, and its trial has no result."""

    reason: str


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """A process started in here never gets SIGINT; the terminal sends Ctrl-C to it too, but it is the parent's.

    From its first moment on: it takes seconds to import torch before it could ask to be spared. This process
    gets what came meanwhile when this ends.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Wait for the parent's end, however it ends, and end at once: nobody is left to train for."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)


def death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"its worker process was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"its worker process ended with exit code {exitcode}"


def run_each(work: Work[T, R], items: Sequence[T], workers: int) -> Iterator[tuple[int, R | Lost]]:
    """Run `work(slot, item)` for every item and pass on what it yields, as it comes.

    Args:
        work: A function of a module, for it is found by name in other processes; `slot` is below `workers`, and
            no two items have one at the same time.
        items: Sent to other processes.
        workers: Processes at once, one an item; 0 works in this process, an item after the other.

    Yields:
        Index of the item and what its work yielded; Lost where its process ended early or ran out of memory.

    Raises:
        UTuningError: Some work raised it; the others are stopped.
    """
    if workers == 0:
        for i, item in enumerate(items):
            try:
                for found in work(0, item):
                    yield i, found
            except torch.OutOfMemoryError as error:
                yield i, Lost(f"out of memory: {str(error).splitlines()[0]}")
        return
    context = multiprocessing.get_context("spawn")
    waiting = list(enumerate(items))
    busy: dict[Any, tuple[int, int, Any]] = {}  # by pipe: slot, index, process
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                index, item = waiting.pop(0)
                slot = min(set(range(workers)) - {s for s, _, _ in busy.values()})
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_serve, args=(theirs, work, slot, item), daemon=True)
                busy[ours] = (slot, index, process)
                with signals_blocked():
                    process.start()
                theirs.close()  # so that its end closes the pipe for us
            ready: list[Any] = multiprocessing.connection.wait(list(busy))
            for pipe in ready:
                _, index, process = busy[pipe]
                try:
                    message = pipe.recv()
                except (EOFError, OSError):
                    process.join()
                    del busy[pipe]
                    if process.exitcode != 0:
                        yield index, Lost(death(process.exitcode))
                    continue
                if isinstance(message, UTuningError):
                    raise message
                yield index, message
    finally:
        for pipe, (_, _, process) in busy.items():
            pipe.close()
            if process.pid is not None:
                process.kill()
                process.join()


def _serve(pipe: Any, work: Work[T, R], slot: int, item: T) -> None:
    """A process's life: what its work yields, until it ends or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be blocked
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        for found in work(slot, item):
            pipe.send(found)
    except BrokenPipeError:
        os._exit(0)  # the parent is gone: nothing of ours is worth finishing
    except UTuningError as error:
        pipe.send(error)
    except torch.OutOfMemoryError as error:
        pipe.send(Lost(f"out of memory: {str(error).splitlines()[0]}"))
    except Exception:
        traceback.print_exc()
        pipe.send(Lost("an unforeseen error; see the messages above"))
