"""Slots from their TOML tables; what cannot be searched is refused here, before anything is suggested."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from utuning_search.common.errors import InputError, nearest, refuse_unknown_keys
from utuning_search.designs import block_sets
from utuning_search.designs.placement import canonical_scale
from utuning_search.designs.spaces.checks import check_slot
from utuning_search.designs.spaces.domains import Choice, Domain, Value, parse_domain
from utuning_search.designs.spaces.slot import ALONE, OWN_LEAVES, Slot
from utuning_search.designs.spaces.variants import NONE, Leaf, Variant
from utuning_search.tuners import ADDITIVE_FORMS, FORMS, OPERATIONS, Form, Operation, tuner_class


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
        check_slot(slot, where)
    except InputError as error:
        if error.where.startswith(where):
            raise
        inner = error.where.removeprefix(f"slot '{name}', ")
        raise InputError(f"{where}, {inner}", error.rule, error.got, error.todo) from None
    return slot


def _variant(raw: object, where: str) -> Variant:
    if raw == NONE:
        return Variant(None)
    if not isinstance(raw, (str, Mapping)):
        raise InputError(f"{where}, tuner", "a tuner is a kind, or a table of a kind, its options and form", repr(raw))
    table: dict[str, Any] = {"kind": raw} if isinstance(raw, str) else dict(raw)
    kind, form = table.pop("kind", None), table.pop("form", None)
    cls = tuner_class(kind, where)
    refuse_unknown_keys(table, {"form", *(f.name for f in fields(cls))}, f"{where}, tuner '{kind}'")
    if form is not None and form not in FORMS:
        todo = nearest(form, FORMS) if isinstance(form, str) else "Write it as text."
        raise InputError(f"{where}, tuner '{kind}', form", "form is a known one", repr(form), todo)
    return Variant(str(kind), tuple(sorted(table.items())), cast(Form | None, form))


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
