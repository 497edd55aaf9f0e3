"""The slots of a space on one backbone: what that cannot carry is no choice, with the reason."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from utuning_search.designs.legality import hindrance
from utuning_search.designs.spaces.slot import Slot
from utuning_search.tuners import BackboneShape


def narrowed(slots: Sequence[Slot], shape: BackboneShape) -> tuple[Slot, ...]:
    """The slots without what a backbone cannot carry; those that could place nothing any more are gone.

    Where it can carry everything, these are the very same slots, so that older studies go on.
    """
    found = (_narrowed(slot, shape) for slot in slots)
    return tuple(slot for slot in found if slot is not None)


def left_out(slots: Sequence[Slot], shape: BackboneShape) -> dict[str, str]:
    """What `narrowed` leaves out, and why: operations such as "qkv", and tuners such as "exact prefix"."""
    found: dict[str, str] = {
        o: "its blocks have none" for slot in slots for group in slot.operations for o in group if o in shape.lacks
    }
    return {**found, **{label: why for slot in slots for label, why in _hindered(slot, shape)}}


def _hindered(slot: Slot, shape: BackboneShape) -> Iterator[tuple[str, str]]:
    for offer in slot.offers.values():
        why = hindrance(offer.config, offer.variant.form, shape)
        if why:
            form = f"{offer.variant.form} " if offer.variant.is_bypass else ""
            yield f"{form}{offer.config.label}", why


def _narrowed(slot: Slot, shape: BackboneShape) -> Slot | None:
    groups = tuple(group for group in slot.operations if not any(o in shape.lacks for o in group))
    hindered = {label for label, o in slot.offers.items() if hindrance(o.config, o.variant.form, shape)}
    if len(groups) == len(slot.operations) and not hindered:
        return slot
    known = replace(slot, operations=groups)
    variants = tuple(
        v for v in slot.variants if v.kind is None or (v.label not in hindered and known.offers[v.label].forms)
    )
    kept = replace(slot, operations=groups, variants=variants)
    legal = {label for offer in kept.offers.values() for label in offer.forms}
    groups = tuple(group for group in groups if "+".join(group) in legal)
    return replace(kept, operations=groups) if groups else None
