"""Designs as vectors that a model of accuracy learns from: what is where, how large, in which form, at which rate."""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from utuning_search.designs.design import Design
from utuning_search.designs.placement import Placement
from utuning_search.designs.rates import rate_factor
from utuning_search.tuners import BackboneShape

Floats = npt.NDArray[np.float64]
# Places with much in common, for few trials tell little about each of fourteen operations.
PLACES = {
    "attention": ("attention", "mhsa"),
    "mlp": ("mlp", "ffn"),
    "block": ("block",),
    "norm": ("norm1", "norm2"),
    "qkv": ("qkv", "q", "k", "v"),
    "proj": ("proj",),
    "fc1": ("fc1",),
    "fc2": ("fc2",),
    "ends": ("patches", "final"),
}
# The output of attention is that of its projection, and of the MLP that of fc2: a tuner that reads an output alone, or
# nothing, is the same function at either, so that one that was tried is known at both.
OUTPUTS = {"attention": "proj", "mlp": "fc2"}
READS_NOTHING = "bias"
LABELS = (
    "adapter",
    "conv",
    "prefix exact",
    "prefix parallel",
    "prefix gated",
    "prompt parallel",
    "prompt deep",
    "prompt shallow",
    "scale_shift",
    "bias",
    "norm",
    "lora",
    "experts",
    "fact",
    "structured",
    "weight",
    "at a norm",
    "other",
)
# Kinds with much in common have a label together, for few trials tell little about each of two dozen kinds.
LABEL_OF = {
    "graph": "conv",
    "compacter": "adapter",
    **dict.fromkeys(("kronecker", "grouped", "vera"), "structured"),
    **dict.fromkeys(("dora", "rescale", "oft"), "weight"),
    **dict.fromkeys(("repadapter", "arc", "sas"), "at a norm"),
}
FORMS = ("parallel", "sequential", "mixed", "inside", "bypass")
SCALES = ("none", "scalar", "channel", "gate", "small", "large")
PARTS = 3  # of the depth
SIZES = 5.0  # decades of parameters that are told apart
FEW = 10.0  # parameters for each of a token's numbers, with which a design stops being next to a linear probe
KEPT = 8192  # designs whose vectors are kept, because every proposal asks for those of the whole history again


@lru_cache(maxsize=KEPT)
def features(design: Design, shape: BackboneShape, learning_rate: float) -> Floats:
    """A vector of a design that is resolved for a backbone; it is not to be changed.

    Args:
        design: Any.
        shape: Of the backbone.
        learning_rate: Of the task, where the design has none.
    """
    kinds, covered = dict.fromkeys(LABELS, 0), dict.fromkeys(LABELS, 0.0)
    places, where = dict.fromkeys(PLACES, 0), dict.fromkeys(PLACES, 0.0)
    parts, forms, scales = [0.0] * PARTS, dict.fromkeys(FORMS, 0.0), dict.fromkeys(SCALES, 0.0)
    for placement in design.placements:
        blocks, label = placement.block_numbers(), _label(placement)
        reaches_on = placement.tuner.once or placement.is_outside
        reached = range(blocks[0], shape.depth + 1) if reaches_on else blocks
        share, size = len(reached) / shape.depth, placement.num_parameters(shape)
        own = _sizes_in(placement, reached, shape)
        place = _place(placement)
        kinds[label] += size
        places[place] += size
        covered[label], where[place] = max(covered[label], share), max(where[place], share)
        for block in reached:
            parts[(block - 1) * PARTS // shape.depth] += size / len(reached) if own is None else own[block]
        forms[str(placement.form)], scales[_scale(placement)] = 1.0, 1.0
    total = design.num_parameters(shape)
    rate = design.learning_rate or learning_rate
    found = np.array(
        [
            *map(_decades, kinds.values()),
            *covered.values(),
            *map(_decades, places.values()),
            *where.values(),
            *map(_decades, parts),
            *forms.values(),
            *scales.values(),
            _decades(total),
            len(design.placements) / 6,
            math.log10(rate / (learning_rate * rate_factor(design, shape.depth))),
            math.exp(-total / (FEW * shape.dim)),
        ]
    )
    found.flags.writeable = False
    return found


GROUPS = (len(LABELS), len(LABELS), len(PLACES), len(PLACES), PARTS, len(FORMS), len(SCALES), 1, 1, 1, 1)


def feature_names() -> tuple[str, ...]:
    """Of the columns of `features`."""
    return (
        *(f"size of {n}" for n in LABELS),
        *(f"depth of {n}" for n in LABELS),
        *(f"size at {n}" for n in PLACES),
        *(f"depth at {n}" for n in PLACES),
        *(f"size in part {i + 1} of {PARTS}" for i in range(PARTS)),
        *FORMS,
        *(f"scale {n}" for n in SCALES),
        "size",
        "placements",
        "rate",
        "nearness to a bare head",
    )


def matrix(designs: Iterable[Design], shape: BackboneShape, learning_rate: float) -> Floats:
    """(designs, features)."""
    rows: Sequence[Floats] = [features(d, shape, learning_rate) for d in designs]
    return np.stack(rows) if rows else np.zeros((0, len(feature_names())))


def _sizes_in(placement: Placement, reached: Iterable[int], shape: BackboneShape) -> dict[int, int] | None:
    """Parameters in each block that a placement reaches, where blocks differ and it stands in each of them."""
    if not shape.stages or placement.tuner.once or placement.is_outside:
        return None
    return {block: placement.num_in_block(shape.at(block)) for block in reached}


def _decades(size: float) -> float:
    return math.log10(1 + size) / SIZES


def _place(placement: Placement) -> str:
    found = next(name for name, operations in PLACES.items() if placement.operation in operations)
    same = placement.form == "sequential" or placement.tuner.kind == READS_NOTHING
    return OUTPUTS.get(found, found) if same else found


def _label(placement: Placement) -> str:
    reading = placement.tuner.options().get("reading")
    kind = placement.tuner.kind
    label = LABEL_OF.get(kind, kind) if reading is None else f"{kind} {reading}"
    return label if label in LABELS else "other"


def _scale(placement: Placement) -> str:
    scale = placement.scale
    return ("small" if abs(scale) < 1 else "large") if isinstance(scale, float) else str(scale)
