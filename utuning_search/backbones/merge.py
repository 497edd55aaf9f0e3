"""Fold tuners into a copy of the backbone's weights, wherever that computes the same function."""

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from utuning_search.backbones.tuned_block import PlacedTuner, TunedBlock
from utuning_search.backbones.tuned_model import BLOCK, SHARED, TunedModel
from utuning_search.tuners import LINEAR_OPERATIONS, NORM_OPERATIONS, QKV_PARTS, InsideTuner, Operation, Tuner

# The linear map whose output is the operation's output, for the operations that end in one.
LAST_LINEAR: dict[Operation, tuple[str, str]] = {
    "qkv": ("attn", "qkv"),
    **dict.fromkeys(QKV_PARTS, ("attn", "qkv")),
    "proj": ("attn", "proj"),
    "fc1": ("mlp", "fc1"),
    "fc2": ("mlp", "fc2"),
    "attention": ("attn", "proj"),
    "mlp": ("mlp", "fc2"),
}
# Operations that end in another one's linear map are folded after that one.
ORDER: tuple[Operation, ...] = ("qkv", *QKV_PARTS, "proj", "fc1", "fc2", "attention", "mlp")


@torch.no_grad()
def merge(model: TunedModel) -> TunedModel:
    """A copy of `model` with everything foldable folded into a copy of its backbone.

    LoRA, scale-shift and bias fold into linear operations (W + s M, or W + s M W in sequential form), norm tuners
    and what stands at norm1 or norm2 into their LayerNorm. At `attention` and `mlp` that needs a block without layer
    scale. Tuners of one operation are folded together or not at all where another tuner reads the frozen output of
    that operation. A gate is a function of the input, so what it scales stays.
    """
    merged = copy.deepcopy(model)
    for name in [n for n in merged.tuners if n.startswith(BLOCK)]:
        block = merged.backbone.blocks[int(name.removeprefix(BLOCK)) - 1]
        tuned = cast(TunedBlock, merged.tuners[name])
        kept = _borrowed(tuned)
        for operation in ORDER:
            if operation not in kept:
                _fold_added(tuned, block, operation)
        # What is inside a norm comes before what stands at its output.
        for inside in [cast(Operation, o) for o in tuned.inside if o not in kept]:
            group = cast(nn.ModuleDict, tuned.inside[inside])
            for kind in list(group):
                if cast(InsideTuner, group[kind]).fold(block, inside):
                    del group[kind]
            if not len(group):
                del tuned.inside[inside]
        for operation in NORM_OPERATIONS:
            if operation not in kept:
                _fold_norm(tuned, block, operation)
        if not len(tuned.inside) and not len(tuned.added):
            del merged.tuners[name]
    _drop_unshared(merged)
    return merged


def _drop_unshared(merged: TunedModel) -> None:
    """Remove shared modules that no tuner needs any more."""
    if SHARED not in merged.tuners:
        return
    blocks = [cast(TunedBlock, m) for n, m in merged.tuners.items() if n.startswith(BLOCK)]
    needed = {cast(Tuner, m).shares for tuned in blocks for m in tuned.modules_placed()}
    shared = cast(nn.ModuleDict, merged.tuners[SHARED])
    for name in [n for n in shared if n not in needed]:
        del shared[name]
    if not len(shared):
        del merged.tuners[SHARED]


def _borrowed(tuned: TunedBlock) -> tuple[Operation, ...]:
    """Operations whose frozen weights another tuner of the block computes with, so that they have to stay."""
    borrows = any(cast(Tuner, m).borrows_attention for m in tuned.modules_placed())
    return ("norm1", "qkv", *QKV_PARTS, "proj", "attention") if borrows else ()


def _fold_norm(tuned: TunedBlock, block: Any, operation: Operation) -> None:
    """Fold scale-shift and bias at a norm's output into its weight and bias: W + s γ W, b + s (γ b + β)."""
    placed, norm = tuned.at(operation), getattr(block, operation)
    within: Operation = "attention" if operation == "norm1" else "mlp"
    unfolded = any(type(t).normalise is not InsideTuner.normalise for t in tuned.within(within))
    terms = [_affine(t, operation) for t in placed]
    plain = isinstance(norm, nn.LayerNorm) and norm.weight is not None and norm.bias is not None
    if not placed or unfolded or not plain or any(t is None for t in terms):
        return
    weight, bias = norm.weight.clone(), norm.bias.clone()
    for form, scale, matrix, constant in (term for found in terms for term in found or ()):
        if matrix is not None:  # a diagonal: scale-shift is the only tuner here that has one
            gamma = scale * matrix.diagonal()
            weight += gamma * norm.weight
            bias += gamma * norm.bias
        if constant is not None:
            bias += scale * constant
        del form
    norm.weight, norm.bias = (nn.Parameter(t, requires_grad=False) for t in (weight, bias))
    del tuned.added[operation]


def _fold_added(tuned: TunedBlock, block: Any, operation: Operation) -> None:
    placed = tuned.at(operation)
    if not placed:
        return
    owner, attribute = LAST_LINEAR[operation]
    linear = getattr(getattr(block, owner), attribute)
    end_is_linear = operation in LINEAR_OPERATIONS or _ends_in_linear(tuned, block, operation)
    foldable = [t for t in placed if end_is_linear and _affine(t, operation) is not None]
    others = [t for t in placed if not any(t is f for f in foldable)]
    if not foldable or any(t.sequential is not None for t in others):
        return
    if operation in QKV_PARTS and tuned.at("qkv"):  # what reads the whole map's output would see the change
        return
    whole_weight, whole_bias = linear.weight.clone(), linear.bias
    whole_bias = torch.zeros_like(whole_weight[:, 0]) if whole_bias is None else whole_bias.clone()
    rows = _rows(operation, len(whole_weight))
    weight, bias = whole_weight[rows], whole_bias[rows]
    new_weight, new_bias = weight.clone(), bias.clone()
    for tuner in foldable:
        for form, scale, matrix, constant in _affine(tuner, operation) or ():
            if matrix is not None:
                # Rows are outputs, so a channel-wise scale of (out_dim,) multiplies them.
                scaled = scale.view(-1, 1) * matrix if isinstance(scale, Tensor) else scale * matrix
                new_weight += scaled if form == "parallel" else scaled @ weight
                if form == "sequential":
                    new_bias += scaled @ bias
            if constant is not None:
                new_bias += scale * constant
    whole_weight[rows], whole_bias[rows] = new_weight, new_bias
    linear.weight = nn.Parameter(whole_weight, requires_grad=False)
    linear.bias = nn.Parameter(whole_bias, requires_grad=False)
    group = cast(nn.ModuleDict, tuned.added[operation])
    for kind in [k for k, t in group.items() if any(t is f for f in foldable)]:
        del group[kind]
    if not len(group):
        del tuned.added[operation]


def _rows(operation: Operation, count: int) -> slice:
    """The rows of a linear map's weight that make an operation's output."""
    if operation not in QKV_PARTS:
        return slice(0, count)
    third = count // len(QKV_PARTS)
    start = QKV_PARTS.index(operation) * third
    return slice(start, start + third)


def _ends_in_linear(tuned: TunedBlock, block: Any, operation: Operation) -> bool:
    """Whether nothing but dropout comes after the last linear map of `attention` or `mlp`, tuners included."""
    if any(tuned.at(inner) for inner in (("proj", "mhsa") if operation == "attention" else ("fc2", "ffn"))):
        return False
    layer_scale = block.ls1 if operation == "attention" else block.ls2
    drop_path = block.drop_path1 if operation == "attention" else block.drop_path2
    return isinstance(layer_scale, nn.Identity) and isinstance(drop_path, nn.Identity)


Term = tuple[str, Tensor | float, Tensor | None, Tensor | None]


def _affine(placed: PlacedTuner, operation: Operation) -> list[Term] | None:
    """(form, scale, M, c) of each module, or None where one is not affine in what the linear map sees."""
    terms: list[Term] = []
    for form, tuner in (("parallel", placed.parallel), ("sequential", placed.sequential)):
        if tuner is None:
            continue
        if placed.gate(form) is not None or placed.mix is not None:
            return None
        affine = cast(Tuner, tuner).affine()
        reads_its_input = operation in LINEAR_OPERATIONS or form == "sequential"
        if affine is None or (affine[0] is not None and not reads_its_input):
            return None
        terms.append((form, placed.scale(form), *affine))
    return terms
