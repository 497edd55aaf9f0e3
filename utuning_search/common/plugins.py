"""What a package registers: one explicit tuple of ours, then what other distributions add by entry point."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from utuning_search.common.errors import InputError, nearest

T = TypeVar("T")


class Registry(Mapping[str, type[T]]):
    """Classes by name: ours, then those of installed distributions, by name too.

    Nothing of another distribution is imported before the first look-up: its modules import ours, so while ours are
    being imported its classes may not be there yet.

    Args:
        group: Of entry points, such as "utuning_search.tuners". Each names a class.
        ours: In the order in which they are listed to users.
        base: What all of them have to extend.
        name: The attribute of a class that is its name.

    Raises:
        InputError: At any look-up, where an entry point cannot be loaded, is no such class, is abstract or has no name,
            or where a name is taken twice.
    """

    def __init__(self, group: str, ours: Iterable[type[T]], base: type[T], name: str) -> None:
        self.group, self.ours = group, tuple(ours)
        self._base, self._name = base, name

    def __getitem__(self, name: str) -> type[T]:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def advice(self, name: object) -> str:
        """What to do where nothing is registered by a name."""
        return f"{nearest(name, self)} Others have to be installed."

    @cached_property
    def _found(self) -> Mapping[str, type[T]]:
        found: dict[str, type[T]] = {}
        for cls in self.ours:
            self._add(found, cls, f"{cls.__module__}.{cls.__qualname__}")
        # By name: what is installed first must not decide anything.
        for point in sorted(entry_points(group=self.group), key=lambda p: (p.name, p.value)):
            place = f"entry point {self.group}: {point.name} = {point.value}"
            where = f"distribution {point.dist.name}, {place}" if point.dist else place
            self._add(found, self._loaded(point, where), where)
        return found

    def _loaded(self, point: EntryPoint, where: str) -> type[T]:
        todo = "Mend or uninstall the distribution."
        try:
            cls = point.load()
        except Exception as error:
            raise InputError(where, "it can be imported", f"{type(error).__name__}: {error}", todo) from error
        if not (isinstance(cls, type) and issubclass(cls, self._base)):
            rule = f"it is a subclass of {self._base.__module__}.{self._base.__qualname__}"
            raise InputError(where, rule, repr(cls), todo)
        missing = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        if missing:
            raise InputError(where, "it has all that its base class asks for", f"no {missing}", todo)
        name = getattr(cls, self._name, None)
        if not isinstance(name, str):
            raise InputError(where, f"its {self._name} is a string", repr(name), todo)
        return cls

    def _add(self, found: dict[str, type[T]], cls: type[T], where: str) -> None:
        taken = str(getattr(cls, self._name))
        if taken in found:
            other = f"{found[taken].__module__}.{found[taken].__qualname__}"
            got = f"'{taken}', which is {other}"
            raise InputError(where, f"a {self._name} is taken once", got, "Rename one of them, or uninstall one.")
        found[taken] = cls
