"""Work on some items, each in a fresh process: what one of them leaves behind or breaks is not the next one's."""

import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from utuning_search.common.errors import UTuningError
from utuning_search.training.allocator import keep_freed_memory
from utuning_search.training.trouble import from_outside, said_of
from utuning_search.training.workers import Channel, Ended, Lost, Workers

T = TypeVar("T")
R = TypeVar("R")
Work = Callable[[int, T], Iterator[R]]
LOSSES = 3  # items lost in a row, none having yielded anything, after which the others are not tried


def run_each(work: Work[T, R], items: Iterable[T], workers: int) -> Iterator[tuple[int, R | Lost]]:
    """Run `work(slot, item)` for every item and pass on what it yields, as it comes.

    Args:
        work: A function of a module, for it is found by name in other processes; `slot` is below `workers`, and
            no two items have one at the same time.
        items: Sent to other processes. Each is taken when there is a process for it, so that what was found so far
            may decide whether there is another.
        workers: Processes at once, one an item; 0 works in this process, an item after the other.

    Yields:
        Index of the item and what its work yielded; Lost where its process ended early or its surroundings let it
        down, such as memory. After a few of those in a row no further item is taken.

    Raises:
        UTuningError: Some work raised it; the others are stopped.
    """
    if workers == 0:
        yield from _here(work, items)
        return
    processes: Workers[R | Lost | UTuningError] = Workers(imports=[work.__module__])
    waiting, idle = enumerate(items), list(range(workers))
    busy: dict[int, int] = {}  # index of the item by slot
    strikes = 0  # items lost since one yielded something
    try:
        while True:
            while idle and strikes < max(LOSSES, workers + 1) and (taken := next(waiting, None)) is not None:
                slot = idle.pop(0)
                busy[slot], item = taken
                processes.launch(slot, _work, work, slot, item)
            if not busy:
                return
            for slot, message in processes.wait():
                if isinstance(message, UTuningError):
                    raise message
                if not isinstance(message, Ended):
                    strikes = strikes + 1 if isinstance(message, Lost) else 0
                    yield busy[slot], message
                    continue
                index = busy.pop(slot)
                idle = sorted([*idle, slot])
                if message.exitcode != 0:
                    strikes += 1
                    yield index, Lost(message.reason)
    finally:
        processes.close()


def _here(work: Work[T, R], items: Iterable[T]) -> Iterator[tuple[int, R | Lost]]:
    """The same in this process, an item after the other."""
    strikes = 0
    for index, item in enumerate(items):
        try:
            for found in work(0, item):
                strikes = 0
                yield index, found
        except Exception as error:
            if isinstance(error, UTuningError) or not from_outside(error):
                raise
            strikes += 1
            yield index, Lost(said_of(error))
        if strikes == LOSSES:
            return


def _work(channel: Channel, work: Work[T, R], slot: int, item: T) -> None:
    """What a process does: say what its work yields, or why it broke off."""
    keep_freed_memory()
    try:
        for found in work(slot, item):
            channel.send(found)
    except UTuningError as error:
        channel.send(error)
    except Exception as error:
        if from_outside(error):
            channel.send(Lost(said_of(error)))
        else:
            traceback.print_exc()
            channel.send(Lost("an unforeseen error; see the messages above"))
