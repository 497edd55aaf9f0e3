"""TOML files, and frozen dataclasses from their tables: unknown keys and wrong types are refused by name."""

import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from utuning_search.common.errors import InputError, refuse_unknown_keys

T = TypeVar("T")


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; an error with the parser's line and column where it is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # of numbers with thousands of digits, and of brackets
        raise InputError(str(path), "the file is valid TOML", error) from None
    except OSError as error:
        raise InputError(str(path), "the file is readable", error.strerror) from None


def build(cls: type[T], table: object, where: str) -> T:
    """An instance of dataclass `cls` from a table; fields hold numbers, strings, booleans, other dataclasses, or lists
    or tables of them.
    """
    if not isinstance(table, Mapping):
        raise InputError(where, "this is a table", repr(table))
    known: dict[str, Field[Any]] = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]  # T is a dataclass
    refuse_unknown_keys(table, known, where)
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, field in known.items():
        if name in table:
            values[name] = _checked(table[name], hints[name], f"{where}, {name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise InputError(where, f"{name} is given", "nothing", f"Add {name}.")
    try:
        return cls(**values)
    except InputError as error:
        raise InputError(f"{where}, {error.where}", error.rule, error.got, error.todo) from None


def _checked(value: object, hint: Any, where: str) -> object:
    if isinstance(hint, types.UnionType):
        if value is None:  # as JSON has it
            return None
        hint = next(h for h in typing.get_args(hint) if h is not types.NoneType)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise InputError(where, "this is a list", repr(value))
        return tuple(_checked(v, typing.get_args(hint)[0], where) for v in value)
    if typing.get_origin(hint) is dict:
        if not isinstance(value, Mapping):
            raise InputError(where, "this is a table", repr(value))
        inner = typing.get_args(hint)[1]
        return {k: v if inner is Any else _checked(v, inner, f"{where}, {k}") for k, v in value.items()}
    if is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]  # hints are classes
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise InputError(where, "this is small enough for a float", "a larger one") from None
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise InputError(where, f"this is of type {hint.__name__}", repr(value))
    return value
