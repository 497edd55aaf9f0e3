"""Designs: which tuners, at which operations, in which form, how large, in which blocks."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from utuning_search.common.errors import InputError, refuse_unknown_keys
from utuning_search.designs import keys
from utuning_search.designs.placement import Placement
from utuning_search.designs.presets import preset
from utuning_search.tuners import OPERATIONS, BackboneShape, Reference

__all__ = ["Design", "Placement"]


@dataclass(frozen=True)
class Design:
    """A set of placements, and the learning rate where the search chose it. The head is always trained.

    Placements are kept in canonical form: sorted, and those alike but for their blocks joined. So equal
    designs are equal objects with equal keys, however they were written.

    Args:
        placements: Any order; empty for a linear probe.
        learning_rate: Peak learning rate; None takes the task's.
    """

    placements: tuple[Placement, ...] = ()
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "placements", _canonical(self.placements))
        if self.learning_rate is not None:
            object.__setattr__(self, "learning_rate", _checked(self.learning_rate))
        if self.is_bypass and any(p.form != "bypass" for p in self.placements):
            todo = "A bypass reads detached activations, so tuners in the stream would get no gradient."
            raise InputError("design", "a bypass stands alone", str(self), todo)
        sides = [b for p in self.placements if p.form == "bypass" and not isinstance(p.blocks, str) for b in p.blocks]
        if len(set(sides)) < len(sides):
            raise InputError("design", "a block has one bypass", str(self), "Give it one size.")

    @classmethod
    def preset(cls, name: str, *, learning_rate: float | None = None, **options: Any) -> "Design":
        """A published method, at its published setting but for `options`: `Design.preset("adapter-plus", rank=4)`.

        Raises:
            InputError: An unknown name or option (with the nearest known one), or an illegal value.
        """
        return cls(preset(name).placements(**options), learning_rate)

    @property
    def is_bypass(self) -> bool:
        """Whether it is a side network, which reads the backbone's activations and never changes them."""
        return any(p.form == "bypass" for p in self.placements)

    def at_rate(self, rate: float) -> "Design":
        """The same placements at a learning rate."""
        # They are in canonical form already, and finding that takes most of the time of making a design.
        found = object.__new__(type(self))
        for field in fields(self):
            object.__setattr__(found, field.name, getattr(self, field.name))
        object.__setattr__(found, "learning_rate", _checked(rate))
        return found

    def resolve(self, depth: int) -> "Design":
        """The same design with every pattern of blocks replaced by numbers."""
        resolved = tuple(p.resolve(depth) for p in self.placements)
        return self if resolved == self.placements else replace(self, placements=resolved)

    @cached_property
    def key(self) -> str:
        """Twelve hexadecimal digits that are equal for equal designs, in this version and in later ones."""
        return keys.key(self)

    def __hash__(self) -> int:
        """Found once: searches look designs up again and again."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.placements, self.learning_rate))

    def __getstate__(self) -> dict[str, Any]:
        """Without the hash, which is another one in each process."""
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}

    @property
    def starts_as_backbone(self) -> bool:
        """Whether the fresh design computes exactly what the bare backbone computes."""
        return all(p.starts_at_zero for p in self.placements)

    @property
    def references(self) -> tuple[Reference, ...]:
        """The papers of its tuners, each once."""
        return tuple(dict.fromkeys(r for p in self.placements for r in p.references))

    def num_parameters(self, shape: BackboneShape, num_classes: int | None = None) -> int:
        """Closed-form number of trainable parameters: of the tuners, plus a linear head's if `num_classes` is given."""
        head = 0 if num_classes is None else (shape.num_features + 1) * num_classes
        return sum(p.num_parameters(shape) for p in self.placements) + self._num_shared(shape) + head

    def _num_shared(self, shape: BackboneShape) -> int:
        """What tuners of equal config and width share, counted once."""
        found: dict[str, int] = {}
        for p in self.placements:
            blocks = p.resolve(shape.depth).block_numbers() if shape.stages else (1,)
            for site in (site for at in dict.fromkeys(p.at(shape, b) for b in blocks) for site in p.sites(at)):
                name = p.tuner.shared_name(site)
                if name is not None:
                    found[name] = p.tuner.num_shared(site)
        return sum(found.values())

    def to_dict(self) -> dict[str, Any]:
        table: dict[str, Any] = {} if self.learning_rate is None else {"learning_rate": self.learning_rate}
        return {**table, "placements": [p.to_dict() for p in self.placements]}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], where: str = "design") -> "Design":
        refuse_unknown_keys(table, ("learning_rate", "placements"), where)
        rows = table.get("placements", [])
        if not isinstance(rows, (list, tuple)) or not all(isinstance(row, Mapping) for row in rows):
            raise InputError(where, "placements is a list of tables", repr(rows))
        placements = tuple(Placement.from_dict(row, f"{where}, placement {i + 1}") for i, row in enumerate(rows))
        return cls(placements, table.get("learning_rate"))

    def __str__(self) -> str:
        parts = [str(p) for p in self.placements] or ["linear probe"]
        return "; ".join(parts if self.learning_rate is None else [*parts, f"lr {self.learning_rate:g}"])


def _checked(rate: object) -> float:
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < 1e3:
        raise InputError("design", "learning_rate is a number above 0", repr(rate))
    return float(rate)


def _canonical(placements: Iterable[Placement]) -> tuple[Placement, ...]:
    joined: list[Placement] = []
    groups: dict[object, list[Placement]] = {}
    for p in placements:
        if isinstance(p.blocks, str):  # patterns are compared once they are resolved
            joined.append(p)
        else:
            groups.setdefault((p.operation, p.tuner, p.form, p.scale), []).append(p)
    for group in groups.values():
        numbers = [block for p in group for block in p.block_numbers()]
        if len(set(numbers)) < len(numbers):
            todo = "Join them, or give one a larger size."
            raise InputError("design", "equal tuners at one operation are placed in a block once", str(group[-1]), todo)
        alone = len(group) == 1 or group[0].tuner.once
        joined += group if alone else [replace(group[0], blocks=tuple(numbers))]
    texts = [(OPERATIONS.index(p.operation), str(p), "") for p in joined]
    if len(set(texts)) < len(texts):  # tables, which take longer, tell apart what reads the same
        texts = [(at, text, json.dumps(p.to_dict())) for (at, text, _), p in zip(texts, joined, strict=True)]
    return tuple(joined[i] for i in sorted(range(len(joined)), key=texts.__getitem__))
