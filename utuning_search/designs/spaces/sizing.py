"""How many designs a space holds: exactly, by products and sums over its slots."""

import math
from collections.abc import Iterable, Sequence

from utuning_search.common.errors import InputError
from utuning_search.designs.spaces.slot import Slot

SWITCHES = "switches"  # stands for all shared switches, of which at least one is on


def number_of_designs(slots: Sequence[Slot], depth: int) -> int:
    """Of a space of these slots on a backbone of `depth` blocks; what counts is said by `Space.size`."""
    shared: dict[str, int] = {}
    totals = _totals(slots, depth, shared)
    apart = [slot for slot in slots if not (slot.switched and slot.shares_blocks)]
    if len(apart) < len(slots):
        # Designs without a tuner at a shared switch are those of the other slots, however they were spelled.
        totals = {used: n for used, n in totals.items() if SWITCHES in used}
        for used, n in _totals(apart, depth, shared).items():
            totals[used] = totals.get(used, 0) + n
    return sum(n * math.prod(shared[v] for v in used) for used, n in totals.items())


def _totals(slots: Iterable[Slot], depth: int, shared: dict[str, int]) -> dict[frozenset[str], int]:
    """Number of choices of all slots' own variables, by the set of shared variables in play; fills in `shared`."""
    totals: dict[frozenset[str], int] = {frozenset(): 1}
    for slot in slots:
        counts = _count(slot, depth, shared)
        merged: dict[frozenset[str], int] = {}
        for used_a, a in totals.items():
            for used_b, b in counts.items():
                merged[used_a | used_b] = merged.get(used_a | used_b, 0) + a * b
        totals = merged
    return totals


def _count(slot: Slot, depth: int, shared: dict[str, int]) -> dict[frozenset[str], int]:
    """Number of choices of a slot's own variables, by the set of shared variables that they bring into play."""
    counts: dict[frozenset[str], int] = {}
    own_switches = slot.switched and not slot.shares_blocks
    if own_switches and all(variant.kind is not None for variant in slot.variants):
        counts[frozenset()] = 1  # every switch off
    for variant in slot.variants:
        own, used = 1, set[str]()
        if variant.kind is not None and slot.switched:
            own = 2**depth - 1 if own_switches else 1
            if not own_switches:
                used.add(SWITCHES)
                shared[SWITCHES] = 2**depth - 1
        for key, leaf in slot.choices(variant, depth).items() if variant.kind is not None else ():
            if key in slot.switches(depth):
                continue
            size = leaf.domain.size
            if size is None:
                raise InputError(f"slot '{slot.name}'", "the values of an option can be counted", leaf.variable)
            if leaf.variable.startswith(f"{slot.name}.{key}"):
                own *= size
            elif size > 1:
                used.add(leaf.variable)
                shared[leaf.variable] = size
        counts[frozenset(used)] = counts.get(frozenset(used), 0) + own
    return counts
