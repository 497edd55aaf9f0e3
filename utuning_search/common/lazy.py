"""Names that are imported at their first use: whoever only asks for help does not wait for torch.

A table says in which module a name lives, and a module's `__getattr__` (PEP 562) looks it up. The command line's table
of commands is of the same kind.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def load(module: str, name: str) -> Any:
    """What `name` is in `module`, which is imported if it has not been."""
    return getattr(import_module(module), name)


def attributes(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose public names live in other modules.

    Args:
        package: Its dotted name.
        homes: The module of each public name.
    """

    def getattr_(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return load(homes[name], name)

    def dir_() -> list[str]:
        return sorted({*vars(import_module(package)), *homes})

    return getattr_, dir_
