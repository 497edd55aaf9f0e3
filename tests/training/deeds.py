"""What processes do in tests. They import this file by its name alone, so it needs its folder on their path."""

import os
import sys
import time
from collections.abc import Iterator

from utuning_search.training.workers import Channel


def echo(channel: Channel, greeting: str) -> None:
    """Greet, then say whatever is said back, until that is None."""
    channel.send((greeting, os.getpid()))
    while (message := channel.receive()) is not None:
        channel.send(message)


def look_around(channel: Channel, variable: str, module: str) -> None:
    """Say the parent's id, what an environment variable is, and whether a module has been imported."""
    channel.send((os.getppid(), os.environ.get(variable), module in sys.modules))


def leave_the_room(channel: Channel) -> None:
    """Close the pipe, but do not end."""
    channel._pipe.close()
    time.sleep(600)


def work(slot: int, item: str) -> Iterator[tuple[int, int, str]]:
    yield slot, os.getpid(), item
    if item == "memory":
        import torch  # here, since other processes would wait seconds for what they do not use

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nA second line.")
    if item == "error":
        raise EOFError("of its own: its parent is still there")
    if item == "exit":
        sys.exit(3)
    yield slot, os.getpid(), f"{item} is done"
