"""Whether slots hold a design, and by which values of their variables: the inverse of suggesting one.

No search is needed: slots and their alternatives place different tuners (`checks.py` refuses others), so what is
placed tells which slot placed it. What is not placed has two spellings where blocks are switched on and off, a tuner
of "none" and a row of switches that are off; the first is given where the slot has it.
"""

from collections.abc import Sequence
from typing import cast

from utuning_search.designs.design import Design, Placement
from utuning_search.designs.spaces.domains import Choice, Value
from utuning_search.designs.spaces.offers import Offer
from utuning_search.designs.spaces.slot import Slot
from utuning_search.tuners import Operation

Part = tuple[Placement, frozenset[int]]  # a placement, and blocks of it
Placed = dict[int, frozenset[int]]  # blocks, by the number of their placement
Params = dict[str, Value]


def explain(slots: Sequence[Slot], design: Design, depth: int) -> Params | None:
    """Values of the slots' variables that give a resolved design's placements; None where there are none."""
    left: list[Part] = [(p, frozenset(p.block_numbers())) for p in design.placements]
    params: Params = {}
    idle: Params = {}  # values that decide nothing, unless another slot shares the variable
    for slot in slots:
        if design.is_bypass and not slot.has_bypass:
            continue  # a bypass stands alone: nothing is chosen elsewhere
        found = _explain(slot, left, depth)
        if found is None:
            return None
        values, placed = found
        if any(params.get(name, value) != value for name, value in values.items()):
            return None  # slots disagree about a shared variable
        params.update(values)
        for i, here in placed.items():
            left[i] = left[i][0], left[i][1] - here
        if not placed and slot.switched:
            idle.update(_idle(slot, values, depth))
    return None if any(blocks for _, blocks in left) else idle | params


def _explain(slot: Slot, left: Sequence[Part], depth: int) -> tuple[Params, Placed] | None:
    """The variables' values of one slot, and what it placed where; None where no values place that."""
    found = _placed(slot, left, depth)
    if not found:
        if slot.none is not None:
            return _tuner(slot, slot.none.label), {}
        if slot.switched:
            off: Params = {leaf.variable: False for leaf in slot.switches(depth).values()}
            return {**_tuner(slot, slot.variants[0].label), **off}, {}
        return None
    offer, number, _ = found[0]
    first = left[number][0]
    blocks_at: dict[Operation, set[int]] = {}  # in the order of a group's label, which is that of a design too
    for other, i, here in found:
        placement = left[i][0]
        alike = (placement.tuner, placement.form, placement.scale) == (first.tuner, first.form, first.scale)
        if other is not offer or not alike:
            return None
        blocks_at.setdefault(placement.operation, set()).update(here)
    operation, blocks = "+".join(blocks_at), blocks_at[first.operation]
    if first.form not in offer.forms.get(operation, ()) or any(b != blocks for b in blocks_at.values()):
        return None
    named = slot.naming(offer, blocks, depth)
    if named is None:
        return None
    chosen = {"form": first.form, "scale": first.scale, **named, **first.tuner.options()}
    values = {
        v.variable: cast(Value, chosen[k]) for k, v in slot.choices(offer, operation, depth).items() if v.searched
    }
    if offer.operation.searched:
        values = {offer.operation.variable: operation, **values}
    return {**_tuner(slot, offer.variant.label), **values}, {i: here for _, i, here in found}


def _placed(slot: Slot, left: Sequence[Part], depth: int) -> list[tuple[Offer, int, frozenset[int]]]:
    """What only this slot can have placed: the offer, the placement's number and the blocks."""
    return [
        (offer, i, here)
        for i, (placement, blocks) in enumerate(left)
        for offer in slot.offers_of(placement.tuner.kind)
        if offer.fits(placement) and (here := blocks & slot.reach(offer, depth))
    ]


def _idle(slot: Slot, values: Params, depth: int) -> Params:
    """Any value for what is chosen beside switches that are off; nothing where the tuner is "none"."""
    if slot.none is not None:
        return {}
    offer = slot.offers[slot.variants[0].label]
    operation = next(iter(offer.forms))
    leaves = [offer.operation, *slot.choices(offer, operation, depth).values()]
    firsts = {v.variable: v.domain.values[0] if isinstance(v.domain, Choice) else v.domain.low for v in leaves}
    return {v.variable: firsts[v.variable] for v in leaves if v.searched and v.variable not in values}


def _tuner(slot: Slot, label: str) -> Params:
    return {slot.tuner.variable: label} if slot.tuner.searched else {}
