"""How many designs a space holds: exactly, by products and sums over its slots."""

import math
from collections.abc import Iterable, Sequence

from utuning_search.common.errors import InputError
from utuning_search.designs.spaces.slot import Slot

SWITCHES = "switches"  # stands for all shared switches, of which at least one is on

Counts = dict[frozenset[str], int]  # by the set of shared variables in play


def number_of_designs(slots: Sequence[Slot], depth: int) -> int:
    """Of a space of these slots on a backbone of `depth` blocks; what counts is said by `Space.size`."""
    shared: dict[str, int] = {}
    totals = _totals(slots, depth, shared)
    apart = [slot for slot in slots if not (slot.switched and slot.shares_blocks)]
    if len(apart) < len(slots):
        # Designs without a tuner at a shared switch are those of the other slots, however they were spelled.
        totals = {used: n for used, n in totals.items() if SWITCHES in used}
        _add(totals, _totals(apart, depth, shared))
    for slot in slots:
        _add(totals, _count(slot, depth, shared, bypass=True))
    return sum(n * math.prod(shared[v] for v in used) for used, n in totals.items())


def _totals(slots: Iterable[Slot], depth: int, shared: dict[str, int]) -> Counts:
    """Number of choices of all slots' own variables in designs without a bypass; fills in `shared`."""
    totals: Counts = {frozenset(): 1}
    for slot in slots:
        counts = _count(slot, depth, shared, bypass=False)
        merged: Counts = {}
        for used_a, a in totals.items():
            for used_b, b in counts.items():
                _add(merged, {used_a | used_b: a * b})
        totals = merged
    return totals


def _count(slot: Slot, depth: int, shared: dict[str, int], *, bypass: bool) -> Counts:
    """Number of choices of a slot's own variables, with its bypasses alone or without them."""
    counts: Counts = {}
    own_switches = slot.switched and not slot.shares_blocks
    if slot.none is not None or own_switches:
        counts[frozenset()] = int(not bypass)  # nothing placed, by "none" or by every switch off
    for offer in slot.offers.values():
        for operation in offer.forms if offer.variant.is_bypass is bypass else ():
            own, used = 1, set[str]()
            if own_switches:
                own = 2**depth - 1
            elif slot.switched:
                used.add(SWITCHES)
                shared[SWITCHES] = 2**depth - 1
            for key, leaf in slot.choices(offer, operation, depth).items():
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
            _add(counts, {frozenset(used): own})
    return counts


def _add(totals: Counts, counts: Counts) -> None:
    for used, n in counts.items():
        totals[used] = totals.get(used, 0) + n
