"""Spaces: a design with sets where values would be, written as TOML."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from utuning_search import blocks as block_sets
from utuning_search import resources
from utuning_search.design import Design, Placement
from utuning_search.domains import Choice, Domain, Suggester, Value, parse_domain
from utuning_search.errors import InputError, refuse_unknown_keys
from utuning_search.membership import explain
from utuning_search.presets import Preset, preset
from utuning_search.slots import EACH, Leaf, Slot, Variant, parse_slot
from utuning_search.tuners import Form, Scale, tuner_config

KEYS = ("name", "description", "presets", "learning_rate", "shared", "slots")
SHARED_KEYS = ("blocks", "form", "scale", "rank", "length", "activation")
DIGITS = 1  # significant digits of a learning rate: finer ones only hide that two designs are the same


@dataclass(frozen=True)
class Variable:
    """One search variable, as Optuna sees it."""

    name: str
    domain: Domain
    exists_if: str


@dataclass(frozen=True)
class Space:
    """A set of designs.

    Attributes:
        name: Of the file, or as given in it.
        description: What it covers, in a sentence.
        presets: Known methods that lie in it and are tried first.
        slots: Placements with sets.
        learning_rate: The range of the peak learning rate; None leaves it to the task.
        raw: The TOML tables it was read from.
    """

    name: str
    description: str
    presets: tuple[Preset, ...]
    slots: tuple[Slot, ...]
    learning_rate: Domain | None
    raw: Mapping[str, Any]

    @classmethod
    def load(cls, name: str) -> "Space":
        """A bundled space by name, or one's own from a path that ends in .toml."""
        path = resources.find("space", name)
        return cls.from_dict(resources.read_toml(path), str(path) if name.endswith(".toml") else f"space '{name}'")

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], where: str = "space") -> "Space":
        refuse_unknown_keys(raw, KEYS, where)
        name = raw.get("name")
        if not isinstance(name, str) or not name.replace("_", "").replace("-", "").isalnum():
            raise InputError(where, "name is a word of letters, digits, - and _", repr(name))
        shared_raw = raw.get("shared", {})
        refuse_unknown_keys(shared_raw, SHARED_KEYS, f"{where}, shared")
        shared = {k: Leaf(k, parse_domain(v, f"{where}, shared.{k}")) for k, v in shared_raw.items()}
        rate = raw.get("learning_rate")
        slots = tuple(parse_slot(s, shared, f"{where}, slot") for s in raw.get("slots", []))
        names = [s.name for s in slots]
        if not slots or len(set(names)) < len(names):
            raise InputError(where, "it has slots, each with a name of its own", names or "none")
        return cls(
            name=name,
            description=str(raw.get("description", "")),
            presets=tuple(preset(p) for p in raw.get("presets", [])),
            slots=slots,
            learning_rate=None if rate is None else parse_domain(rate, f"{where}, learning_rate"),
            raw=raw,
        )

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits of everything that decides what the space holds."""
        content = {k: v for k, v in self.raw.items() if k != "description"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def slots_at(self, depth: int) -> tuple[Slot, ...]:
        """The slots for a backbone of `depth` blocks, with "each" expanded into one slot a block."""
        found: list[Slot] = []
        for slot in self.slots:
            found += [slot.at_block(b) for b in range(1, depth + 1)] if slot.blocks == (EACH,) else [slot]
        return tuple(found)

    def suggest(self, trial: Suggester, depth: int, learning_rate: float) -> Design:
        """A design chosen by an Optuna trial.

        Args:
            trial: Anything with Optuna's suggest methods.
            depth: Of the backbone.
            learning_rate: The task's, which stands where the space has no range for it.
        """

        def choose(leaf: Leaf) -> Value:
            return leaf.domain.suggest(trial, leaf.variable)

        placements: list[Placement] = []
        for slot in self.slots_at(depth):
            labels = tuple(v.label for v in slot.variants)
            variant = slot.variant(str(choose(Leaf(f"{slot.name}.tuner", Choice(labels)))))
            if variant.kind is not None:
                placements += [p.resolve(depth) for p in _place(slot, variant, choose)]
        if self.learning_rate is not None:
            learning_rate = float(choose(Leaf("learning_rate", self.learning_rate)))
        return Design(tuple(placements), _rounded(learning_rate))

    def preset_designs(self, depth: int, learning_rate: float) -> dict[str, Design]:
        """The presets of the space at the task's learning rate, which is moved into the space's range if need be."""
        rate = learning_rate
        if self.learning_rate is not None and not self.learning_rate.contains(rate):
            domain = self.learning_rate
            ends = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
            rate = min((float(v) for v in ends), key=lambda v: abs(math.log(v / learning_rate)))
        return {p.name: Design(p.placements(), _rounded(rate)).resolve(depth) for p in self.presets}

    def contains(self, design: Design, depth: int) -> bool:
        return self.params_of(design, depth) is not None

    def params_of(self, design: Design, depth: int) -> dict[str, Value] | None:
        """Values of the search variables that give `design`; None where the space does not hold it."""
        from_rate: dict[str, Value] = {}
        if self.learning_rate is not None and design.learning_rate is not None:
            if not self.learning_rate.contains(design.learning_rate):
                return None
            if self.learning_rate.size != 1:
                from_rate["learning_rate"] = design.learning_rate
        found = explain(self.slots_at(depth), design.resolve(depth), depth)
        return None if found is None else {**found, **from_rate}

    def variables(self, depth: int) -> tuple[Variable, ...]:
        """Every search variable that can exist for a backbone of `depth` blocks, with the condition for it."""
        found: dict[str, Variable] = {}

        def note(name: str, domain: Domain, condition: str) -> None:
            if domain.size == 1:
                return
            before = found.get(name)
            if before is not None and condition not in before.exists_if:
                condition = f"{before.exists_if}; {condition}"
            found[name] = Variable(name, domain, before.exists_if if before and not condition else condition)

        for slot in self.slots_at(depth):
            note(f"{slot.name}.tuner", Choice(tuple(v.label for v in slot.variants)), "always")
            for variant, _ in slot.placements():
                for leaf in slot.choices(variant).values():
                    note(leaf.variable, leaf.domain, f"{slot.name}.tuner = {variant.label}")
        if self.learning_rate is not None:
            note("learning_rate", self.learning_rate, "always")
        return tuple(found.values())

    def size(self, depth: int) -> int:
        """Exact number of designs for a backbone of `depth` blocks, learning rates apart.

        Shared variables are counted only for designs that use them. Slots are taken to have operations of
        their own, as they do in every bundled space; otherwise this counts choices rather than designs.
        """
        totals: dict[frozenset[str], int] = {frozenset(): 1}
        shared: dict[str, int] = {}
        for slot in self.slots_at(depth):
            counts = _count(slot, depth, shared)
            merged: dict[frozenset[str], int] = {}
            for used_a, a in totals.items():
                for used_b, b in counts.items():
                    merged[used_a | used_b] = merged.get(used_a | used_b, 0) + a * b
            totals = merged
        return sum(n * math.prod(shared[v] for v in used) for used, n in totals.items())


def _place(slot: Slot, variant: Variant, choose: Callable[[Leaf], Value]) -> list[Placement]:
    chosen = {key: choose(leaf) for key, leaf in slot.choices(variant).items()}
    options = {**dict(variant.fixed), **{k: chosen[k] for k in slot.option_leaves(variant)}}
    config = tuner_config(variant.kind, options, f"slot '{slot.name}'")
    group = slot.operations[slot.operation_labels().index(str(chosen["operation"]))]
    form, scale = cast(Form, chosen["form"]), cast(Scale, chosen["scale"])
    return [Placement(operation, config, form, scale, str(chosen["blocks"])) for operation in group]


def _count(slot: Slot, depth: int, shared: dict[str, int]) -> dict[frozenset[str], int]:
    """Number of choices of a slot's own variables, by the set of shared variables that they bring into play."""
    counts: dict[frozenset[str], int] = {}
    for variant in slot.variants:
        own, used = 1, set()
        for key, leaf in slot.choices(variant).items() if variant.kind is not None else ():
            size = leaf.domain.size
            if key == "blocks":  # patterns that name the same blocks at this depth are one choice
                patterns = cast(Choice, leaf.domain).values
                size = len({block_sets.resolve(str(p), depth, slot.name) for p in patterns})
            if size is None:
                raise InputError(f"slot '{slot.name}'", "the values of an option can be counted", leaf.variable)
            if leaf.variable.startswith(f"{slot.name}."):
                own *= size
            elif size > 1:
                used.add(leaf.variable)
                shared[leaf.variable] = size
        counts[frozenset(used)] = counts.get(frozenset(used), 0) + own
    return counts


def _rounded(rate: float) -> float:
    return float(f"{rate:.{DIGITS}g}")
