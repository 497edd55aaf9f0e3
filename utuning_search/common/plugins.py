"""What a package registers: one explicit tuple of ours, then what other distributions add by entry point."""

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from utuning_search.common.errors import InputError

T = TypeVar("T")


def registered(group: str, ours: Iterable[type[T]], base: type[T], name: str) -> Mapping[str, type[T]]:
    """Classes by name: ours, then those of installed distributions.

    Args:
        group: Of entry points, such as "utuning_search.tuners". Each names a class.
        ours: In the order in which they are listed to users.
        base: What all of them have to extend.
        name: The attribute of a class that is its name.

    Raises:
        InputError: An entry point cannot be loaded, is no such class or has no name, or a name is taken twice.
    """
    found: dict[str, type[T]] = {}
    for cls in ours:
        _add(found, cls, name, f"{cls.__module__}.{cls.__qualname__}")
    # By name: what is installed first must not decide anything.
    for point in sorted(entry_points(group=group), key=lambda p: (p.name, p.value)):
        where = f"entry point {group}: {point.name} = {point.value}"
        _add(found, _loaded(point, base, name, where), name, where)
    return found


def _loaded(point: EntryPoint, base: type[T], name: str, where: str) -> type[T]:
    todo = "Mend or uninstall the distribution that brings it" + (f": {point.dist.name}." if point.dist else ".")
    try:
        cls = point.load()
    except Exception as error:
        raise InputError(where, "it can be imported", f"{type(error).__name__}: {error}", todo) from error
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise InputError(where, f"it is a subclass of {base.__module__}.{base.__qualname__}", repr(cls), todo)
    if not isinstance(getattr(cls, name, None), str):
        raise InputError(where, f"its {name} is a string", repr(getattr(cls, name, None)), todo)
    return cls


def _add(found: dict[str, type[T]], cls: type[T], name: str, where: str) -> None:
    taken = str(getattr(cls, name))
    if taken in found:
        other = f"{found[taken].__module__}.{found[taken].__qualname__}"
        raise InputError(where, f"a {name} is taken once", f"'{taken}', which is {other}", "Rename one of them.")
    found[taken] = cls
