"""Slots: a placement with sets where values would be, the part that a space is made of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import cast

from utuning_search.designs import block_sets
from utuning_search.designs.spaces.domains import Choice, Domain, Value
from utuning_search.tuners import Form, Operation, Scale, TunerConfig, tuner_class, tuner_config

NONE = "none"
EACH = "each"  # one slot a block
ANY = "any"  # one tuner, and a switch a block
ALONE = (EACH, ANY)
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
        blocks: Patterns, or a single block's number once `each` is expanded, or ("any",): the tuner stands in the
            blocks whose switches are on, and in none where all are off.
        blocks_variable: Name of the variable that chooses the pattern; "blocks" where slots share it.
        leaves: Sets for `form`, `scale` and the tuners' options, shared ones included.
    """

    name: str
    variants: tuple[Variant, ...]
    operations: tuple[tuple[Operation, ...], ...]
    blocks: tuple[str, ...]
    blocks_variable: str
    leaves: Mapping[str, Leaf]

    @property
    def switched(self) -> bool:
        """Whether a switch a block says where the tuner stands, instead of a pattern."""
        return self.blocks == (ANY,)

    @property
    def shares_blocks(self) -> bool:
        """Whether the variables that choose its blocks are those of other slots too."""
        return self.blocks_variable == "blocks"

    def variant(self, label: str) -> Variant:
        return next(v for v in self.variants if v.label == label)

    def operation_labels(self) -> tuple[str, ...]:
        return tuple("+".join(group) for group in self.operations)

    def at_block(self, block: int) -> "Slot":
        """The slot of one block, where `blocks` is "each"."""
        name = f"{block_sets.label(block)}.{self.name}"
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
        """The patterns of blocks to choose from.

        A tuner that enters once enters at a listed single block; a pattern of several is its first block, 1.
        """
        if not config.once:
            return self.blocks
        return tuple(dict.fromkeys(p if block_sets.names_one(p) else "first 1" for p in self.blocks))

    def smallest(self, variant: Variant) -> TunerConfig:
        """The variant's config at some legal size: legality never depends on the size."""
        options: dict[str, Value] = dict(variant.fixed)
        for name, leaf in self.option_leaves(variant).items():
            domain = leaf.domain
            options[name] = domain.values[0] if isinstance(domain, Choice) else domain.low
        return tuner_config(variant.kind, options, f"slot '{self.name}'")

    def choices(self, variant: Variant, depth: int) -> Mapping[str, Leaf]:
        """What is chosen under a variant that places something, by key, in the order of choosing.

        Patterns that name no block of a backbone of `depth` blocks, or the same ones as an earlier pattern,
        are no choices. Keys are "operation", the tuner's free options, "form", "scale" and "blocks", or instead of
        that one "block_01" a block; a leaf of one value is no search variable.
        """
        known = self._choices.get((variant.label, depth))
        if known is not None:
            return known
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
        found.update(self.switches(depth) if self.switched else {"blocks": self._pattern_leaf(variant, config, depth)})
        self._choices[variant.label, depth] = found
        return found

    def _pattern_leaf(self, variant: Variant, config: TunerConfig, depth: int) -> Leaf:
        where, variable = f"slot '{self.name}', blocks", self.blocks_variable
        patterns = block_sets.distinct(self.patterns(config), depth, where)
        if config.once and patterns != block_sets.distinct(self.blocks, depth, where):
            variable = f"{variable}.{variant.label}"
        return Leaf(variable, Choice(patterns))

    def switches(self, depth: int) -> dict[str, Leaf]:
        """The on/off variable of each block, by "block_01" and so on; none where patterns choose the blocks."""
        if not self.switched:
            return {}
        prefix = self.blocks_variable.removesuffix("blocks")
        labels = (block_sets.label(b) for b in range(1, depth + 1))
        return {label: Leaf(f"{prefix}{label}", Choice((False, True))) for label in labels}

    def standing(self, chosen: Mapping[str, Value], depth: int) -> str | tuple[int, ...]:
        """The blocks that chosen values name: a pattern, or the numbers of those switched on."""
        if not self.switched:
            return str(chosen["blocks"])
        return tuple(b for b in range(1, depth + 1) if chosen[block_sets.label(b)])

    @cached_property
    def _choices(self) -> dict[tuple[str, int], Mapping[str, Leaf]]:
        """What `choices` found, by variant and depth: a study asks for it with every trial."""
        return {}

    def placements(self) -> Iterator[tuple[Variant, TunerConfig]]:
        """The variants that place something, each with a config."""
        for variant in self.variants:
            if variant.kind is not None:
                yield variant, self.smallest(variant)
