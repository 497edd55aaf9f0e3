"""Registered things with options: a name, or a table of `kind` and options, to a frozen dataclass."""

from collections.abc import Mapping
from typing import TypeVar

from utuning_search.common.errors import InputError, nearest
from utuning_search.common.toml import build

T = TypeVar("T")


def from_table(known: Mapping[str, type[T]], raw: object, where: str, what: str) -> T:
    """An instance of the class that `raw` names.

    Args:
        known: Classes by kind.
        raw: A kind, or a table with `kind` and the fields of that class.
        where: For messages.
        what: The role in a user's words, such as "pruner".

    Raises:
        InputError: An unknown kind or option, or an illegal value.
    """
    table = {"kind": raw} if isinstance(raw, str) else raw
    if not isinstance(table, Mapping):
        raise InputError(where, f"a {what} is a kind, or a table of a kind and its options", repr(raw))
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in known:
        raise InputError(where, f"the {what} is a known one", repr(kind), nearest(kind, known))
    return build(known[kind], {k: v for k, v in table.items() if k != "kind"}, where)
