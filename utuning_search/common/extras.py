"""Libraries that only some users need: an extra of the distribution brings each."""

from collections.abc import Iterator
from contextlib import contextmanager

from utuning_search.common.errors import InputError


@contextmanager
def needs(extra: str, where: str) -> Iterator[None]:
    """Make one line of an import in here that fails.

    Args:
        extra: That brings the library.
        where: What needs it, in the user's words.

    Raises:
        InputError: It failed.
    """
    try:
        yield
    except ImportError as error:
        todo = f"Install it: pip install 'utuning-search[{extra}]'"
        raise InputError(where, f"what the extra '{extra}' brings is installed", error, todo) from None
