"""Slots from their TOML tables; what cannot be searched is refused here, before anything is suggested."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, cast

from utuning_search.common.errors import InputError, nearest, refuse_unknown_keys
from utuning_search.designs import block_sets
from utuning_search.designs.placement import Placement, canonical_scale
from utuning_search.designs.spaces.domains import Choice, Domain, Value, overlap, parse_domain
from utuning_search.designs.spaces.slot import ALONE, ANY, NONE, OWN_LEAVES, Leaf, Slot, Variant
from utuning_search.tuners import ADDITIVE_FORMS, OPERATIONS, Operation, TunerConfig, tuner_class, tuner_config


def parse_leaf(key: str, raw: object, where: str) -> Domain:
    """The domain of `form`, `scale`, `blocks` or a tuner's option from its TOML form, in canonical values."""
    if key == "blocks":
        return Choice(_patterns(raw, where))
    domain = parse_domain(raw, where)
    if key not in ("form", "scale"):
        return domain
    if not isinstance(domain, Choice):
        raise InputError(where, f"{key} is a list of choices", "a range")
    if key == "scale":  # equal constants, and a constant of 1 beside "none", are one choice
        scales = dict.fromkeys(canonical_scale(v, where) for v in domain.values)
        return Choice(cast(tuple[Value, ...], tuple(scales)))
    for form in domain.values:
        if form not in ADDITIVE_FORMS:
            raise InputError(where, "form is parallel, sequential or mixed", f"'{form}'")
    return domain


def parse_slot(raw: Mapping[str, Any], shared: Mapping[str, Leaf], where: str) -> Slot:
    """A slot from its TOML table; every combination it allows is checked to be legal here."""
    if not isinstance(raw, Mapping):
        raise InputError(where, "a slot is a table", repr(raw))
    name = raw.get("name")
    if not isinstance(name, str) or not name.replace("_", "").isalnum():
        raise InputError(where, "name is a word", repr(name))
    where = f"{where} '{name}'"
    variants = tuple(_variant(v, where) for v in _list(raw.get("tuner"), "tuner", where))
    if len({v.label for v in variants}) < len(variants):
        raise InputError(where, "the alternatives of tuner are distinct", [v.label for v in variants])
    options = {f.name for v in variants if v.kind is not None for f in fields(tuner_class(v.kind, where))}
    refuse_unknown_keys(raw, {"name", *OWN_LEAVES, *options}, where)
    operations = tuple(_operations(o, where) for o in _list(raw.get("operation"), "operation", where))
    if len(set(operations)) < len(operations):
        raise InputError(where, "the alternatives of operation are distinct", ["+".join(o) for o in operations])
    own_blocks = "blocks" in raw or "blocks" not in shared
    blocks = (
        parse_leaf("blocks", raw.get("blocks", "all"), f"{where}, blocks") if own_blocks else shared["blocks"].domain
    )
    patterns = cast(tuple[str, ...], cast(Choice, blocks).values)
    leaves = {k: v for k, v in shared.items() if k in options or k in ("form", "scale")}
    for key in raw:
        if key in options or key in ("form", "scale"):
            leaves[key] = Leaf(f"{name}.{key}", parse_leaf(key, raw[key], f"{where}, {key}"))
    slot = Slot(name, variants, operations, patterns, f"{name}.blocks" if own_blocks else "blocks", leaves)
    try:
        _check(slot, where)
    except InputError as error:
        if error.where.startswith(where):
            raise
        inner = error.where.removeprefix(f"slot '{name}', ")
        raise InputError(f"{where}, {inner}", error.rule, error.got, error.todo) from None
    return slot


def refuse_equal_tuners(slots: Sequence[Slot], where: str) -> None:
    """Raise InputError where two slots can place equal tuners at one operation in one block.

    So each tuner of a design tells which slot placed it: sizes are exact, and asking whether a space holds a design
    needs no search.
    """
    for i, b in enumerate(slots):
        for a in slots[:i]:
            operations = {o for group in a.operations for o in group} & {o for group in b.operations for o in group}
            for variant, config in a.placements():
                for other, config_b in b.placements():
                    apart = all(block_sets.disjoint(p, q) for p in a.patterns(config) for q in b.patterns(config_b))
                    if operations and not apart and _can_be_equal((a, variant), (b, other)):
                        raise InputError(
                            f"{where}, slots '{a.name}' and '{b.name}'",
                            "slots at one operation place different tuners",
                            f"'{config.kind}' at '{min(operations, key=OPERATIONS.index)}' in both",
                            "Give each its own kinds, sizes or forms, or list its own block numbers.",
                        )


def _can_be_equal(one: tuple[Slot, Variant], other: tuple[Slot, Variant]) -> bool:
    """Whether two variants have a tuner, form and scale in common."""
    (a, variant_a), (b, variant_b) = one, other
    if variant_a.kind != variant_b.kind:
        return False
    config_a, config_b = a.smallest(variant_a), b.smallest(variant_b)
    free_a, free_b = a.option_leaves(variant_a), b.option_leaves(variant_b)
    in_b = config_b.options()
    return (
        not set(a.forms(config_a)).isdisjoint(b.forms(config_b))
        and not set(a.scales(config_a)).isdisjoint(b.scales(config_b))
        and all(
            overlap(
                free_a[name].domain if name in free_a else Choice((value,)),
                free_b[name].domain if name in free_b else Choice((in_b[name],)),
            )
            for name, value in config_a.options().items()
        )
    )


def _check(slot: Slot, where: str) -> None:
    for variant, config in slot.placements():
        if slot.switched and config.once:
            todo = "Give its slot blocks of its own, such as blocks = [1, 2]."
            raise InputError(f"{where}, blocks", f'{config.named} enters at one block, not at "any"', f"'{ANY}'", todo)
        if not slot.forms(config):
            raise InputError(f"{where}, form", f"{config.named} has one of the forms listed", config.forms)
        _check_ends(variant, slot, where)
        for group in slot.operations:
            for operation in group:
                for form in slot.forms(config):
                    for scale in slot.scales(config):
                        Placement(operation, config, form, scale, (1,))
    placing = [variant for variant, _ in slot.placements()]
    for i, variant in enumerate(placing):
        for before in placing[:i]:
            if _can_be_equal((slot, before), (slot, variant)):
                got = f"'{before.label}' and '{variant.label}', which can be equal"
                raise InputError(where, "the alternatives of tuner are distinct", got)


def _check_ends(variant: Variant, slot: Slot, where: str) -> None:
    """Build the tuner at every value of a choice, and at both ends of a range; what is legal is equal at all."""
    smallest = slot.smallest(variant)
    base = smallest.options()
    for name, leaf in slot.option_leaves(variant).items():
        domain = leaf.domain
        for value in domain.values if isinstance(domain, Choice) else (domain.low, domain.high):
            config = tuner_config(variant.kind, {**base, name: value}, f"{where}, {name}")
            if _legality(config) != _legality(smallest):
                rule = f"values of {name} to choose from are legal at the same places and in the same forms"
                todo = f'Make them alternatives of tuner, such as {{ kind = "{variant.kind}", {name} = "{value}" }}.'
                raise InputError(f"{where}, {name}", rule, f"'{base[name]}' and '{value}'", todo)


def _legality(config: TunerConfig) -> tuple[object, ...]:
    """What decides where and how a tuner may be placed."""
    return config.operations, config.forms, config.scalable, config.once


def _variant(raw: object, where: str) -> Variant:
    if raw == NONE:
        return Variant(None)
    if not isinstance(raw, (str, Mapping)):
        raise InputError(f"{where}, tuner", "a tuner is a kind, or a table of a kind and its options", repr(raw))
    table: dict[str, Any] = {"kind": raw} if isinstance(raw, str) else dict(raw)
    kind = table.pop("kind", None)
    cls = tuner_class(kind, where)
    refuse_unknown_keys(table, {f.name for f in fields(cls)}, f"{where}, tuner '{kind}'")
    return Variant(str(kind), tuple(sorted(table.items())))


def _operations(raw: object, where: str) -> tuple[Operation, ...]:
    group = str(raw).split("+")
    for operation in group:
        if operation not in OPERATIONS:
            todo = nearest(operation, OPERATIONS) + ' Join several that get equal tuners like "fc1+fc2".'
            raise InputError(where, "operation is a known one", f"'{operation}'", todo)
    if len(set(group)) < len(group):
        raise InputError(where, "the operations of a group are distinct", f"'{raw}'")
    return tuple(sorted(cast(list[Operation], group), key=OPERATIONS.index))


def _patterns(raw: object, where: str) -> tuple[str, ...]:
    """Patterns of blocks, a number being that block; ("each",) and ("any",) stand alone."""
    if isinstance(raw, Mapping):
        raise InputError(where, "blocks is a list of choices", "a range")
    patterns = tuple(str(p) if type(p) is int else p for p in _list(raw, "blocks", where))
    if patterns[0] in ALONE and len(patterns) == 1:
        return patterns
    for pattern in patterns:
        if pattern in ALONE:
            todo = "Write it by itself, or list patterns only."
            raise InputError(where, f'blocks = "{pattern}" stands alone', list(patterns), todo)
        if not isinstance(pattern, str):
            raise InputError(where, block_sets.RULE, repr(pattern))
        block_sets.check_pattern(pattern, where)
        if block_sets.names_zero(pattern):
            raise InputError(where, "blocks are counted from 1", repr(pattern))
    if len(set(patterns)) < len(patterns):
        raise InputError(where, "choices are distinct", list(patterns), "Remove the repeated one.")
    return patterns


def _list(raw: object, key: str, where: str) -> list[Any]:
    if raw is None or raw == []:
        raise InputError(where, f"{key} is given", "nothing", f"Add {key}, a value or a list of values.")
    return raw if isinstance(raw, list) else [raw]
