"""Placements: one tuner, of one size and form, at one operation, in a set of blocks."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from utuning_search.common.errors import InputError, nearest, refuse_unknown_keys
from utuning_search.designs import block_sets
from utuning_search.tuners import (
    FORMS,
    GATE,
    LEARNED_SCALES,
    OPERATIONS,
    OUTSIDE_OPERATIONS,
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
from utuning_search.tuners.gate import gate_size
from utuning_search.tuners.references import ADAPTER_PLUS, U_TUNING, UNIPELT

PLACEMENT_KEYS = ("operation", "tuner", "form", "scale", "blocks")
SKIP = "skip"
NORM_BEFORE: Mapping[Operation, Operation] = {"attention": "norm1", "mlp": "norm2"}


@dataclass(frozen=True)
class Placement:
    """One tuner, of one size and form, at one operation, in a set of blocks.

    Args:
        operation: The frozen operation it is added to. "skip", the residual around attention with OP = identity
            (SCEdit), is another name for the parallel form at `attention`: x + U(x) + attention(x) is the sum of both.
        tuner: Its kind and size.
        form: "parallel", "sequential" or "mixed"; "inside" for tuners that change the operation from
            within; "bypass" for a side network on detached activations. None takes the tuner's customary form.
        scale: "none", "scalar" (learned), "channel" (learned, one a channel), "gate" (learned, a function of the
            input) or a constant.
        blocks: A pattern such as "all" or "last 1/2", or block numbers from 1. At "patches" and "final", which lie
            outside the blocks, it is left out.

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
        if self.operation == SKIP:
            self._as_parallel_attention(where)
        if self.operation not in OPERATIONS:
            raise InputError(
                where, "operation is a known one", f"'{self.operation}'", nearest(self.operation, (*OPERATIONS, SKIP))
            )
        where = f"{where} at '{self.operation}'"
        if self.operation not in self.tuner.operations:
            legal = ", ".join(self.tuner.operations)
            raise InputError(where, f"{self.tuner.named} is legal at: {legal}", f"'{self.operation}'")
        forms = self.tuner.forms_at(self.operation)
        if self.form is None:
            object.__setattr__(self, "form", forms[0])
        if self.form not in forms:
            legal = ", ".join(forms)
            raise InputError(where, f"the form of {self.tuner.named} is one of: {legal}", f"'{self.form}'")
        object.__setattr__(self, "scale", canonical_scale(self.scale, where))
        if self.scale != "none" and not self.tuner.scalable:
            raise InputError(where, f"{self.tuner.named} has no scale", f"'{self.scale}'", "Leave scale out.")
        blocks = _canonical_blocks(self.blocks, where)
        object.__setattr__(self, "blocks", _outside(blocks, where) if self.is_outside else blocks)
        if self.tuner.once and not isinstance(self.blocks, str) and len(self.blocks) > 1:
            todo = 'Name one block, such as blocks = "first 1".'
            raise InputError(where, f"{self.tuner.named} enters at one block and stays", list(self.blocks), todo)

    def _as_parallel_attention(self, where: str) -> None:
        """Rewrite a placement at the residual around attention: equal designs have one canonical key."""
        if self.form not in (None, "parallel", "sequential"):
            todo = "OP is the identity there, so parallel and sequential are one and the same."
            raise InputError(f"{where} at '{SKIP}'", "form is parallel or left out", f"'{self.form}'", todo)
        object.__setattr__(self, "operation", "attention")
        object.__setattr__(self, "form", "parallel")

    @property
    def is_outside(self) -> bool:
        """Whether it stands outside the blocks; it then counts as one in the first."""
        return self.operation in OUTSIDE_OPERATIONS

    @property
    def references(self) -> tuple[Reference, ...]:
        """The papers of this tuner in this form and with this scale."""
        found = self.tuner.cited(cast(Form, self.form))
        by_scale = {"channel": (U_TUNING, ADAPTER_PLUS), GATE: (UNIPELT,)}
        return tuple(dict.fromkeys((*found, *by_scale.get(str(self.scale), ()))))

    @property
    def starts_at_zero(self) -> bool:
        """Whether the fresh placement leaves its operation exactly as it was."""
        return self.form != "bypass" and (self.tuner.starts_at_zero or self.scale in LEARNED_SCALES)

    def resolve(self, depth: int) -> "Placement":
        """The same placement with block numbers instead of a pattern, checked against a depth."""
        if not isinstance(self.blocks, str) and max(self.blocks) <= depth:
            return self
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

    def at(self, shape: BackboneShape, block: int) -> BackboneShape:
        """The shape of one of its blocks; at "final", which comes after all blocks, that of the last."""
        return shape.at(shape.depth if self.operation == "final" else block)

    def sites(self, shape: BackboneShape) -> tuple[Site, ...]:
        """The site of each tuner module in one block: one, or two in mixed form (parallel, sequential) and in a
        bypass (horizontal, vertical).

        Args:
            shape: Of that block; see `at`.
        """
        in_dim, out_dim = shape.widths(self._sized)
        first = out_dim if self.form == "sequential" else in_dim
        inputs = (in_dim, out_dim) if self.form in ("mixed", "bypass") else (first,)
        heads = shape.num_heads, shape.head_dim
        return tuple(
            Site(width, out_dim, *heads, shape.grid, self.operation, shape.stage, shape.kv_heads) for width in inputs
        )

    @property
    def _sized(self) -> Operation:
        """The operation whose widths its tuner has: where it changes the norm before its own, that norm's."""
        return NORM_BEFORE.get(self.operation, self.operation) if self.tuner.changes_norm else self.operation

    def num_parameters(self, shape: BackboneShape) -> int:
        """Closed-form number of trainable parameters over all its blocks, without what is shared with others."""
        blocks = self.resolve(shape.depth).block_numbers()
        if not shape.stages:
            return self.num_in_block(shape) * len(blocks)
        return sum(self.num_in_block(self.at(shape, block)) for block in blocks)

    def num_in_block(self, shape: BackboneShape) -> int:
        """The same in one block, whose shape is given."""
        in_block = sum(self.tuner.num_parameters(s) + scale_size(self.scale, s) for s in self.sites(shape))
        return in_block + (self.form == "bypass")  # its λ

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
        said = f"{self.operation}: {form}{self.tuner.label}{size}{scale}"
        return said if self.is_outside else f"{said}, {where}"


def _canonical_blocks(blocks: object, where: str) -> str | tuple[int, ...]:
    """Sorted numbers, or a pattern that needs a depth."""
    if isinstance(blocks, str):
        block_sets.check_pattern(blocks, where)
        return block_sets.explicit(blocks) or blocks
    if not isinstance(blocks, (list, tuple)) or not all(type(b) is int and b >= 1 for b in blocks) or not blocks:
        raise InputError(where, "blocks is a pattern, or a non-empty list of numbers from 1", repr(blocks))
    return tuple(sorted(set(blocks)))


def _outside(blocks: str | tuple[int, ...], where: str) -> tuple[int, ...]:
    """The blocks of what stands outside of them: the first, for the search, where every placement has some."""
    if blocks not in ("all", "first 1", (1,)):
        raise InputError(where, "it lies outside the blocks", f"blocks {blocks!r}", "Leave blocks out.")
    return (1,)


def canonical_scale(scale: object, where: str) -> Scale:
    """The one spelling of a scale: constants are floats, and a constant of 1 is "none"."""
    if isinstance(scale, str) and scale in ("none", *LEARNED_SCALES, GATE):
        return cast(Scale, scale)
    if isinstance(scale, (int, float)) and not isinstance(scale, bool) and 0 < abs(scale) <= sys.float_info.max:
        return "none" if scale == 1 else float(scale)
    raise InputError(where, 'scale is "none", "scalar", "channel", "gate" or a constant other than 0', repr(scale))


def scale_size(scale: Scale, site: Site) -> int:
    """Number of parameters of one learned scale at a site."""
    sizes = {"scalar": 1, "channel": site.out_dim, GATE: gate_size(site.in_dim)}
    return sizes.get(scale, 0) if isinstance(scale, str) else 0
