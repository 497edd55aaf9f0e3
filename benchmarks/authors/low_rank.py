"""LoRA's own library, and MLAE."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.tuners.experts import Experts

from .checkout import Checkout, StandIn
from .compare import Copy, Difference, compare, numbered, preset, vit

LINEAR = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}


def replaced(block: nn.Module, path: str, made: nn.Linear) -> nn.Linear:
    """`made` in the place of a linear map of a frozen block, with its weights."""
    parent, _, last = path.rpartition(".")
    old = cast(nn.Linear, block.get_submodule(path))
    made.double().load_state_dict(old.state_dict(), strict=False)
    setattr(block.get_submodule(parent), last, made)
    return made


def lora_all(checkout: Checkout) -> Difference:
    original = checkout.load("loralib/layers.py")
    rank, theirs = 4, vit()
    model = preset(vit(), "lora-all", rank=rank)
    pairs = []
    for (name, _), block in zip(numbered(model), theirs.blocks, strict=True):
        for operation, path in LINEAR.items():
            old = cast(nn.Linear, block.get_submodule(path))
            own: Any = replaced(block, path, original.Linear(old.in_features, old.out_features, rank, lora_alpha=rank))
            at = f"{name}.added.{operation}.lora.parallel"
            pairs += [Copy(own.lora_A, (f"{at}.a",)), Copy(own.lora_B, (f"{at}.b",))]
    return compare(model, theirs, pairs)


def lora(checkout: Checkout) -> Difference:
    """Its map for fused projections, for queries and values."""
    original = checkout.load("loralib/layers.py")
    rank, theirs = 4, vit()
    model = preset(vit(), "lora", rank=rank)
    pairs = []
    for (name, _), block in zip(numbered(model), theirs.blocks, strict=True):
        parts = [True, False, True]
        own: Any = original.MergedLinear(64, 192, rank, lora_alpha=rank, enable_lora=parts)
        replaced(block, "attn.qkv", own)
        for letter, tensor in (("a", own.lora_A), ("b", own.lora_B)):
            names = tuple(f"{name}.added.{part}.lora.parallel.{letter}" for part in "qv")
            pairs.append(Copy(tensor, names, lambda *both: torch.cat(both)))
    return compare(model, theirs, pairs)


def kept(model: TunedModel) -> Iterator[Tensor]:
    """The experts that our tuners' next step of training keeps, in the order of a forward; their streams stay."""
    for name, _ in numbered(model):
        for operation in ("qkv", "proj"):
            module = cast(Experts, model.tuners.get_submodule(f"{name}.added.{operation}.experts.parallel"))
            copy = torch.Generator()
            copy.set_state(module._stream.get_state())
            yield (torch.rand(len(module.a), generator=copy) >= module.dropout).double()


def mlae(checkout: Checkout, training: bool) -> Difference:
    original = checkout.load("mlae.py", {"transformers": StandIn()})
    rank, dropout, theirs = 6, 0.25, vit()
    model = preset(vit(), "mlae", rank=rank, dropout=dropout).train(training)
    pairs = []
    for (name, _), block in zip(numbered(model), theirs.blocks, strict=True):
        for operation in ("qkv", "proj"):
            old = cast(nn.Linear, block.get_submodule(LINEAR[operation]))
            made = original.MLAE_Linear(old.in_features, old.out_features, rank, drop_rate=dropout)
            own: Any = replaced(block, LINEAR[operation], made)
            own.train(training)
            at = f"{name}.added.{operation}.experts.parallel"
            pairs += [Copy(own.lora_A, (f"{at}.a",)), Copy(own.lora_B, (f"{at}.b",), lambda b: b.T)]
    if training:  # ours draws from a stream of its own; theirs is given the same experts
        masks = iter(list(kept(model)))

        def drop(coefficients: Tensor, p: float, training: bool) -> Tensor:
            assert training
            return coefficients * next(masks) / (1 - p)

        original.F = SimpleNamespace(linear=F.linear, dropout=drop)
    return compare(model, theirs, pairs, "a coefficient of each expert, here at its start, 1")
