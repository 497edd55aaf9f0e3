"""Fold tuners into a copy of the backbone's weights, wherever that computes the same function."""

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from utuning_search.backbones.family import BackboneBlock, LinearMap
from utuning_search.backbones.placed_tuner import PlacedTuner
from utuning_search.backbones.tuned_block import TunedBlock
from utuning_search.backbones.tuned_model import BLOCK, OUTSIDE, SHARED, TunedModel
from utuning_search.designs.mergeability import FOLD_ORDER, behind_norm, folds_behind, unmerged
from utuning_search.designs.placement import Placement
from utuning_search.tuners import NORM_OPERATIONS, OUTSIDE_OPERATIONS, InsideTuner, Operation, Tuner


@torch.no_grad()
def merge(model: TunedModel) -> TunedModel:
    """A copy of `model` with everything foldable folded into a copy of its backbone.

    LoRA, scale-shift and bias fold into linear operations (W + s M, or W + s M W in sequential form), norm tuners
    and what stands at norm1 or norm2 into their LayerNorm, or into the linear maps behind it (W + s W M);
    `designs/mergeability.py` says what stays.
    """
    merged = copy.deepcopy(model)
    shape = merged.adapter.shape
    if OUTSIDE in merged.tuners:
        _fold_outside(merged)
    for name in [n for n in merged.tuners if n.startswith(BLOCK)]:
        number = int(name.removeprefix(BLOCK))
        block, frozen = merged.adapter.blocks[number - 1], model.adapter.blocks[number - 1]
        tuned = cast(TunedBlock, merged.tuners[name])
        here = [p for p in merged.design.placements if number in p.block_numbers() and not p.is_outside]
        staying = unmerged(here, shape)
        folding = [p for p in here if p not in staying]
        for operation in FOLD_ORDER:
            _fold_added(_take(tuned, folding, operation), block, frozen, operation)
        # What is inside a norm comes before what stands at its output.
        for inside in [cast(Operation, o) for o in tuned.inside]:
            for tuner in _take(tuned, folding, inside, inside=True):
                if not cast(InsideTuner, tuner).fold(block, inside):
                    raise TypeError(f"{type(tuner).__name__} is said to be mergeable and does not fold")
        for operation in NORM_OPERATIONS:
            behind = folds_behind(p for p in folding if p.operation == operation)
            placed = _take(tuned, folding, operation)
            if behind:
                _fold_behind_norm(placed, block, behind_norm(operation, shape))
            else:
                _fold_norm(placed, block, operation)
        if not len(tuned.inside) and not len(tuned.added):
            del merged.tuners[name]
    _drop_unshared(merged)
    return merged


def _take(
    tuned: TunedBlock, folding: list[Placement], operation: Operation, *, inside: bool = False
) -> list[nn.Module]:
    """Remove the modules at one operation that fold, and give them back in the order of their placements."""
    home = tuned.inside if inside else tuned.added
    if operation not in home:  # nothing was there, or a merged model is merged again
        return []
    group = cast(nn.ModuleDict, home[operation])
    names = [tuned.names[p] for p in folding if p.operation == operation and (p.form == "inside") is inside]
    taken = [group.pop(name) for name in names if name in group]
    if not len(group):
        del home[operation]
    return taken


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


def _fold_norm(placed: list[nn.Module], block: BackboneBlock, operation: Operation) -> None:
    """Fold scale-shift and bias at a norm's output into its weight and bias: W + s γ W, b + s (γ b + β)."""
    if not placed:
        return
    _fold_scales(placed, block.norm(operation))


def _fold_outside(merged: TunedModel) -> None:
    """Fold what stands outside the blocks into the convolution of the patches and the last norm."""
    tuned = cast(TunedBlock, merged.tuners[OUTSIDE])
    here = [p for p in merged.design.placements if p.is_outside]
    staying = unmerged(here, merged.adapter.shape)
    folding = [p for p in here if p not in staying]
    for operation, module in zip(OUTSIDE_OPERATIONS, merged.adapter.ends(), strict=True):
        placed = _take(tuned, folding, operation)
        if placed:
            if module is None:
                raise TypeError(f"'{operation}' is said to end in a module that folds and does not")
            _fold_scales(placed, module)
    if not len(tuned.added):
        del merged.tuners[OUTSIDE]


def _fold_scales(placed: list[nn.Module], made_by: nn.Module) -> None:
    """Fold what scales and shifts channels into the weight and bias of a norm or of a convolution that makes them."""
    module = cast(nn.LayerNorm | nn.Conv2d, made_by)
    own, own_bias = module.weight, cast(Tensor, module.bias)
    weight, bias = own.clone(), own_bias.clone()
    for _, scale, matrix, constant in (term for tuner in placed for term in _terms(tuner)):
        if matrix is not None:  # a diagonal
            gamma = scale * matrix.diagonal()
            weight += gamma.view(-1, *(1 for _ in own.shape[1:])) * own
            bias += gamma * own_bias
        if constant is not None:
            bias += scale * constant
    module.weight, module.bias = (nn.Parameter(t, requires_grad=False) for t in (weight, bias))


def _fold_behind_norm(placed: list[nn.Module], block: BackboneBlock, reading: Sequence[Operation]) -> None:
    """Fold what mixes the channels of a norm's output h into the maps that read it: W (h + s (M h + c)) + b."""
    terms = [term for tuner in placed for term in _terms(tuner)]
    for name in reading if terms else ():
        linear = _linear(block, name)
        own, own_bias = linear.weight(), linear.bias()
        weight, bias = own.clone(), torch.zeros_like(own[:, 0]) if own_bias is None else own_bias.clone()
        for _, scale, matrix, constant in terms:
            if matrix is not None:
                weight += own @ _scaled(scale, matrix)
            if constant is not None:
                bias += own @ (scale * constant)
        linear.assign(weight, bias)


def _linear(block: BackboneBlock, operation: Operation) -> LinearMap:
    linear = block.linear(operation)
    if linear is None:
        raise TypeError(f"'{operation}' is said to end in a linear map and has none")
    return linear


def _scaled(scale: Tensor | float, matrix: Tensor) -> Tensor:
    """Rows are outputs, so a channel-wise scale of (out_dim,) multiplies them."""
    return scale.view(-1, 1) * matrix if isinstance(scale, Tensor) else scale * matrix


def _fold_added(placed: list[nn.Module], block: BackboneBlock, frozen: BackboneBlock, operation: Operation) -> None:
    """Fold what is added to an operation's output into the linear map that it ends in.

    Args:
        placed: What is added there.
        block: Of the merged model.
        frozen: The same block, to which nothing was folded.
        operation: Which one.
    """
    if not placed:
        return
    linear = _linear(block, operation)
    weight, own_bias = linear.weight(), linear.bias()
    bias = torch.zeros_like(weight[:, 0]) if own_bias is None else own_bias
    new_weight, new_bias = weight.clone(), bias.clone()
    for form, scale, matrix, constant in (term for tuner in placed for term in _terms(tuner, frozen.weight(operation))):
        if matrix is not None:
            scaled = _scaled(scale, matrix)
            new_weight += scaled if form == "parallel" else scaled @ weight
            if form == "sequential":
                new_bias += scaled @ bias
        if constant is not None:
            new_bias += scale * constant
    linear.assign(new_weight, new_bias)


Term = tuple[str, Tensor | float, Tensor | None, Tensor | None]


def _terms(module: nn.Module, weight: Tensor | None = None) -> list[Term]:
    """(form, scale, M, c) of each tuner of a placement that folds, of which some read the frozen `weight`."""
    placed, terms = cast(PlacedTuner, module), []
    for form, tuner in (("parallel", placed.parallel), ("sequential", placed.sequential)):
        if tuner is not None:
            reads = weight is not None and cast(Tuner, tuner).reads_weight
            affine = cast(Tuner, tuner).affine(weight) if reads else cast(Tuner, tuner).affine()
            if affine is None:
                raise TypeError(f"{type(tuner).__name__} is said to be mergeable and is not affine")
            terms.append((form, placed.scale(form), *affine))
    return terms
