"""Values of a space's variables that are known beforehand, in place of what Optuna would suggest."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from utuning_search.designs.spaces.domains import Choice, Value

Values = Mapping[str, Value]


class Guided:
    """Stands in for an Optuna trial: gives the values it was told where they are legal, and draws the others."""

    def __init__(self, rng: np.random.Generator, told: Values) -> None:
        self._rng, self._told = rng, told
        self._given: dict[str, Value] = {}  # slots may share a variable, which then has one value

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        told = self._given.get(name, self._told.get(name))
        if told is None or not Choice(tuple(choices)).contains(told):
            told = choices[int(self._rng.integers(len(choices)))]
        return self._given.setdefault(name, told)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        told = self._given.get(name, self._told.get(name))
        if not isinstance(told, int) or isinstance(told, bool) or not low <= told <= high:
            drawn = self._uniform(low - 0.5, high + 0.5, log)
            told = min(max(round(drawn), low), high)
        self._given[name] = told
        return told

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        told = self._given.get(name, self._told.get(name))
        if not isinstance(told, (int, float)) or not low <= told <= high:
            told = min(max(self._uniform(low, high, log), low), high)
        self._given[name] = float(told)
        return float(told)

    def _uniform(self, low: float, high: float, log: bool) -> float:
        if not log:
            return float(self._rng.uniform(low, high))
        return math.exp(self._rng.uniform(math.log(low), math.log(high)))
