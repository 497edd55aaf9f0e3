"""Slots: a placement with sets where values would be, the part that a space is made of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from utuning_search import blocks as block_sets
from utuning_search.design import Placement
from utuning_search.domains import Choice, Domain, Value, parse_domain
from utuning_search.errors import InputError, nearest, refuse_unknown_keys
from utuning_search.tuners import FORMS, OPERATIONS, Form, Operation, Scale, TunerConfig, tuner_class, tuner_config

NONE = "none"
EACH = "each"
OWN_LEAVES = ("operation", "tuner", "blocks", "form", "scale")


@dataclass(frozen=True)
class Leaf:
    """A set of values, and the name of the search variable that chooses from it."""

    variable: str
    domain: Domain


@dataclass(frozen=True)
class Variant:
    """One alternative of a slot: a tuner kind, some options fixed, the rest chosen; kind None places nothing."""

    kind: str | None
    fixed: tuple[tuple[str, Value], ...] = ()

    @property
    def label(self) -> str:
        """The value of the slot's `tuner` variable, such as "prefix-exact"."""
        return NONE if self.kind is None else "-".join([self.kind, *(str(v) for _, v in self.fixed)])

    def to_raw(self) -> object:
        return {"kind": self.kind, **dict(self.fixed)} if self.fixed else self.label


@dataclass(frozen=True)
class Slot:
    """A placement with sets for values. What does not apply to the chosen tuner is not a search variable.

    Attributes:
        name: Prefix of its variables.
        variants: Alternatives of `tuner`.
        operations: Alternatives of `operation`; each is one operation or several that get equal tuners.
        blocks: Patterns, or a single block's number once `each` is expanded.
        blocks_variable: Name of the variable that chooses the pattern.
        leaves: Sets for `form`, `scale` and the tuners' options, shared ones included.
    """

    name: str
    variants: tuple[Variant, ...]
    operations: tuple[tuple[Operation, ...], ...]
    blocks: tuple[str, ...]
    blocks_variable: str
    leaves: Mapping[str, Leaf]

    def variant(self, label: str) -> Variant:
        return next(v for v in self.variants if v.label == label)

    def operation_labels(self) -> tuple[str, ...]:
        return tuple("+".join(group) for group in self.operations)

    def at_block(self, block: int) -> "Slot":
        """The slot of one block, where `blocks` is "each"."""
        name = f"block_{block:02d}.{self.name}"
        # Shared variables keep their names; the slot's own get the block's.
        leaves = {
            k: replace(v, variable=v.variable.replace(f"{self.name}.", f"{name}.", 1)) for k, v in self.leaves.items()
        }
        return replace(self, name=name, blocks=(str(block),), blocks_variable=f"{name}.blocks", leaves=leaves)

    def option_leaves(self, variant: Variant) -> dict[str, Leaf]:
        """The tuner's options that are chosen rather than fixed or left at their default."""
        names = {f.name for f in fields(tuner_class(variant.kind, self.name))} - {k for k, _ in variant.fixed}
        return {name: leaf for name, leaf in self.leaves.items() if name in names}

    def forms(self, config: TunerConfig) -> tuple[Form, ...]:
        """The legal forms that the slot allows for a tuner."""
        if len(config.forms) == 1 or "form" not in self.leaves:
            return config.forms[:1]
        domain = cast(Choice, self.leaves["form"].domain)
        return tuple(f for f in config.forms if f in domain.values)

    def scales(self, config: TunerConfig) -> tuple[Scale, ...]:
        """The scales that the slot allows for a tuner."""
        if not config.scalable or "scale" not in self.leaves:
            return ("none",)
        return cast(tuple[Scale, ...], cast(Choice, self.leaves["scale"].domain).values)

    def patterns(self, config: TunerConfig) -> tuple[str, ...]:
        """The patterns of blocks to choose from; tuners that enter once enter at the first block."""
        return self.blocks if not config.once or self.blocks[0].isdigit() else ("first 1",)

    def smallest(self, variant: Variant) -> TunerConfig:
        """The variant's config at some legal size: legality never depends on the size."""
        options: dict[str, Value] = dict(variant.fixed)
        for name, leaf in self.option_leaves(variant).items():
            domain = leaf.domain
            options[name] = domain.values[0] if isinstance(domain, Choice) else domain.low
        return tuner_config(variant.kind, options, f"slot '{self.name}'")

    def choices(self, variant: Variant) -> dict[str, Leaf]:
        """What is chosen under a variant that places something, by key, in the order of choosing.

        Keys are "operation", the tuner's free options, "form", "scale" and "blocks"; a leaf of one value is
        no search variable.
        """
        config = self.smallest(variant)
        found = {"operation": Leaf(f"{self.name}.operation", Choice(self.operation_labels()))}
        found.update(self.option_leaves(variant))
        forms, form = self.forms(config), self.leaves.get("form")
        variable = form.variable if form is not None else f"{self.name}.form"
        if form is not None and form.domain.size != len(forms) > 1:
            variable = f"{variable}.{variant.label}"  # Optuna wants one set of choices a name
        found["form"] = Leaf(variable, Choice(forms))
        scales = Choice(cast(tuple[Value, ...], self.scales(config)))
        found["scale"] = Leaf(self.leaves["scale"].variable if "scale" in self.leaves else f"{self.name}.scale", scales)
        found["blocks"] = Leaf(self.blocks_variable, Choice(self.patterns(config)))
        return found

    def placements(self) -> Iterator[tuple[Variant, TunerConfig]]:
        """The variants that place something, each with a config."""
        for variant in self.variants:
            if variant.kind is not None:
                yield variant, self.smallest(variant)


def parse_slot(raw: Mapping[str, Any], shared: Mapping[str, Leaf], where: str) -> Slot:
    """A slot from its TOML table; every combination it allows is checked to be legal here."""
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
    own_blocks = "blocks" in raw or "blocks" not in shared
    patterns = tuple(
        _list(raw.get("blocks", "all"), "blocks", where) if own_blocks else cast(Choice, shared["blocks"].domain).values
    )
    for pattern in patterns:
        if patterns != (EACH,):
            block_sets.check_pattern(str(pattern), f"{where}, blocks")
    leaves = {k: v for k, v in shared.items() if k in options or k in ("form", "scale")}
    for key in raw:
        if key in options or key in ("form", "scale"):
            leaves[key] = Leaf(f"{name}.{key}", parse_domain(raw[key], f"{where}, {key}"))
    for key in ("form", "scale"):
        if key in leaves and not isinstance(leaves[key].domain, Choice):
            raise InputError(f"{where}, {key}", f"{key} is a list of choices", "a range")
    slot = Slot(name, variants, operations, patterns, f"{name}.blocks" if own_blocks else "blocks", leaves)
    _check(slot, where)
    return slot


def _check(slot: Slot, where: str) -> None:
    if "form" in slot.leaves:
        for form in cast(Choice, slot.leaves["form"].domain).values:
            if form not in FORMS[:3]:
                raise InputError(f"{where}, form", "form is parallel, sequential or mixed", f"'{form}'")
    for variant, config in slot.placements():
        if not slot.forms(config):
            raise InputError(f"{where}, form", f"a {config.label} has one of the forms listed", config.forms)
        _check_ends(variant, slot, where)
        for group in slot.operations:
            for operation in group:
                for form in slot.forms(config):
                    for scale in slot.scales(config):
                        Placement(operation, config, form, scale, (1,))


def _check_ends(variant: Variant, slot: Slot, where: str) -> None:
    """Build the tuner at every value of a choice, and at both ends of a range."""
    base = slot.smallest(variant).options()
    for name, leaf in slot.option_leaves(variant).items():
        domain = leaf.domain
        for value in domain.values if isinstance(domain, Choice) else (domain.low, domain.high):
            tuner_config(variant.kind, {**base, name: value}, f"{where}, {name}")


def _variant(raw: object, where: str) -> Variant:
    if raw == NONE:
        return Variant(None)
    table: dict[str, Any] = {"kind": raw} if isinstance(raw, str) else dict(cast(Mapping[str, Any], raw))
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
    return tuple(sorted(cast(list[Operation], group), key=OPERATIONS.index))


def _list(raw: object, key: str, where: str) -> list[Any]:
    if raw is None or raw == []:
        raise InputError(where, f"{key} is given", "nothing", f"Add {key}, a value or a list of values.")
    return raw if isinstance(raw, list) else [raw]
