"""Designs of a space near others: fresh draws, edits of a design, crossovers of two.

Each works on the values of the space's variables, so whatever comes out lies in the space, however that is written.
What a changed value brings into play is drawn afresh, and what it puts out of play is dropped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from utuning_search.designs.design import Design
from utuning_search.designs.spaces.domains import Choice, Domain, IntRange, Value
from utuning_search.designs.spaces.guided import Guided, Values
from utuning_search.designs.spaces.space import Space
from utuning_search.designs.spaces.variants import NONE

Change = tuple[str, Value | None]  # a variable and its new value; None where that is drawn
RATE = "learning_rate"
LEAST, MOST = 1.25, 3.0  # factors that one edit changes a size or a rate by


@dataclass(frozen=True)
class Neighbourhoods:
    """Draws from a space, and steps within it, for a backbone of some depth.

    Args:
        space: Where all designs come from.
        depth: Number of blocks.
        learning_rate: The task's, where the space has no rates of its own.
    """

    space: Space
    depth: int
    learning_rate: float

    def draw(self, rng: np.random.Generator) -> Design:
        """A design with few tuners: n slots place something half as often as n / 2 do.

        Every slot by itself at random would place something in nearly all of them, and most good designs are simple.
        """
        optional = [name for name, alternatives in self._tuners.items() if NONE in alternatives]
        weights = 1 / np.arange(1, len(optional) + 1)
        count = int(rng.choice(len(optional), p=weights / weights.sum())) + 1 if optional else 0
        chosen = {optional[i] for i in rng.permutation(len(optional))[:count]}
        told: dict[str, Value] = {}
        for name in optional:
            others = [v for v in self._tuners[name] if v != NONE]
            told[f"{name}.tuner"] = others[int(rng.integers(len(others)))] if name in chosen else NONE
        return self._suggest(rng, told)

    def edit(self, design: Design, rng: np.random.Generator) -> Design | None:
        """The design with one thing changed: a size, the rate, blocks, form, scale, operation, an option, the kind of
        a tuner, or one more or fewer. Which of these is drawn first, so that none is rare because few variables
        choose it.

        Returns None where the space does not hold the design, or has nothing to change.
        """
        values = self._values(design)
        if not values:
            return None
        changes = list(self._changes(values).values())
        return self._changed(design, values, changes[int(rng.integers(len(changes)))], rng)

    def edits(self, design: Design, rng: np.random.Generator) -> dict[str, Design]:
        """One edit of each kind that the design has, drawn at random, by the kind: "size", RATE, "blocks", "form",
        "scale", "operation", "option", "tuner" for another kind of one, "add" and "drop" for one more or fewer.

        Nothing where the space does not hold the design.
        """
        values = self._values(design) or {}
        found = {kind: self._changed(design, values, ways, rng) for kind, ways in self._changes(values).items()}
        return {kind: edited for kind, edited in found.items() if edited is not None}

    def cross(self, one: Design, other: Design, rng: np.random.Generator) -> Design | None:
        """A design with each slot as in one of two others, and each shared variable too."""
        both = [found for d in (one, other) if (found := self._values(d)) is not None]
        if len(both) < 2:
            return None
        names = sorted(both[0].keys() | both[1].keys())
        parents = {group: int(rng.integers(2)) for group in dict.fromkeys(map(self._slot, names))}
        either = {**both[0], **both[1]}  # what one of them did not need is as in the other
        told = {n: both[parents[self._slot(n)]].get(n, either[n]) for n in names}
        child = self._suggest(rng, told)
        return None if child in (one, other) else child

    def part(self, design: Design, rng: np.random.Generator) -> Design | None:
        """The design with some of its placements only, such as BitFit at two of its six operations.

        Returns None where it has but one, or the space does not hold what is left.
        """
        kept = [p for p in design.placements if rng.random() < 0.5]
        if not 0 < len(kept) < len(design.placements):
            return None
        found = Design(tuple(kept), design.learning_rate)
        return found if self.holds(found) else None

    def at_rate(self, design: Design, rate: float) -> Design:
        """The design at the rate of the space nearest to `rate`; as it is where the space has none."""
        if self.space.learning_rate is None:
            return design
        return design.at_rate(self.space.preset_rate(rate))

    def holds(self, design: Design) -> bool:
        """Whether the space holds a resolved design."""
        return self._values(design) is not None

    def _values(self, design: Design) -> Values | None:
        """Of the space's variables; None where it does not hold the design."""
        return self.space.params_of(design, self.depth)

    def _changed(
        self, design: Design, values: Values, changes: Sequence[Change], rng: np.random.Generator
    ) -> Design | None:
        """The design with one of some changes; None where nothing comes of it."""
        name, wanted = changes[int(rng.integers(len(changes)))]
        if wanted is None:
            wanted = self._step(self._domains[name], values[name], rng)
        found = self._suggest(rng, {**values, name: wanted})
        return None if found == design else found

    def _changes(self, values: Values) -> dict[str, list[Change]]:
        """By kind of change, in the order of the kinds' names."""
        changes: dict[str, list[Change]] = {}
        for name, value in values.items():
            kind = self._places[name][1]
            if kind != "tuner":
                changes.setdefault(kind, []).append((name, None))
                continue
            for other in self._domain(name).values:
                if other != value:
                    step = "add" if value == NONE else "drop" if other == NONE else "tuner"
                    changes.setdefault(step, []).append((name, other))
        return {kind: changes[kind] for kind in sorted(changes)}

    def _suggest(self, rng: np.random.Generator, told: Values) -> Design:
        return self.space.suggest(Guided(rng, told), self.depth, self.learning_rate)

    def _step(self, domain: Domain, value: Value, rng: np.random.Generator) -> Value:
        """Another value of a domain: of numbers one that is larger or smaller by a factor, of groups of operations one
        with one more, one fewer or another one, else any."""
        if isinstance(domain, Choice):
            others = [v for v in domain.values if v != value and _is_near(v, value)]
            others = others or [v for v in domain.values if v != value]
            if len(others) > 2 and all(_is_amount(v) for v in domain.values):
                others = sorted(others, key=lambda v: abs(math.log((float(v) + 1e-9) / (float(value) + 1e-9))))[:2]
            return others[int(rng.integers(len(others)))]
        factor = math.exp(rng.uniform(math.log(LEAST), math.log(MOST)))
        up = bool(rng.integers(2))
        for _ in range(2):
            moved = float(value) * (factor if up else 1 / factor)
            moved = min(max(moved, domain.low), domain.high)
            if isinstance(domain, IntRange):
                whole = round(moved)
                moved = min(max(whole if whole != value else whole + (1 if up else -1), domain.low), domain.high)
            if moved != value:
                break
            up = not up
        return moved

    @cached_property
    def _domains(self) -> dict[str, Domain]:
        return {v.name: v.domain for v in self.space.variables(self.depth)}

    def _domain(self, name: str) -> Choice:
        domain = self._domains[name]
        assert isinstance(domain, Choice)
        return domain

    @cached_property
    def _tuners(self) -> dict[str, tuple[str, ...]]:
        """Alternatives of each slot's tuner where there are several, by the slot's name."""
        slots = self.space.slots_at(self.depth)
        return {s.name: tuple(v.label for v in s.variants) for s in slots if len(s.variants) > 1}

    @cached_property
    def _places(self) -> dict[str, tuple[str, str]]:
        """Slot and kind of change of each variable; shared ones are slots of their own."""
        names = sorted((s.name for s in self.space.slots_at(self.depth)), key=len, reverse=True)
        found = {}
        for name, domain in self._domains.items():
            slot = next((s for s in names if name.startswith(f"{s}.")), "")
            field = name.removeprefix(f"{slot}.").split(".")[0]
            kind = "blocks" if field.startswith("block") else field
            if name == RATE or kind in ("tuner", "operation", "form", "scale", "blocks"):
                pass
            elif not isinstance(domain, Choice) or all(type(v) is int for v in domain.values):
                kind = "size"
            else:
                kind = "option"
            found[name] = (slot or name, kind)
        return found

    def _slot(self, name: str) -> str:
        return self._places[name][0]


def _is_near(one: Value, other: Value) -> bool:
    """Whether groups of operations differ in two of them at most, as the two norms may; of other values always."""
    if not (isinstance(one, str) and isinstance(other, str)):
        return True
    return len(set(one.split("+")) ^ set(other.split("+"))) <= 2


def _is_amount(value: Value) -> bool:
    """Whether it is a number that is told from others by a factor."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
