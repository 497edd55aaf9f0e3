"""How a process of ours keeps memory: what training frees it asks for again at the next step.

glibc hands large blocks back to the kernel as soon as they are free, and the kernel zeroes every page that it gives out
anew. In steps of small models that is a sixth of the time.
"""

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)
KEPT = 1 << 30  # bytes that may lie free at the end of the heap
STEP = 1 << 24  # by which the heap grows
LARGEST = 1 << 25  # of blocks on the heap; glibc allows no more


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, to the end of its life; whether the C library can.

    For processes that do nothing but train: it is a setting of the whole process.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl has none
        return False
    settings = ((MMAP_THRESHOLD, LARGEST), (TRIM_THRESHOLD, KEPT), (TOP_PAD, STEP))
    taken = [mallopt(option, value) == 1 for option, value in settings]  # each, whatever became of the others
    return all(taken)
