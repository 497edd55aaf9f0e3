"""Designs: which tuners, at which operations, in which form, how large, in which blocks."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
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
            raise InputError(where, "operation is a known one", f"'{self.operation}'", nearest(self.operation, OPERATIONS))
        where = f"{where} at '{self.operation}'"
        if self.operation not in self.tuner.operations:
            legal = ", ".join(self.tuner.operations)
            raise InputError(where, f"a {self.tuner.label} is legal at: {legal}", f"'{self.operation}'")
        if self.form is None:
            object.__setattr__(self, "form", self.tuner.forms[0])
        if self.form not in self.tuner.forms:
            legal = ", ".join(self.tuner.forms)
            raise InputError(where, f"the form of a {self.tuner.label} is one of: {legal}", f"'{self.form}'")
        object.__setattr__(self, "scale", _canonical_scale(self.scale, where))
        if self.scale != "none" and not self.tuner.scalable:
            raise InputError(where, f"a {self.tuner.label} has no scale", f"'{self.scale}'", "Leave scale out.")
        if isinstance(self.blocks, str):
            block_sets.check_pattern(self.blocks, where)
        else:
            object.__setattr__(self, "blocks", tuple(sorted(set(self.blocks))))
            if not self.blocks or cast(tuple[int, ...], self.blocks)[0] < 1:
                raise InputError(where, "blocks is a non-empty set of numbers from 1", list(self.blocks))
            if self.tuner.once and len(self.blocks) > 1:
                todo = "Name one block, such as blocks = \"first 1\"."
                raise InputError(where, f"a {self.tuner.label} enters at one block and stays", list(self.blocks), todo)

    def resolve(self, depth: int) -> "Placement":
        """The same placement with block numbers instead of a pattern, checked against a depth."""
        where = f"placement of '{self.tuner.kind}' at '{self.operation}'"
        pattern = self.blocks if isinstance(self.blocks, str) else block_sets.text(self.blocks)
        return replace(self, blocks=block_sets.resolve(pattern, depth, where))

    def block_numbers(self) -> tuple[int, ...]:
        """The blocks from 1 ascending; an error where they are a pattern still."""
        if isinstance(self.blocks, str):
            raise InputError("placement", "the design is resolved for a depth first", self.blocks, "Call resolve(depth).")
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
        form, blocks = table.get("form"), table.get("blocks", "all")
        if form is not None and form not in FORMS:
            raise InputError(where, "form is a known one", repr(form), nearest(form, FORMS))
        if not isinstance(blocks, str):
            blocks = tuple(blocks)
        options = {k: v for k, v in table.items() if k not in PLACEMENT_KEYS}
        tuner = tuner_config(table["tuner"], options, where)
        return cls(table["operation"], tuner, form, table.get("scale", "none"), blocks)

    def __str__(self) -> str:
        form = "" if self.form == "inside" or self.tuner.forms == (self.form,) else f"{self.form} "
        size = f" {self.tuner.size_label}" if self.tuner.size_label else ""
        scale = "" if self.scale == "none" else f" ×{self.scale:g}" if isinstance(self.scale, float) else f" ×{self.scale}"
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
        if self.learning_rate is not None and not 0 < self.learning_rate < 1e3:
            raise InputError("design", "learning_rate is above 0", self.learning_rate)

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
        placements = tuple(Placement.from_dict(row, f"{where}, placement {i + 1}") for i, row in enumerate(rows))
        return cls(placements, table.get("learning_rate"))

    def __str__(self) -> str:
        parts = [str(p) for p in self.placements] or ["linear probe"]
        return "; ".join(parts if self.learning_rate is None else [*parts, f"lr {self.learning_rate:g}"])


def _canonical(placements: Iterable[Placement]) -> tuple[Placement, ...]:
    joined: list[Placement] = []
    groups: dict[object, int] = {}
    for p in placements:
        alike = (p.operation, p.tuner, p.form, p.scale, isinstance(p.blocks, str))
        at = groups.get(alike)
        if at is None or isinstance(p.blocks, str):  # patterns are compared once they are resolved
            groups[alike] = len(joined)
            joined.append(p)
            continue
        mine, theirs = joined[at].block_numbers(), p.blocks
        if set(mine) & set(theirs):
            todo = "Join them, or give one a larger size."
            raise InputError("design", "equal tuners at one operation are placed in a block once", str(p), todo)
        if p.tuner.once:
            joined.append(p)
        else:
            joined[at] = replace(p, blocks=mine + theirs)
    return tuple(sorted(joined, key=lambda p: (OPERATIONS.index(p.operation), str(p), json.dumps(p.to_dict()))))


def _canonical_scale(scale: object, where: str) -> Scale:
    if isinstance(scale, str) and scale in ("none", *LEARNED_SCALES):
        return cast(Scale, scale)
    if isinstance(scale, (int, float)) and not isinstance(scale, bool) and 0 < abs(scale) < float("inf"):
        return "none" if scale == 1 else float(scale)
    raise InputError(where, 'scale is "none", "scalar", "channel" or a constant other than 0', repr(scale))


def _scale_size(scale: Scale, site: Site) -> int:
    return {"scalar": 1, "channel": site.out_dim}.get(scale, 0) if isinstance(scale, str) else 0
