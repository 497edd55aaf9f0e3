"""Sets of values that a search chooses from: a list, a range of integers, a range of floats."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from utuning_search.common.errors import InputError, refuse_unknown_keys

Value = str | int | float | bool


class Suggester(Protocol):
    """The part of an Optuna trial that a domain needs."""

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value: ...

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = ...) -> int: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = ...) -> float: ...


@dataclass(frozen=True)
class Choice:
    """One of some listed values; the order carries no meaning."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise InputError("choice", "a list of choices is not empty", "[]", "List at least one value.")
        if len(set(map(repr, self.values))) < len(self.values):
            raise InputError("choice", "choices are distinct", list(self.values), "Remove the repeated one.")

    @property
    def size(self) -> int | None:
        """Number of values; None where they cannot be counted."""
        return len(self.values)

    def contains(self, value: object) -> bool:
        return any(type(v) is type(value) and v == value for v in self.values)

    def suggest(self, trial: Suggester, name: str) -> Value:
        return self.values[0] if len(self.values) == 1 else trial.suggest_categorical(name, self.values)

    def to_raw(self) -> object:
        return list(self.values)


@dataclass(frozen=True)
class IntRange:
    """Integers from low to high, both included; `log` samples orders of magnitude evenly."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)

    @property
    def size(self) -> int | None:
        return self.high - self.low + 1

    def contains(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def suggest(self, trial: Suggester, name: str) -> Value:
        if self.low == self.high:
            return self.low
        return trial.suggest_int(name, self.low, self.high, log=self.log)

    def to_raw(self) -> object:
        return {"low": self.low, "high": self.high, "log": self.log}


@dataclass(frozen=True)
class FloatRange:
    """Real numbers from low to high; `log` samples orders of magnitude evenly."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, self.log)

    @property
    def size(self) -> int | None:
        return None

    def contains(self, value: object) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and self.low <= value <= self.high

    def suggest(self, trial: Suggester, name: str) -> Value:
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def to_raw(self) -> object:
        return {"low": self.low, "high": self.high, "log": self.log}


Domain = Choice | IntRange | FloatRange


def overlap(a: Domain, b: Domain) -> bool:
    """Whether two domains have a value in common."""
    if isinstance(a, Choice):
        return any(b.contains(value) for value in a.values)
    return overlap(b, a) if isinstance(b, Choice) else a.low <= b.high and b.low <= a.high


def parse_domain(raw: object, where: str) -> Domain:
    """A domain from its TOML form: a value, a list of values, or a table with low, high and log."""
    try:
        if isinstance(raw, dict):
            refuse_unknown_keys(raw, ("low", "high", "log"), where)
            low, high, log = raw.get("low"), raw.get("high"), raw.get("log", False)
            numbers = [v for v in (low, high) if isinstance(v, (int, float)) and not isinstance(v, bool)]
            if len(numbers) < 2 or not isinstance(log, bool):
                raise InputError(where, "a range has a number low, a number high and log = true or false", raw)
            if isinstance(low, int) and isinstance(high, int):
                return IntRange(low, high, log)
            return FloatRange(float(numbers[0]), float(numbers[1]), log)
        values: list[Value] = []
        for value in raw if isinstance(raw, list) else [raw]:
            if not isinstance(value, (str, int, float, bool)):
                raise InputError(where, "a choice is a string, number or boolean", repr(value))
            values.append(value)
        return Choice(tuple(values))
    except OverflowError:
        raise InputError(where, "numbers are small enough for a float", "a larger one") from None
    except InputError as error:
        if error.where == where:
            raise
        raise InputError(where, error.rule, error.got, error.todo) from None


def _check_range(low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high)) or low > high:
        raise InputError("range", "low is at most high, both finite", f"low {low}, high {high}")
    if log and low <= 0:
        raise InputError("range", "a logarithmic range starts above 0", f"low {low}")
