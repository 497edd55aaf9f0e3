"""A LoRA design in the format of Hugging Face peft: adapter_config.json and adapter_model.safetensors.

Everything that a design adds to one linear map becomes one LoRA of it: factors side by side, scales folded into B.
So LoRA of q and v is one of the fused qkv, with zeros where it adds nothing.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from utuning_search.backbones.family import BackboneAdapter, LinearPart
from utuning_search.backbones.vit import VisionTransformerAdapter, linear_name
from utuning_search.common.errors import InputError
from utuning_search.common.files import write_atomically
from utuning_search.designs.design import Design, Placement
from utuning_search.tuners import LINEAR_OPERATIONS, QKV_PARTS, BackboneShape, Operation

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
KINDS = ("lora", "experts")  # rank-1 experts are LoRA once they are trained
PREFIX = "base_model.model."


def check_peft(design: Design) -> None:
    """Raise InputError, in one line that says why, unless peft can hold the design."""
    for placement in design.placements:
        why = _obstacle(placement)
        if why:
            rule = "peft holds LoRA in parallel form at linear maps, with constant scales"
            raise InputError("--format peft", rule, f"{placement}: {why}", "Export it without --format.")
    if not design.placements:
        raise InputError("--format peft", "the design has a LoRA", "a linear probe", "Export it without --format.")


def check_layers(design: Design, adapter: BackboneAdapter) -> None:
    """Raise InputError unless each LoRA is around one layer of the backbone, and the backbone calls that layer.

    Families other than VisionTransformer compute with a layer's weight by themselves.
    """
    todo = "Export it with --format timm, onnx or torch."
    if not isinstance(adapter, VisionTransformerAdapter):
        raise InputError("--format peft", f"the backbone is {VisionTransformerAdapter.named}", adapter.named, todo)
    block = next(iter(adapter.blocks))
    for placement in design.placements:
        if not isinstance(block.linear(placement.operation), LinearPart):
            raise InputError("--format peft", "a LoRA is around one layer", f"{placement}: around two", todo)


def write_peft(
    design: Design, tensors: Mapping[str, Tensor], shape: BackboneShape, base_model: str, folder: Path
) -> None:
    """Write both files into `folder`; the head is saved with them, as peft's `modules_to_save`.

    Args:
        design: Resolved.
        tensors: What `TunedModel.tuner_state_dict` gave.
        shape: Of the backbone.
        base_model: Name of the timm model.
        folder: Exists.

    Raises:
        InputError: peft cannot hold the design.
    """
    check_peft(design)
    factors = _factors(design, tensors, shape)
    ranks = {name: a.shape[0] for name, (a, _) in factors.items()}
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "bias": "none",
        "r": max(ranks.values()),
        "lora_alpha": max(ranks.values()),
        "lora_dropout": 0.0,
        "target_modules": sorted(factors),
        "rank_pattern": ranks,
        "alpha_pattern": ranks,  # alpha / r = 1: scales are folded into B
        "modules_to_save": ["head"],
    }
    saved = {f"{PREFIX}{name}": tensors[name].contiguous() for name in ("head.weight", "head.bias")}
    for name, (a, b) in factors.items():
        saved[f"{PREFIX}{name}.lora_A.weight"] = a.contiguous()
        saved[f"{PREFIX}{name}.lora_B.weight"] = b.contiguous()
    write_atomically(folder / ADAPTER_WEIGHTS, safetensors.torch.save(saved, metadata={"format": "pt"}))
    write_atomically(folder / ADAPTER_CONFIG, json.dumps(config, indent=2) + "\n")


def _obstacle(placement: Placement) -> str:
    if placement.tuner.kind not in KINDS:
        return f"{placement.tuner.named} is no LoRA"
    if placement.form != "parallel":
        return f"its form is {placement.form}"
    return "" if placement.scale == "none" or isinstance(placement.scale, float) else f"its scale is {placement.scale}"


def _factors(design: Design, tensors: Mapping[str, Tensor], shape: BackboneShape) -> dict[str, tuple[Tensor, Tensor]]:
    """A (rank, inputs) and B (outputs, rank) by name of the linear map."""
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for name in [n for n in tensors if n.endswith(".parallel.a")]:
        # tuners.block_3.added.qkv.lora.parallel.a; two of a kind at one map are lora and lora_2, in the design's order
        _, block_name, _, operation, label, *_ = name.split(".")
        block = int(block_name.removeprefix("block_"))
        a, b = tensors[name], tensors[name.removesuffix("a") + "b"]
        scaled = _constant(design, block, operation, label) * b
        target = linear_name(block, _operation(operation))
        found.setdefault(target, []).append((a, _rows(_operation(operation), scaled, shape)))
    return {
        name: (torch.cat([a for a, _ in parts], dim=0), torch.cat([b for _, b in parts], dim=1))
        for name, parts in sorted(found.items())
    }


def _operation(name: str) -> Operation:
    known: tuple[Operation, ...] = LINEAR_OPERATIONS
    return known[known.index(name)]


def _constant(design: Design, block: int, operation: str, label: str) -> float:
    kind, _, count = label.partition("_")
    same = [
        p for p in design.placements if p.operation == operation and p.tuner.kind == kind and block in p.block_numbers()
    ]
    scale = same[int(count or 1) - 1].scale
    return scale if isinstance(scale, float) else 1.0


def _rows(operation: Operation, b: Tensor, shape: BackboneShape) -> Tensor:
    """B of the fused qkv map from that of one of its parts."""
    if operation not in QKV_PARTS:
        return b
    heads = shape.num_heads * shape.head_dim
    whole = b.new_zeros(3 * heads, b.shape[1])
    start = QKV_PARTS.index(operation) * heads
    whole[start : start + heads] = b
    return whole
