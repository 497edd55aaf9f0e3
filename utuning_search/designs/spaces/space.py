"""Spaces: a design with sets where values would be, written as TOML."""

import hashlib
import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

from utuning_search.common import bundled
from utuning_search.common.errors import InputError, nearest, refuse_unknown_keys
from utuning_search.common.toml import read_toml
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.legality import misplaced
from utuning_search.designs.presets import Preset, preset
from utuning_search.designs.spaces.checks import refuse_bypasses, refuse_equal_tuners
from utuning_search.designs.spaces.domains import Choice, Domain, Suggester, Value
from utuning_search.designs.spaces.encoding import explain
from utuning_search.designs.spaces.learning_rates import parse_rates, rounded
from utuning_search.designs.spaces.narrowing import narrowed
from utuning_search.designs.spaces.offers import Offer
from utuning_search.designs.spaces.parsing import parse_leaf, parse_slot
from utuning_search.designs.spaces.sizing import number_of_designs
from utuning_search.designs.spaces.slot import EACH, Slot, side_slot
from utuning_search.designs.spaces.variables import Variable, search_variables
from utuning_search.designs.spaces.variants import Leaf
from utuning_search.tuners import BackboneShape, Form, Reference, Scale, tuner_config
from utuning_search.tuners import references as papers

KEYS = ("name", "description", "reference", "presets", "learning_rate", "shared", "slots")
TELLING = ("description", "reference")  # what decides nothing
KEPT = 8192  # designs, at any rate, whose values are kept
SHARED_KEYS = ("blocks", "form", "scale", "rank", "length", "activation")
PAPERS = {paper.arxiv: paper for paper in vars(papers).values() if isinstance(paper, Reference)}


@dataclass(frozen=True)
class Space:
    """A set of designs.

    Attributes:
        name: Of the file, or as given in it.
        description: What it covers, in a sentence.
        presets: Known methods that lie in it and are tried first.
        slots: Placements with sets.
        learning_rate: The range of the peak learning rate, or listed ones; None leaves it to the task.
        raw: The TOML tables it was read from.
        reference: The paper whose space it is; None for one's own.
    """

    name: str
    description: str
    presets: tuple[Preset, ...]
    slots: tuple[Slot, ...]
    learning_rate: Domain | None
    raw: Mapping[str, Any]
    reference: Reference | None = None

    @classmethod
    def load(cls, name: str) -> "Space":
        """A bundled space by name, or one's own from a path that ends in .toml."""
        path = bundled.find("space", name)
        return cls.from_dict(read_toml(path), str(path) if name.endswith(".toml") else f"space '{name}'")

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], where: str = "space") -> "Space":
        if not isinstance(raw, Mapping):
            raise InputError(where, "a space is a table", repr(raw))
        refuse_unknown_keys(raw, KEYS, where)
        name = raw.get("name")
        if not isinstance(name, str) or not name.replace("_", "").replace("-", "").isalnum():
            raise InputError(where, "name is a word of letters, digits, - and _", repr(name))
        shared_raw, slots_raw, presets = raw.get("shared", {}), raw.get("slots", []), raw.get("presets", [])
        if not isinstance(shared_raw, Mapping):
            raise InputError(f"{where}, shared", "shared is a table", repr(shared_raw))
        if not isinstance(slots_raw, list):
            raise InputError(
                f"{where}, slots", "slots is a list of tables", repr(slots_raw), "Write each as [[slots]]."
            )
        if not isinstance(presets, list) or not all(isinstance(p, str) for p in presets):
            raise InputError(f"{where}, presets", "presets is a list of names", repr(presets))
        refuse_unknown_keys(shared_raw, SHARED_KEYS, f"{where}, shared")
        shared = {k: Leaf(k, parse_leaf(k, v, f"{where}, shared.{k}")) for k, v in shared_raw.items()}
        rate = raw.get("learning_rate")
        slots = tuple(parse_slot(s, shared, f"{where}, slot") for s in slots_raw)
        names = [s.name for s in slots]
        if not slots or len(set(names)) < len(names):
            raise InputError(where, "it has slots, each with a name of its own", names or "none")
        refuse_equal_tuners(slots, where)
        refuse_bypasses(slots, where)
        return cls(
            name=name,
            description=str(raw.get("description", "")),
            presets=tuple(preset(p) for p in presets),
            slots=slots,
            learning_rate=None if rate is None else parse_rates(rate, f"{where}, learning_rate"),
            raw=raw,
            reference=_parse_reference(raw.get("reference"), f"{where}, reference"),
        )

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits of everything that decides what the space holds."""
        content = {k: v for k, v in self.raw.items() if k not in TELLING}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def on(self, shape: BackboneShape) -> "Space":
        """The space without what a backbone cannot carry; itself where that can carry everything.

        Raises:
            InputError: Nothing is left.
        """
        slots = narrowed(self.slots, shape)
        presets = tuple(p for p in self.presets if misplaced(Design(p.placements()), shape) is None)
        if len(slots) == len(self.slots) and all(a is b for a, b in zip(slots, self.slots, strict=True)):
            return self if presets == self.presets else replace(self, presets=presets)
        if not slots:
            todo = "Take another space or backbone."
            raise InputError(f"space '{self.name}'", "the backbone can carry some of its tuners", "none", todo)
        return replace(self, slots=slots, presets=presets)

    def slots_at(self, depth: int) -> tuple[Slot, ...]:
        """The slots for a backbone of `depth` blocks, with "each" expanded into one slot a block."""
        if depth not in self._slots_at:
            found: list[Slot] = []
            for slot in self.slots:
                found += [slot.at_block(b) for b in range(1, depth + 1)] if slot.blocks == (EACH,) else [slot]
            self._slots_at[depth] = tuple(found)
        return self._slots_at[depth]

    @cached_property
    def _slots_at(self) -> dict[int, tuple[Slot, ...]]:
        """What `slots_at` found, by depth."""
        return {}

    def suggest(self, trial: Suggester, depth: int, learning_rate: float) -> Design:
        """A design chosen by an Optuna trial.

        Args:
            trial: Anything with Optuna's suggest methods.
            depth: Of the backbone.
            learning_rate: The task's, which stands where the space has no range for it.
        """

        def choose(leaf: Leaf) -> Value:
            return leaf.domain.suggest(trial, leaf.variable)

        slots = self.slots_at(depth)
        side = side_slot(slots)
        first = None if side is None else str(choose(side.tuner))
        if side is not None and side.variant(str(first)).is_bypass:
            slots = (side,)  # it stands alone: nothing is chosen elsewhere
        placements: list[Placement] = []
        for slot in slots:
            offer = slot.offers.get(str(first if slot is side else choose(slot.tuner)))
            if offer is not None:
                placements += _place(slot, offer, depth, choose)
        if self.learning_rate is not None:
            chosen = choose(Leaf("learning_rate", self.learning_rate))
            learning_rate = float(self.trained("learning_rate", chosen))
        return Design(tuple(placements), learning_rate)

    def trained(self, variable: str, value: Value) -> Value:
        """The value of a search variable that a design has where `value` was suggested: rates have few digits."""
        if variable != "learning_rate" or self.learning_rate is None:
            return value
        return rounded(float(value), self.learning_rate)

    def preset_designs(self, depth: int, learning_rate: float) -> dict[str, Design]:
        """The presets of the space, at `preset_rate`."""
        rate = self.preset_rate(learning_rate)
        return {p.name: Design(p.placements(), rate).resolve(depth) for p in self.presets}

    def preset_rate(self, learning_rate: float) -> float:
        """The learning rate of known methods: the task's, moved into the space's range if need be."""
        rate, domain = float(learning_rate), self.learning_rate
        if domain is None:
            return rate
        if not domain.contains(rate):
            ends = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
            wanted = math.log(min(max(rate, sys.float_info.min), sys.float_info.max))
            rate = min((float(v) for v in ends), key=lambda v: abs(math.log(v) - wanted))
        return rounded(rate, domain)

    def contains(self, design: Design, depth: int) -> bool:
        return self.params_of(design, depth) is not None

    def params_of(self, design: Design, depth: int) -> dict[str, Value] | None:
        """Values of the search variables that give `design`; None where the space does not hold it."""
        from_rate: dict[str, Value] = {}
        if self.learning_rate is not None and design.learning_rate is not None:
            domain, rate = self.learning_rate, design.learning_rate
            if not domain.contains(rate) or rounded(rate, domain) != rate:
                return None
            if self.learning_rate.size != 1:
                from_rate["learning_rate"] = design.learning_rate
        found = self._explain(design.resolve(depth), depth)
        return None if found is None else {**found, **from_rate}

    def _explain(self, design: Design, depth: int) -> Mapping[str, Value] | None:
        """Values of the slots' variables; kept, because a search asks for those of good designs again and again."""
        asked = design.placements, depth
        if asked not in self._explained:
            if len(self._explained) >= KEPT:
                self._explained.clear()
            self._explained[asked] = explain(self.slots_at(depth), design, depth)
        return self._explained[asked]

    @cached_property
    def _explained(self) -> dict[tuple[tuple[Placement, ...], int], Mapping[str, Value] | None]:
        """What `_explain` found."""
        return {}

    def variables(self, depth: int) -> tuple[Variable, ...]:
        """Every search variable that can exist for a backbone of `depth` blocks, with the condition for it."""
        if depth not in self._variables:
            self._variables[depth] = search_variables(self.slots_at(depth), depth, self.learning_rate)
        return self._variables[depth]

    @cached_property
    def _variables(self) -> dict[int, tuple[Variable, ...]]:
        """What `variables` found, by depth."""
        return {}

    def size(self, depth: int) -> int:
        """Exact number of designs for a backbone of `depth` blocks, learning rates apart.

        Shared variables are counted only for designs that use them, and what places nothing is counted once,
        whether a tuner of "none" or a row of switches that are off says so.
        """
        return number_of_designs(self.slots_at(depth), depth)


def _place(slot: Slot, offer: Offer, depth: int, choose: Callable[[Leaf], Value]) -> list[Placement]:
    operation = str(choose(offer.operation))
    chosen = {key: choose(leaf) for key, leaf in slot.choices(offer, operation, depth).items()}
    options = {**dict(offer.variant.fixed), **{k: chosen[k] for k in offer.options}}
    config = tuner_config(offer.variant.kind, options, f"slot '{slot.name}'")
    form, scale = cast(Form, chosen["form"]), cast(Scale, chosen["scale"])
    blocks = slot.standing(chosen, depth)
    return [Placement(at, config, form, scale, blocks) for at in offer.group(operation)] if blocks else []


def _parse_reference(raw: object, where: str) -> Reference | None:
    """The paper of an arXiv identifier, one of those that tuners and presets cite."""
    if raw is None:
        return None
    if not isinstance(raw, str) or raw not in PAPERS:
        todo = nearest(raw, PAPERS) if isinstance(raw, str) else "Write it as text."
        raise InputError(where, "it is the arXiv identifier of a paper that the package cites", repr(raw), todo)
    return PAPERS[raw]
