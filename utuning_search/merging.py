"""Fold tuners into a copy of the backbone's weights, wherever that computes the same function."""

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from utuning_search.insertion import PlacedTuner, TunedBlock, TunedModel
from utuning_search.tuners import LINEAR_OPERATIONS, InsideTuner, Operation, Tuner

# The linear map whose output is the operation's output, for the operations that end in one.
LAST_LINEAR: dict[Operation, tuple[str, str]] = {
    "qkv": ("attn", "qkv"),
    "proj": ("attn", "proj"),
    "fc1": ("mlp", "fc1"),
    "fc2": ("mlp", "fc2"),
    "attention": ("attn", "proj"),
    "mlp": ("mlp", "fc2"),
}
# Operations that end in another one's linear map are folded after that one.
ORDER: tuple[Operation, ...] = ("qkv", "proj", "fc1", "fc2", "attention", "mlp")


@torch.no_grad()
def merge(model: TunedModel) -> TunedModel:
    """A copy of `model` with everything foldable folded into a copy of its backbone.

    LoRA, scale-shift and bias fold into linear operations (W + s M, or W + s M W in sequential form), norm tuners
    into their LayerNorm. At `attention` and `mlp` that needs a block without layer scale. Tuners of one operation
    are folded together or not at all where another tuner reads the frozen output of that operation.
    """
    merged = copy.deepcopy(model)
    for name in list(merged.tuners):
        block = merged.backbone.blocks[int(name.removeprefix("block_")) - 1]
        tuned = cast(TunedBlock, merged.tuners[name])
        kept = _borrowed(tuned)
        for operation in ORDER:
            if operation not in kept:
                _fold_added(tuned, block, operation)
        for inside in [cast(Operation, o) for o in tuned.inside if o not in kept]:
            group = cast(nn.ModuleDict, tuned.inside[inside])
            for kind in list(group):
                if cast(InsideTuner, group[kind]).fold(block, inside):
                    del group[kind]
            if not len(group):
                del tuned.inside[inside]
        if not len(tuned.inside) and not len(tuned.added):
            del merged.tuners[name]
    return merged


def _borrowed(tuned: TunedBlock) -> tuple[Operation, ...]:
    """Operations whose frozen weights another tuner of the block computes with, so that they have to stay."""
    modules = [m for op in tuned.added for t in tuned.at(cast(Operation, op)) for m in (t.parallel, t.sequential)]
    borrows = any(m is not None and cast(Tuner, m).borrows_attention for m in modules)
    return ("qkv", "proj", "attention") if borrows else ()


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
    weight, bias = linear.weight.clone(), linear.bias
    bias = torch.zeros_like(weight[:, 0]) if bias is None else bias.clone()
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
    linear.weight = nn.Parameter(new_weight, requires_grad=False)
    linear.bias = nn.Parameter(new_bias, requires_grad=False)
    group = cast(nn.ModuleDict, tuned.added[operation])
    for kind in [k for k, t in group.items() if any(t is f for f in foldable)]:
        del group[kind]
    if not len(group):
        del tuned.added[operation]


def _ends_in_linear(tuned: TunedBlock, block: Any, operation: Operation) -> bool:
    """Whether nothing but dropout comes after the last linear map of `attention` or `mlp`, tuners included."""
    if tuned.at("proj" if operation == "attention" else "fc2"):
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
        affine = cast(Tuner, tuner).affine()
        reads_its_input = operation in LINEAR_OPERATIONS or form == "sequential"
        if affine is None or (affine[0] is not None and not reads_its_input):
            return None
        terms.append((form, placed.scale(form), *affine))
    return terms
