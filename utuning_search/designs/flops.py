"""Closed-form inference FLOPs of a design, exact before training.

The convention is that of torch's `torch.utils.flop_counter.FlopCounterMode`: two FLOPs a multiply-add of matrix
products, convolutions (padding included) and attention; whatever is elementwise, a norm, a softmax or a product of a
matrix and a vector (such as a gate's) counts nothing. Attention is fused, as it is in timm.
"""

import math
from collections.abc import Sequence

from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design
from utuning_search.designs.mergeability import unmerged
from utuning_search.designs.placement import Placement
from utuning_search.tuners import QKV_PARTS, BackboneShape, Operation

MAPS: tuple[Operation, ...] = ("qkv", "proj", "fc1", "fc2")
ATTENDED: tuple[Operation, ...] = ("qkv", *QKV_PARTS, "proj")  # what sees the tokens that fill up windows
READ: tuple[Operation, ...] = ("norm1", "qkv", *QKV_PARTS)  # what sees the tokens of which attention makes fewer


def num_flops(design: Design, shape: BackboneShape, num_classes: int) -> int:
    """FLOPs of one forward pass of one image through the merged tuned model: backbone, head and what does not merge.

    Args:
        design: Its patterns of blocks are resolved here.
        shape: Of the backbone.
        num_classes: Width of the head.

    Raises:
        InputError: The shape does not say all that FLOPs depend on, or a tuner states none.
    """
    total = _frozen_ends(shape) + 2 * shape.num_features * num_classes
    placements = design.resolve(shape.depth).placements
    if shape.stages and not shape.joins:
        return total + _staged(placements, shape)
    tokens = _tokens(shape)
    for block in range(1, shape.depth + 1):
        at, here = shape.at(block), [p for p in placements if block in p.block_numbers()]
        joining = [p for p in here if p.form == "inside" and p.operation == "block"]
        tokens += sum(p.tuner.extra_tokens for p in joining if p.tuner.once)
        inner = tokens + sum(p.tuner.extra_tokens for p in joining if not p.tuner.once)
        keys = inner + sum(p.tuner.extra_keys for p in here if p.form == "inside" and p.operation == "attention")
        total += _frozen_block(at, inner, keys)
        # Tokens of this block alone join after what the block reads, and have left where it ends.
        total += sum(_placed(p, at, tokens if p.operation == "block" else inner) for p in unmerged(here, shape))
    return total


def _staged(placements: Sequence[Placement], shape: BackboneShape) -> int:
    """FLOPs of the blocks of several stages, in which no tokens or keys of tuners join."""
    total = 0
    for block in range(1, shape.depth + 1):
        (stage,) = shape.at(block).stages
        if stage.flops is None:
            raise InputError("FLOPs", "the backbone's blocks have a closed form", "others", "Leave FLOPs out.")
        tokens = _tokens(shape.at(block))
        total += stage.flops
        for p in unmerged([p for p in placements if block in p.block_numbers()], shape):
            seen = (p.operation in READ and stage.read) or (p.operation in ATTENDED and stage.attended) or tokens
            total += _placed(p, p.at(shape, block), seen)
    return total


def _tokens(shape: BackboneShape) -> int:
    """Of the backbone itself, in one block or in all alike."""
    return (shape.prefix_tokens or 0) + math.prod(shape.grid)


def _frozen_ends(shape: BackboneShape) -> int:
    """FLOPs outside the blocks."""
    if shape.prefix_tokens is None:
        todo = "Start a new study of the same space and task."
        raise InputError("FLOPs", "the study stores how many tokens an image has", "an older study", todo)
    if shape.flops_outside is None:
        rule = "the backbone's patch embedding and pooling have a closed form"
        raise InputError("FLOPs", rule, "others", "Take another backbone, or leave FLOPs out.")
    return shape.flops_outside


def _frozen_block(shape: BackboneShape, tokens: int, keys: int) -> int:
    """FLOPs of the frozen maps of a block: `tokens` tokens attend to `keys` keys."""
    weights = sum(math.prod(shape.widths(operation)) for operation in MAPS)
    heads = shape.num_heads * shape.head_dim
    if shape.gated_attention:
        weights += shape.dim * heads
    # Queries and keys are shared out among softmaxes, and each mixes whole values, as a fused kernel has it.
    return 2 * tokens * weights + 2 * (1 + shape.softmaxes) * tokens * keys * heads


def _placed(placement: Placement, shape: BackboneShape, tokens: int) -> int:
    """FLOPs of one placement in one block, on the tokens that it reads."""
    return sum(placement.tuner.num_flops(site, tokens) for site in placement.sites(shape))
