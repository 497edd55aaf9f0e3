"""The search variables of a space's slots, each with the condition under which it is asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from utuning_search.designs.spaces.domains import Domain
from utuning_search.designs.spaces.slot import Slot, side_slot
from utuning_search.designs.spaces.variants import Leaf

ALWAYS = "always"


@dataclass(frozen=True)
class Variable:
    """One search variable, as Optuna sees it.

    Attributes:
        name: Its own among those of the space.
        domain: Its values.
        exists_if: "always", or conditions such as "a.tuner = adapter and a.operation = mlp"; any of those between "; ".
    """

    name: str
    domain: Domain
    exists_if: str


def search_variables(slots: Sequence[Slot], depth: int, rate: Domain | None) -> tuple[Variable, ...]:
    """Of these slots on a backbone of `depth` blocks, and of a learning rate's domain, in the order of the slots."""
    found: dict[str, tuple[Domain, list[str]]] = {}
    for leaf, condition in _conditions(slots, depth):
        conditions = found.setdefault(leaf.variable, (leaf.domain, []))[1]
        if condition not in conditions:
            conditions.append(condition)
    if rate is not None and rate.size != 1:
        found["learning_rate"] = rate, [ALWAYS]
    return tuple(
        Variable(name, domain, ALWAYS if ALWAYS in conditions else "; ".join(conditions))
        for name, (domain, conditions) in found.items()
    )


def _conditions(slots: Sequence[Slot], depth: int) -> Iterator[tuple[Leaf, str]]:
    """Each leaf that is a search variable, once a condition for it."""
    side = side_slot(slots)
    for slot in slots:
        beside = ALWAYS if side is None or side is slot else _no_bypass(side)
        if slot.tuner.searched:
            yield slot.tuner, beside
        for label, offer in slot.offers.items():
            due = f"{slot.tuner.variable} = {label}" if slot.tuner.searched else beside
            if offer.operation.searched:
                yield offer.operation, due
            at = {operation: slot.choices(offer, operation, depth) for operation in offer.forms}
            leaves = {
                leaf: [o for o in at if leaf in at[o].values()] for found in at.values() for leaf in found.values()
            }
            for leaf, operations in leaves.items():
                if len(operations) == len(at) and leaf.searched:
                    yield leaf, due
                elif leaf.searched:
                    for operation in operations:
                        chosen = f"{offer.operation.variable} = {operation}"
                        yield leaf, chosen if due == ALWAYS else f"{due} and {chosen}"


def _no_bypass(side: Slot) -> str:
    """The condition that a slot with bypasses places none of them."""
    labels = (variant.label for variant in side.variants if variant.is_bypass)
    return " and ".join(f"{side.tuner.variable} is not {label}" for label in labels)
