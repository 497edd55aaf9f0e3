"""Fold tuners into a copy of the backbone's weights, wherever that computes the same function."""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from utuning_search.backbones.family import BackboneBlock
from utuning_search.backbones.placed_tuner import PlacedTuner
from utuning_search.backbones.tuned_block import TunedBlock
from utuning_search.backbones.tuned_model import BLOCK, SHARED, TunedModel
from utuning_search.tuners import LINEAR_OPERATIONS, NORM_OPERATIONS, QKV_PARTS, InsideTuner, Operation, Tuner

# Operations that end in another one's linear map are folded after that one.
ORDER: tuple[Operation, ...] = ("qkv", *QKV_PARTS, "proj", "fc1", "fc2", "attention", "mlp")
# What is added there comes between the last linear map of `attention` or `mlp` and its output.
LAST: dict[Operation, tuple[Operation, ...]] = {"attention": ("proj", "mhsa"), "mlp": ("fc2", "ffn")}


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
        block = merged.adapter.blocks[int(name.removeprefix(BLOCK)) - 1]
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


def _fold_norm(tuned: TunedBlock, block: BackboneBlock, operation: Operation) -> None:
    """Fold scale-shift and bias at a norm's output into its weight and bias: W + s γ W, b + s (γ b + β)."""
    placed, norm = tuned.at(operation), block.norm(operation)
    within: Operation = "attention" if operation == "norm1" else "mlp"
    unfolded = any(type(t).normalise is not InsideTuner.normalise for t in tuned.within(within))
    terms = [_affine(t, operation) for t in placed]
    if not isinstance(norm, nn.LayerNorm) or norm.weight is None or norm.bias is None:
        return
    if not placed or unfolded or any(t is None for t in terms):
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


def _fold_added(tuned: TunedBlock, block: BackboneBlock, operation: Operation) -> None:
    placed = tuned.at(operation)
    part = block.linear(operation) if placed else None
    if part is None:
        return
    linear, rows = part.module, part.rows
    end_is_linear = block.ends_in_linear(operation) and not tuned.touches(*LAST.get(operation, ()))
    foldable = [t for t in placed if end_is_linear and _affine(t, operation) is not None]
    others = [t for t in placed if not any(t is f for f in foldable)]
    if not foldable or any(t.sequential is not None for t in others):
        return
    if operation in QKV_PARTS and tuned.at("qkv"):  # what reads the whole map's output would see the change
        return
    whole_weight, own_bias = linear.weight.clone(), cast(Tensor | None, linear.bias)
    whole_bias = torch.zeros_like(whole_weight[:, 0]) if own_bias is None else own_bias.clone()
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
