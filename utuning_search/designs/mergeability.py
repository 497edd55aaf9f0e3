"""Which placements of a block fold into its frozen weights: what `merge` does, known from design and shape alone.

Affine tuners such as LoRA, scale-shift and bias fold into linear operations, norm tuners and what stands at norm1 or
norm2 into their LayerNorm, or into the linear maps that read it where channels are mixed; all others stay.
"""

from collections.abc import Iterable

from utuning_search.designs.design import Design
from utuning_search.designs.placement import Placement
from utuning_search.tuners import GATE, LINEAR_OPERATIONS, NORM_OPERATIONS, QKV_PARTS, BackboneShape, Operation

# Operations that end in another one's linear map are folded after that one.
FOLD_ORDER: tuple[Operation, ...] = ("qkv", *QKV_PARTS, "proj", "fc1", "fc2", "attention", "mlp")
# Operations whose frozen weights a tuner computes with that borrows the attention.
BORROWED: tuple[Operation, ...] = ("norm1", "qkv", *QKV_PARTS, "proj", "attention")
# What comes after the last linear map of an operation.
AFTER_LAST: dict[Operation, tuple[Operation, ...]] = {"attention": ("proj", "mhsa"), "mlp": ("fc2", "ffn")}
AROUND_NORM: dict[Operation, Operation] = {"norm1": "attention", "norm2": "mlp"}
# The linear maps that read a norm's output, and whatever else reads it at its own operation.
BEHIND_NORM: dict[Operation, tuple[Operation, ...]] = {"norm1": QKV_PARTS, "norm2": ("fc1",)}
READING_NORM: dict[Operation, tuple[Operation, ...]] = {"norm1": ("qkv", *QKV_PARTS, "mhsa"), "norm2": ("fc1", "ffn")}


def unmerged(placements: Iterable[Placement], shape: BackboneShape) -> tuple[Placement, ...]:
    """Of all placements of one block, those that stay beside the frozen weights at inference, in their order.

    What is added at one operation folds together or not at all where a tuner that stays reads the output of that
    operation. At `attention` and `mlp` that needs a block without layer scale. A gate is a function of the input,
    so what it scales stays.
    """
    rest = list(placements)
    kept = BORROWED if any(p.tuner.borrows_attention for p in rest) else ()
    for operation in FOLD_ORDER:
        if operation not in kept:
            folded = _folded_into_linear(rest, operation, shape)
            rest = [p for p in rest if p not in folded]
    # What is inside a norm comes before what stands at its output.
    rest = [p for p in rest if p.form != "inside" or not p.tuner.mergeable or p.operation in kept]
    for operation in NORM_OPERATIONS:
        folds = _folds_behind_norm if folds_behind(_added(rest, operation)) else _folds_into_norm
        if operation not in kept and folds(rest, operation, shape):
            rest = [p for p in rest if p.operation != operation]
    return tuple(p for p in rest if not (p.is_outside and _folds_outside(rest, p.operation, shape)))


def folds_behind(added: Iterable[Placement]) -> bool:
    """Whether what stands at a norm folds, if at all, into the linear maps that read the norm."""
    return any(p.tuner.mixes_channels for p in added)


def behind_norm(operation: Operation, shape: BackboneShape) -> tuple[Operation, ...]:
    """The linear maps that read the output of a norm."""
    return BEHIND_NORM[operation] + (BEHIND_NORM["norm2"] if shape.one_norm else ())


def staying(design: Design, shape: BackboneShape) -> tuple[Placement, ...]:
    """Of the placements of a design those that do not fold in some block, each once, in its order."""
    placements = design.resolve(shape.depth).placements
    left: list[Placement] = []
    for block in range(1, shape.depth + 1):
        left += unmerged([p for p in placements if block in p.block_numbers()], shape)
    return tuple(p for p in placements if p in left)


def _folded_into_linear(rest: list[Placement], operation: Operation, shape: BackboneShape) -> list[Placement]:
    """What folds into the linear map that `operation` ends in."""
    added = _added(rest, operation)
    foldable = [p for p in added if _is_affine(p)]
    if any(p.form in ("sequential", "mixed") and p not in foldable for p in added):
        return []
    if operation == "qkv" and any(p.tuner.reads_weight for part in QKV_PARTS for p in _added(rest, part)):
        return []  # they may stay, and would then see another weight
    if operation in QKV_PARTS and _added(rest, "qkv"):  # what reads the whole map's output would see the change
        return []
    if operation in AFTER_LAST and (shape.scaled_ends or any(_added(rest, o) for o in AFTER_LAST[operation])):
        return []
    return foldable


def _folds_into_norm(rest: list[Placement], operation: Operation, shape: BackboneShape) -> bool:
    """Whether all that stands at a norm's output folds into its weight and bias."""
    inside = [p for p in rest if p.form == "inside" and p.operation == AROUND_NORM[operation]]
    changed = any(p.tuner.changes_norm for p in inside)
    return shape.plain_norms and not changed and all(_is_affine(p) for p in _added(rest, operation))


def _folds_outside(rest: list[Placement], operation: Operation, shape: BackboneShape) -> bool:
    """Whether all that stands at the patches or the last norm folds into the module that makes them."""
    plain = shape.plain_patches if operation == "patches" else shape.plain_final
    return plain and all(_is_affine(p) for p in _added(rest, operation))


def _folds_behind_norm(rest: list[Placement], operation: Operation, shape: BackboneShape) -> bool:
    """Whether all that stands at a norm's output folds into the linear maps that read it, and nothing else does."""
    around = AROUND_NORM[operation]
    asked = any(p.tuner.reads_normed for p in rest if p.form == "inside" and p.operation == around)
    if asked or shape.post_norm or any(o in shape.lacks for o in behind_norm(operation, shape)):
        return False
    if operation == "norm1" and (shape.gated_attention or shape.fills_up or shape.widens):
        return False
    reads = READING_NORM[operation] + (READING_NORM["norm2"] if shape.one_norm else ())
    reading = [p for o in reads for p in _added(rest, o) if p.form in ("parallel", "mixed")]
    return not reading and all(_is_affine(p) for p in _added(rest, operation))


def _added(rest: list[Placement], operation: Operation) -> list[Placement]:
    return [p for p in rest if p.operation == operation and p.form != "inside"]


def _is_affine(placement: Placement) -> bool:
    """Whether it adds an affine function of what the operation's last linear map or its norm sees."""
    if not placement.tuner.mergeable or placement.scale == GATE or placement.form == "bypass":
        return False
    reads_its_input = placement.operation in LINEAR_OPERATIONS or placement.form == "sequential"
    return reads_its_input or placement.tuner.is_constant
