"""What work costs on this machine: its time, its peak of memory, and threads held still meanwhile."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]  # what cannot be told there is left out

MB = 1e6


def fastest(
    works: Sequence[Callable[[], object]], device: str, *, turns: int, fewest: int = 0, seconds: float = math.inf
) -> list[float]:
    """Seconds of the fastest run of each, after a first one that does not count.

    They take turns, and the fastest counts: what else the machine does at the time can only add, and hits all alike.

    Args:
        works: What is timed.
        device: That it runs on, and is waited for.
        turns: Counted runs at most, of each; at least 1.
        fewest: Counted runs before it may end early.
        seconds: After which it ends early.
    """
    best = [math.inf] * len(works)
    began = time.perf_counter()
    for turn in range(turns + 1):
        for i in [(turn + k) % len(works) for k in range(len(works))]:
            wait_for(device)
            started = time.perf_counter()
            works[i]()
            wait_for(device)
            if turn:
                best[i] = min(best[i], time.perf_counter() - started)
        if turn >= fewest and time.perf_counter() - began > seconds:
            break
    return best


class PeakMemory:
    """How much memory a stretch of work needs at its peak, counted from its construction."""

    def __init__(self, device: str) -> None:
        self._device = device
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)
            self._before = float(torch.cuda.memory_allocated(device))
        else:
            self._peak = _peak()
            self._before = _resident(self._peak)

    def grown(self) -> float | None:
        """In 10^6 bytes; None where the process held more at an earlier time, which hides the peak."""
        if self._device.startswith("cuda"):
            return (torch.cuda.max_memory_allocated(self._device) - self._before) / MB
        return (_peak() - self._before) / MB if _peak() > self._peak else None


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Sums are rounded by how they are shared between threads, so their number is fixed."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def wait_for(device: str) -> None:
    """Return once a device has done what it was given; only a GPU lags behind."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def _peak() -> float:
    """Bytes that this process held in memory at most so far; 0 where the system does not say."""
    if resource is None:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def _resident(peak: float) -> float:
    """Bytes that this process holds in memory now; where the system does not say, its `peak` so far."""
    statm = Path("/proc/self/statm")
    if resource is None or not statm.exists():
        return peak
    return float(int(statm.read_text(encoding="ascii").split()[1]) * resource.getpagesize())
