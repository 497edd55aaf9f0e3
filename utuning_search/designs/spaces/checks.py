"""What a slot, and the slots of a space together, must keep; what does not is refused before anything is suggested."""

from collections.abc import Sequence

from utuning_search.common.errors import InputError
from utuning_search.designs import block_sets
from utuning_search.designs.placement import Placement
from utuning_search.designs.spaces.domains import Choice, overlap
from utuning_search.designs.spaces.offers import Offer
from utuning_search.designs.spaces.slot import ANY, EACH, Slot
from utuning_search.tuners import OPERATIONS, OUTSIDE_OPERATIONS, TunerConfig, tuner_config

OUTSIDE_BLOCKS = "first 1"  # of what lies outside the blocks: it counts as one in the first


def check_slot(slot: Slot, where: str) -> None:
    """Raise InputError where a variant of a slot cannot be placed, or none can at one of its operations."""
    offers = list(slot.offers.values())
    outside = [o for group in slot.operations for o in group if o in OUTSIDE_OPERATIONS]
    if outside and slot.blocks != (OUTSIDE_BLOCKS,):
        rule = f"'{outside[0]}' lies outside the blocks, so its slot has blocks = \"{OUTSIDE_BLOCKS}\""
        raise InputError(f"{where}, blocks", rule, ", ".join(map(repr, slot.blocks)), "Give it a slot of its own.")
    for offer in offers:
        _check_blocks(slot, offer, where)
        if not offer.forms:
            _refuse_illegal(slot, offer, where)
        _check_ends(offer, where)
        for label, forms in offer.forms.items():
            for operation in offer.group(label):
                for form in forms:
                    for scale in offer.scales:
                        Placement(operation, offer.config, form, scale, (1,))
    for group in slot.operations if offers else ():
        label = "+".join(group)
        if not any(label in offer.forms for offer in offers):
            rule = f"one of the tuners is legal at each alternative of operation ({', '.join(slot.offers)})"
            raise InputError(f"{where}, operation", rule, f"'{label}'")
    for i, offer in enumerate(offers):
        for before in offers[:i]:
            if _can_be_equal(before, offer):
                got = f"'{before.variant.label}' and '{offer.variant.label}', which can be equal"
                raise InputError(where, "the alternatives of tuner are distinct", got)


def refuse_equal_tuners(slots: Sequence[Slot], where: str) -> None:
    """Raise InputError where two slots can place equal tuners at one operation in one block.

    So each tuner of a design tells which slot placed it: sizes are exact, and asking whether a space holds a design
    needs no search.
    """
    for i, b in enumerate(slots):
        for a in slots[:i]:
            for one in a.offers.values():
                for other in b.offers.values():
                    operations = _can_be_equal(one, other)
                    patterns = [(p, q) for p in a.patterns(one.config) for q in b.patterns(other.config)]
                    if operations and not all(block_sets.disjoint(p, q) for p, q in patterns):
                        raise InputError(
                            f"{where}, slots '{a.name}' and '{b.name}'",
                            "slots at one operation place different tuners",
                            f"'{one.config.kind}' at '{min(operations, key=OPERATIONS.index)}' in both",
                            "Give each its own kinds, sizes or forms, or list its own block numbers.",
                        )


def refuse_bypasses(slots: Sequence[Slot], where: str) -> None:
    """Raise InputError where a bypass is not in one slot only, or leaves the other slots nothing to do.

    A bypass stands alone, so where it is chosen the other slots place nothing: one slot must be asked first.
    """
    sides = [slot for slot in slots if slot.has_bypass]
    if len(sides) > 1:
        todo = "Make the bypasses alternatives of one slot's tuner."
        raise InputError(where, "one slot has the bypasses", [slot.name for slot in sides], todo)
    for slot in sides:
        if len(slots) > 1 and all(variant.is_bypass for variant in slot.variants):
            todo = 'Add another alternative, such as "none".'
            got = f"slot '{slot.name}' has nothing else"
            raise InputError(
                where, "other slots place nothing beside a bypass, so it is one of several tuners", got, todo
            )


def _can_be_equal(one: Offer, other: Offer) -> set[str]:
    """The operations at which two offers have a tuner, form and scale in common."""
    if one.config.kind != other.config.kind or set(one.scales).isdisjoint(other.scales):
        return set()
    values, others = one.config.options(), other.config.options()
    for name in values:
        domain = one.options[name].domain if name in one.options else Choice((values[name],))
        if not overlap(domain, other.options[name].domain if name in other.options else Choice((others[name],))):
            return set()
    at, at_other = one.forms_at, other.forms_at
    return {operation for operation in at if at[operation] & at_other.get(operation, set())}


def _check_blocks(slot: Slot, offer: Offer, where: str) -> None:
    if slot.switched and offer.config.once:
        todo = "Give its slot blocks of its own, such as blocks = [1, 2]."
        rule = f'{offer.config.named} enters at one block, not at "any"'
        raise InputError(f"{where}, blocks", rule, f"'{ANY}'", todo)
    if offer.variant.is_bypass and slot.blocks in ((ANY,), (EACH,)):
        todo = 'Give its slot blocks of its own, such as blocks = "all".'
        raise InputError(
            f"{where}, blocks", "patterns say where a bypass stands", ", ".join(map(repr, slot.blocks)), todo
        )


def _refuse_illegal(slot: Slot, offer: Offer, where: str) -> None:
    """Say why a variant is legal nowhere in its slot."""
    config, form = offer.config, offer.variant.form
    legal = [o for o in config.operations if form is None or form in config.forms_at(o)]
    if any(set(group) <= set(legal) for group in slot.operations):
        here = {operation for group in slot.operations for operation in group}
        forms = dict.fromkeys(f for o in legal if o in here for f in config.forms_at(o))
        raise InputError(f"{where}, form", f"{config.named} has one of the forms listed", tuple(forms))
    got = ", ".join(f"'{'+'.join(group)}'" for group in slot.operations)
    rule = f"{config.named}{f' in form {form}' if form else ''} is legal at: {', '.join(legal) or 'no operation'}"
    raise InputError(f"{where}, tuner '{offer.variant.label}'", rule, got)


def _check_ends(offer: Offer, where: str) -> None:
    """Build the tuner at every value of a choice, and at both ends of a range; what is legal is equal at all."""
    kind, base = offer.config.kind, offer.config.options()
    for name, leaf in offer.options.items():
        domain = leaf.domain
        for value in domain.values if isinstance(domain, Choice) else (domain.low, domain.high):
            config = tuner_config(kind, {**base, name: value}, f"{where}, {name}")
            if _legality(config) != _legality(offer.config):
                rule = f"values of {name} to choose from are legal at the same places and in the same forms"
                todo = f'Make them alternatives of tuner, such as {{ kind = "{kind}", {name} = "{value}" }}.'
                raise InputError(f"{where}, {name}", rule, f"'{base[name]}' and '{value}'", todo)


def _legality(config: TunerConfig) -> tuple[object, ...]:
    """What decides where and how a tuner may be placed."""
    return {o: config.forms_at(o) for o in config.operations}, config.forms, config.scalable, config.once
