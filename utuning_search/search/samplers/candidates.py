"""Candidates for a proposal: edits of good designs and of known methods, crossovers of them, and fresh draws."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np

from utuning_search.designs.design import Design
from utuning_search.designs.known_methods import PRESETS
from utuning_search.designs.rates import rate_factor
from utuning_search.designs.spaces.edits import Neighbourhoods

FRESH, CROSSED, PARTS, KNOWN = 0.1, 0.1, 0.3, 0.15  # shares of candidates; the others are edits of good designs
TWICE = 0.3  # share of edits that are followed by another one
TURNED = 0.3  # standard deviation of a fresh rate around a good one, in factors of e
OTHERS = (0.5, 2.0)  # rates, relative to those that were tried
ASKED = 40  # parents whose other rates are candidates: all of them in usual searches
TRIES = 4  # for each candidate that is wanted, before small spaces are left with fewer


@dataclass(frozen=True)
class Candidates:
    """Makes designs that were not tried yet.

    Args:
        near: The space.
        rng: The one source of chance.
        tried: Keys that are not wanted.
        allowed: Whether a design is small enough.
    """

    near: Neighbourhoods
    rng: np.random.Generator
    tried: Collection[str]
    allowed: Callable[[Design], bool]

    def around(self, parents: Sequence[Design], count: int, known: Sequence[Design] = ()) -> list[Design]:
        """The known methods that were not tried, those that were and up to 40 parents at half and at twice their rates,
        and up to so many other designs, near parents most of them.

        What rates suit a backbone and a schedule is not known beforehand, and a known method that was trained at a bad
        one is no parent; so its rate is asked for in any case.
        """
        seen: set[str] = set()
        asked = list(dict.fromkeys(parents))
        if len(asked) > ASKED:  # each proposal asks for others, so that it costs no more after 2,000 trials
            asked = [asked[i] for i in sorted(self.rng.choice(len(asked), size=ASKED, replace=False))]
        given = [*self.known, *self.at_other_rates([*known, *asked])]
        rest = iter(given)
        found = self._collect(lambda: next(rest, None), len(given), seen)
        return found + self._collect(lambda: self._any(parents), count, seen)

    def edits(self, parents: Sequence[Design], each: int, but: Collection[str]) -> list[Design]:
        """Edits of each parent, all different, without those of some keys."""
        found: list[Design] = []
        seen = set(but)
        for parent in parents:
            found += self._collect(partial(self._edited, parent), each, seen)
        return found

    def at_good_rate(self, design: Design, turned: float = 0.0) -> Design:
        """The design at a rate that suits it, times e to the power of `turned`."""
        rate = self.near.learning_rate * rate_factor(design, self.near.depth)
        return self.near.at_rate(design, rate * float(np.exp(turned)))

    def at_other_rates(self, designs: Sequence[Design]) -> list[Design]:
        """Each at half and at twice its rate."""
        rates = [(d, d.learning_rate or self.near.learning_rate) for d in dict.fromkeys(designs)]
        found = [self.near.at_rate(design, rate * factor) for design, rate in rates for factor in OTHERS]
        return [d for d in found if self.near.holds(d)]

    def _collect(self, make: Callable[[], Design | None], count: int, seen: set[str]) -> list[Design]:
        found: list[Design] = []
        for _ in range(TRIES * count):
            if len(found) == count:
                break
            design = make()
            if design is None:
                continue
            key = design.key
            if key not in seen and key not in self.tried and self.allowed(design):
                seen.add(key)
                found.append(design)
        return found

    def _any(self, parents: Sequence[Design]) -> Design | None:
        chance = self.rng.random()
        if chance < FRESH or not parents:
            drawn = self.near.draw(self.rng)
            return self.at_good_rate(drawn, self.rng.normal(0, TURNED))
        if chance < FRESH + CROSSED:
            one, other = (parents[int(i)] for i in self.rng.integers(len(parents), size=2))
            crossed = self.near.cross(one, other, self.rng)
            return None if crossed is None else self.at_good_rate(crossed, self.rng.normal(0, TURNED))
        if chance < FRESH + CROSSED + PARTS:
            whole = [d for d in (*self.known, *parents) if len(d.placements) > 1]
            part = self.near.part(whole[int(self.rng.integers(len(whole)))], self.rng) if whole else None
            return None if part is None else self.at_good_rate(part, self.rng.normal(0, TURNED))
        if chance < FRESH + CROSSED + PARTS + KNOWN and self.known:
            return self._edited(self.known[int(self.rng.integers(len(self.known)))])
        return self._edited(parents[int(self.rng.integers(len(parents)))])

    def _edited(self, design: Design) -> Design | None:
        found = self._edit(design)
        if found is not None and self.rng.random() < TWICE:
            found = self._edit(found) or found
        return found

    def _edit(self, design: Design) -> Design | None:
        """One edit; where it changes the tuners, the rate follows by as much as a good one does."""
        found = self.near.edit(design, self.rng)
        if found is None or found.placements == design.placements or design.learning_rate is None:
            return found
        depth = self.near.depth
        factor = rate_factor(found, depth) / rate_factor(design, depth)
        return self.near.at_rate(found, design.learning_rate * factor)

    @cached_property
    def known(self) -> list[Design]:
        """The known methods that lie in the space, each at a rate that suits it."""
        found = [self.at_good_rate(d) for d in _known_methods(self.near.depth, self.near.learning_rate)]
        return [d for d in found if self.near.holds(d)]


@lru_cache(maxsize=8)
def _known_methods(depth: int, rate: float) -> tuple[Design, ...]:
    return tuple(Design(p.placements(), rate).resolve(depth) for p in PRESETS)
