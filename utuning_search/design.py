"""Designs: which tuners, at which operations, in which form, how large, in which blocks."""

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from utuning_search import blocks as block_sets
from utuning_search.errors import InputError, nearest, refuse_unknown_keys
from utuning_search.tuners import (
    FORMS,
    LEARNED_SCALES,
    OPERATIONS,
    BackboneShape,
    Form,
    Operation,
    Reference,
    Scale,
    Site,
    TunerConfig,
    tuner_class,
    tuner_config,
)

PLACEMENT_KEYS = ("operation", "tuner", "form", "scale", "blocks")


@dataclass(frozen=True)
class Placement:
    """One tuner, of one size and form, at one operation, in a set of blocks.

    Args:
        operation: The frozen operation it is added to.
        tuner: Its kind and size.
        form: "parallel", "sequential" or "mixed"; "inside" for tuners that change the operation from
            within. None takes the tuner's customary form.
        scale: "none", "scalar" (learned), "channel" (learned, one a channel) or a constant.
        blocks: A pattern such as "all" or "last 1/2", or block numbers from 1.

    Raises:
        InputError: The combination is not legal.
    """

    operation: Operation
    tuner: TunerConfig
    form: Form | None = None
    scale: Scale = "none"
    blocks: str | tuple[int, ...] = "all"

    def __post_init__(self) -> None:
        where = f"placement of '{self.tuner.kind}'"
        if self.operation not in OPERATIONS:
            raise InputError(
                where, "operation is a known one", f"'{self.operation}'", nearest(self.operation, OPERATIONS)
            )
        where = f"{where} at '{self.operation}'"
        if self.operation not in self.tuner.operations:
            legal = ", ".join(self.tuner.operations)
            raise InputError(where, f"a {self.tuner.label} is legal at: {legal}", f"'{self.operation}'")
        if self.form is None:
            object.__setattr__(self, "form", self.tuner.forms[0])
        if self.form not in self.tuner.forms:
            legal = ", ".join(self.tuner.forms)
            raise InputError(where, f"the form of a {self.tuner.label} is one of: {legal}", f"'{self.form}'")
        object.__setattr__(self, "scale", canonical_scale(self.scale, where))
        if self.scale != "none" and not self.tuner.scalable:
            raise InputError(where, f"a {self.tuner.label} has no scale", f"'{self.scale}'", "Leave scale out.")
        object.__setattr__(self, "blocks", _canonical_blocks(self.blocks, where))
        if self.tuner.once and not isinstance(self.blocks, str) and len(self.blocks) > 1:
            todo = 'Name one block, such as blocks = "first 1".'
            raise InputError(where, f"a {self.tuner.label} enters at one block and stays", list(self.blocks), todo)

    def resolve(self, depth: int) -> "Placement":
        """The same placement with block numbers instead of a pattern, checked against a depth."""
        where = f"placement of '{self.tuner.kind}' at '{self.operation}'"
        pattern = self.blocks if isinstance(self.blocks, str) else block_sets.text(self.blocks)
        return replace(self, blocks=block_sets.resolve(pattern, depth, where))

    def block_numbers(self) -> tuple[int, ...]:
        """The blocks from 1 ascending; an error where they are a pattern still."""
        if isinstance(self.blocks, str):
            raise InputError(
                "placement", "the design is resolved for a depth first", self.blocks, "Call resolve(depth)."
            )
        return self.blocks

    def sites(self, shape: BackboneShape) -> tuple[Site, ...]:
        """The site of each tuner module in one block: one, or in mixed form the parallel and the sequential one."""
        in_dim, out_dim = shape.widths(self.operation)
        first = out_dim if self.form == "sequential" else in_dim
        inputs = (in_dim, out_dim) if self.form == "mixed" else (first,)
        return tuple(Site(width, out_dim, shape.num_heads, shape.head_dim) for width in inputs)

    def num_parameters(self, shape: BackboneShape) -> int:
        """Closed-form number of trainable parameters over all its blocks."""
        one_block = sum(self.tuner.num_parameters(s) + _scale_size(self.scale, s) for s in self.sites(shape))
        return one_block * len(self.resolve(shape.depth).block_numbers())

    def to_dict(self) -> dict[str, Any]:
        blocks = self.blocks if isinstance(self.blocks, str) else block_sets.text(self.blocks)
        head = {"operation": self.operation, "tuner": self.tuner.kind, **self.tuner.options()}
        return {**head, "form": self.form, "scale": self.scale, "blocks": blocks}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], where: str = "placement") -> "Placement":
        for key in ("operation", "tuner"):
            if key not in table:
                raise InputError(where, f"{key} is given", "nothing", f"Add {key}.")
        form = table.get("form")
        if form is not None and form not in FORMS:
            raise InputError(where, "form is a known one", repr(form), nearest(form, FORMS))
        known = {f.name for f in fields(tuner_class(table["tuner"], where))}
        refuse_unknown_keys(table, (*PLACEMENT_KEYS, *known), f"{where}, tuner '{table['tuner']}'")
        tuner = tuner_config(table["tuner"], {k: v for k, v in table.items() if k in known}, where)
        return cls(table["operation"], tuner, form, table.get("scale", "none"), table.get("blocks", "all"))

    def __str__(self) -> str:
        form = "" if self.form == "inside" or self.tuner.forms == (self.form,) else f"{self.form} "
        size = f" {self.tuner.size_label}" if self.tuner.size_label else ""
        scale = (
            "" if self.scale == "none" else f" ×{self.scale:g}" if isinstance(self.scale, float) else f" ×{self.scale}"
        )
        if isinstance(self.blocks, str):
            where = f"blocks {self.blocks}"
        else:
            where = f"block{'s' if len(self.blocks) > 1 else ''} {block_sets.text(self.blocks)}"
        return f"{self.operation}: {form}{self.tuner.label}{size}{scale}, {where}"


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
        rate = self.learning_rate
        if rate is not None:
            if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < 1e3:
                raise InputError("design", "learning_rate is a number above 0", repr(rate))
            object.__setattr__(self, "learning_rate", float(rate))

    def resolve(self, depth: int) -> "Design":
        """The same design with every pattern of blocks replaced by numbers."""
        return replace(self, placements=tuple(p.resolve(depth) for p in self.placements))

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that are equal for equal designs."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def starts_as_backbone(self) -> bool:
        """Whether the fresh design computes exactly what the bare backbone computes."""
        return all(p.tuner.starts_at_zero or p.scale in LEARNED_SCALES for p in self.placements)

    @property
    def references(self) -> tuple[Reference, ...]:
        """The papers of its tuners, each once."""
        return tuple(dict.fromkeys(r for p in self.placements for r in p.tuner.references))

    def num_parameters(self, shape: BackboneShape, num_classes: int | None = None) -> int:
        """Closed-form number of trainable parameters: of the tuners, plus a linear head's if `num_classes` is given."""
        head = 0 if num_classes is None else (shape.dim + 1) * num_classes
        return sum(p.num_parameters(shape) for p in self.placements) + head

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
        joined += group if group[0].tuner.once else [replace(group[0], blocks=tuple(numbers))]
    return tuple(sorted(joined, key=lambda p: (OPERATIONS.index(p.operation), str(p), json.dumps(p.to_dict()))))


def _canonical_blocks(blocks: object, where: str) -> str | tuple[int, ...]:
    """Sorted numbers, or a pattern that needs a depth."""
    if isinstance(blocks, str):
        block_sets.check_pattern(blocks, where)
        return block_sets.explicit(blocks) or blocks
    if not isinstance(blocks, (list, tuple)) or not all(type(b) is int and b >= 1 for b in blocks) or not blocks:
        raise InputError(where, "blocks is a pattern, or a non-empty list of numbers from 1", repr(blocks))
    return tuple(sorted(set(blocks)))


def canonical_scale(scale: object, where: str) -> Scale:
    """The one spelling of a scale: constants are floats, and a constant of 1 is "none"."""
    if isinstance(scale, str) and scale in ("none", *LEARNED_SCALES):
        return cast(Scale, scale)
    if isinstance(scale, (int, float)) and not isinstance(scale, bool) and 0 < abs(scale) <= sys.float_info.max:
        return "none" if scale == 1 else float(scale)
    raise InputError(where, 'scale is "none", "scalar", "channel" or a constant other than 0', repr(scale))


def _scale_size(scale: Scale, site: Site) -> int:
    return {"scalar": 1, "channel": site.out_dim}.get(scale, 0) if isinstance(scale, str) else 0
