"""Slots: a placement with sets where values would be, the part that a space is made of."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from utuning_search.designs import block_sets
from utuning_search.designs.spaces.domains import Choice, Value
from utuning_search.designs.spaces.offers import Group, Offer
from utuning_search.designs.spaces.variants import Leaf, Variant
from utuning_search.tuners import TunerConfig

EACH = "each"  # one slot a block
ANY = "any"  # one tuner, and a switch a block
ALONE = (EACH, ANY)
OWN_LEAVES = ("operation", "tuner", "blocks", "form", "scale")


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
    operations: tuple[Group, ...]
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

    @cached_property
    def tuner(self) -> Leaf:
        """The choice of a variant."""
        return Leaf(f"{self.name}.tuner", Choice(tuple(v.label for v in self.variants)))

    @cached_property
    def none(self) -> Variant | None:
        """The variant that places nothing, if it has one."""
        return next((v for v in self.variants if v.kind is None), None)

    @cached_property
    def has_bypass(self) -> bool:
        """Whether it can place a side network, beside which other slots place nothing."""
        return any(v.is_bypass for v in self.variants)

    @cached_property
    def offers(self) -> dict[str, Offer]:
        """The variants that place something, by label, each with what is left to choose."""
        placing = (v for v in self.variants if v.kind is not None)
        return {v.label: Offer(self.name, v, self.operations, self.leaves) for v in placing}

    def offers_of(self, kind: str) -> Sequence[Offer]:
        """Those of one kind of tuner."""
        return self._by_kind.get(kind, ())

    def variant(self, label: str) -> Variant:
        return next(v for v in self.variants if v.label == label)

    def at_block(self, block: int) -> "Slot":
        """The slot of one block, where `blocks` is "each"."""
        name = f"{block_sets.label(block)}.{self.name}"
        # Shared variables keep their names; the slot's own get the block's.
        leaves = {
            k: replace(v, variable=v.variable.replace(f"{self.name}.", f"{name}.", 1)) for k, v in self.leaves.items()
        }
        return replace(self, name=name, blocks=(str(block),), blocks_variable=f"{name}.blocks", leaves=leaves)

    def patterns(self, config: TunerConfig) -> tuple[str, ...]:
        """The patterns of blocks to choose from.

        A tuner that enters once enters at a listed single block; a pattern of several is its first block, 1.
        """
        if not config.once:
            return self.blocks
        return tuple(dict.fromkeys(p if block_sets.names_one(p) else "first 1" for p in self.blocks))

    def choices(self, offer: Offer, operation: str, depth: int) -> Mapping[str, Leaf]:
        """What is chosen of a variant once its operation is, by key, in the order of choosing.

        Patterns that name no block of a backbone of `depth` blocks, or the same ones as an earlier pattern,
        are no choices. Keys are the tuner's free options, "form", "scale" and "blocks", or instead of that one
        "block_01" a block; a leaf of one value is no search variable.
        """
        cell = (offer.variant.label, operation, depth)
        if cell not in self._choices:
            blocks = self.switches(depth) if self.switched else {"blocks": self._pattern_leaf(offer, depth)}
            self._choices[cell] = {**offer.choices(operation), **blocks}
        return self._choices[cell]

    def _pattern_leaf(self, offer: Offer, depth: int) -> Leaf:
        where, variable = f"slot '{self.name}', blocks", self.blocks_variable
        patterns = block_sets.distinct(self.patterns(offer.config), depth, where)
        if offer.config.once and patterns != block_sets.distinct(self.blocks, depth, where):
            variable = f"{variable}.{offer.variant.label}"
        return Leaf(variable, Choice(patterns))

    def switches(self, depth: int) -> dict[str, Leaf]:
        """The on/off variable of each block, by "block_01" and so on; none where patterns choose the blocks."""
        if not self.switched:
            return {}
        prefix = self.blocks_variable.removesuffix("blocks")
        labels = (block_sets.label(b) for b in range(1, depth + 1))
        return {label: Leaf(f"{prefix}{label}", Choice((False, True))) for label in labels}

    def standing(self, chosen: Mapping[str, Value], depth: int) -> tuple[int, ...]:
        """The numbers of the blocks that chosen values name: those of a pattern, or those switched on."""
        if not self.switched:
            return block_sets.resolve(str(chosen["blocks"]), depth, self.name)
        return tuple(b for b in range(1, depth + 1) if chosen[block_sets.label(b)])

    def reach(self, offer: Offer, depth: int) -> frozenset[int]:
        """The blocks in which a variant can stand."""
        return frozenset(range(1, depth + 1)) if self.switched else self._named(offer, depth)[1]

    def naming(self, offer: Offer, blocks: Collection[int], depth: int) -> dict[str, Value] | None:
        """The choices by which a variant stands in just these blocks; None where there are none."""
        if self.switched:
            return {key: block in blocks for block, key in enumerate(self.switches(depth), start=1)}
        pattern = self._named(offer, depth)[0].get(frozenset(blocks))
        return None if pattern is None else {"blocks": pattern}

    def _named(self, offer: Offer, depth: int) -> tuple[dict[frozenset[int], str], frozenset[int]]:
        """The patterns of a variant by the blocks that they name, and all these blocks."""
        cell = (offer.variant.label, depth)
        if cell not in self._patterns:
            patterns = block_sets.distinct(self.patterns(offer.config), depth, self.name)
            named = {frozenset(block_sets.resolve(p, depth, self.name)): p for p in patterns}
            self._patterns[cell] = named, frozenset().union(*named)
        return self._patterns[cell]

    @cached_property
    def _by_kind(self) -> dict[str, list[Offer]]:
        found: dict[str, list[Offer]] = {}
        for offer in self.offers.values():
            found.setdefault(offer.config.kind, []).append(offer)
        return found

    @cached_property
    def _choices(self) -> dict[tuple[str, str, int], Mapping[str, Leaf]]:
        """What `choices` found, by variant, operation and depth: a study asks for it with every trial."""
        return {}

    @cached_property
    def _patterns(self) -> dict[tuple[str, int], tuple[dict[frozenset[int], str], frozenset[int]]]:
        """What `_named` found, by variant and depth."""
        return {}


def side_slot(slots: Iterable[Slot]) -> Slot | None:
    """The one slot that can place a bypass; its tuner is chosen first."""
    return next((slot for slot in slots if slot.has_bypass), None)
