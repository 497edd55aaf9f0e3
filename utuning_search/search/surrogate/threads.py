"""One BLAS thread for small matrices: two cost twice the CPU of a machine that trains, and save no time."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it, or within a function that it decorates, BLAS has one thread; torch keeps its own."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    """Kept, because looking for libraries takes 3 ms or more, and a limit 0.05 ms."""
    return ThreadpoolController()
