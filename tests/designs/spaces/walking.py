"""Walks through what a space holds: at random, or combination by combination."""

from collections.abc import Iterator, Sequence
from typing import Any

import optuna

from utuning_search.designs.design import Design
from utuning_search.designs.spaces.domains import Value
from utuning_search.designs.spaces.space import Space

DEPTH = 6  # of the embedded backbone
RATE = 0.005


def sampled(space: Space, count: int, depth: int = DEPTH, seed: int = 0) -> Iterator[tuple[Design, dict[str, Any]]]:
    """Designs that Optuna's random sampler draws, each with the values it chose."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(count):
        trial = study.ask()
        design = space.suggest(trial, depth, RATE)
        yield design, dict(trial.params)


def exists(condition: str, params: dict[str, Any]) -> bool:
    """Whether a variable of this condition is asked for beside the given values."""

    def holds(clause: str) -> bool:
        name, unlike, label = clause.partition(" is not ")
        if unlike:
            return bool(params[name] != label)
        name, _, label = clause.partition(" = ")
        return params.get(name) == label

    return condition == "always" or any(all(map(holds, c.split(" and "))) for c in condition.split("; "))


class Odometer:
    """A suggester that walks through every combination of choices, one run after another."""

    def __init__(self) -> None:
        self.path: list[int] = []
        self.restart()

    def restart(self) -> None:
        self.sizes: list[int] = []
        self.chosen: dict[str, tuple[tuple[Value, ...], Value]] = {}

    def _pick(self, name: str, values: tuple[Value, ...]) -> Value:
        if name in self.chosen:  # as in Optuna: one name, one set of choices, one value
            assert self.chosen[name][0] == values, f"{name} is suggested from two sets"
            return self.chosen[name][1]
        position = len(self.sizes)
        if position == len(self.path):
            self.path.append(0)
        self.sizes.append(len(values))
        value = values[self.path[position]]
        self.chosen[name] = (values, value)
        return value

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        return self._pick(name, tuple(choices))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:  # noqa: ARG002  # of the protocol
        value = self._pick(name, tuple(range(low, high + 1)))
        assert isinstance(value, int)
        return value

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:  # noqa: ARG002  # of the protocol
        raise AssertionError(f"{name} is a continuum; it cannot be enumerated")

    def advance(self) -> bool:
        """Turn to the next combination; False after the last one."""
        del self.path[len(self.sizes) :]
        while self.path and self.path[-1] == self.sizes[len(self.path) - 1] - 1:
            self.path.pop()
        if not self.path:
            return False
        self.path[-1] += 1
        return True


def walked(space: Space, depth: int) -> Iterator[tuple[Design, dict[str, tuple[tuple[Value, ...], Value]]]]:
    """What every combination of choices gives, and the set and value of each variable that was asked for."""
    odometer = Odometer()
    while True:
        odometer.restart()
        yield space.suggest(odometer, depth, RATE), dict(odometer.chosen)
        if not odometer.advance():
            return


def enumerated(space: Space, depth: int) -> list[Design]:
    """What every combination of choices gives; equal designs as often as they come."""
    return [design for design, _ in walked(space, depth)]


def one_slot(**slot: Any) -> dict[str, Any]:
    return {"name": "small", "slots": [{"name": "a", **slot}]}
