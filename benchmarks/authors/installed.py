"""DoRA, (IA)³, VeRA and OFT in the library peft, on a timm ViT whose queries, keys and values have a map each."""

import importlib
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from utuning_search.backbones.tuned_model import TunedModel

from .checkout import Package
from .compare import Copy, Difference, compare, numbered, preset, vit

RANK = 4
PATHS = {"q": "attn.q", "k": "attn.k", "v": "attn.v", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}


class SplitAttention(nn.Module):
    """timm's attention with its fused map cut into those of queries, keys and values; (batch, tokens, width)."""

    def __init__(self, fused: Any) -> None:
        super().__init__()
        self.heads = fused.num_heads
        weights, biases = fused.qkv.weight.chunk(3), fused.qkv.bias.chunk(3)
        self.q, self.k, self.v = (linear(weight, bias) for weight, bias in zip(weights, biases, strict=True))
        self.proj = fused.proj

    def forward(self, x: Tensor, **settings: Any) -> Tensor:
        assert not any(settings.values())
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    with torch.no_grad():
        made.weight.copy_(weight)
        made.bias.copy_(bias)
    return made


def split_vit() -> VisionTransformer:
    """`vit` with a map each for queries, keys and values."""
    theirs = vit()
    for block in theirs.blocks:
        block.attn = cast(Any, SplitAttention(block.attn))
    return theirs


def places(model: TunedModel, theirs: VisionTransformer, operations: str) -> Iterator[tuple[str, str, Any]]:
    """Where our tuners of a block are, the operation, and peft's layer there."""
    for (name, _), block in zip(numbered(model), theirs.blocks, strict=True):
        for operation in operations.split():
            yield f"{name}.added.{operation}", operation, block.get_submodule(PATHS[operation])


def inserted(package: Package, theirs: VisionTransformer, at: str, config: str, **settings: Any) -> VisionTransformer:
    """`theirs` after peft has put its layers into it, at the operations that `at` names."""
    peft: Any = importlib.import_module(package.name)
    settings["target_modules"] = [PATHS[operation] for operation in at.split()]
    peft.get_peft_model(theirs, getattr(peft, config)(**settings), autocast_adapter_dtype=False)  # in place
    return theirs.double().eval()


def dora(package: Package) -> Difference:
    model, at = preset(vit(), "dora", rank=RANK), "q k v fc1 fc2"
    theirs = inserted(package, split_vit(), at, "LoraConfig", r=RANK, lora_alpha=RANK, use_dora=True)
    pairs = []
    for ours, _, layer in places(model, theirs, at):
        length = layer.base_layer.weight.detach().norm(dim=1)
        own = layer.lora_magnitude_vector["default"].weight
        pairs.append(Copy(layer.lora_A["default"].weight, (f"{ours}.dora.parallel.a",)))
        pairs.append(Copy(layer.lora_B["default"].weight, (f"{ours}.dora.parallel.b",)))
        pairs.append(Copy(own, (f"{ours}.dora.parallel.magnitude",), shift=length))
    return compare(model, theirs, pairs)


def ia3(package: Package) -> Difference:
    model, at = preset(vit(), "ia3"), "k v fc2"
    theirs = inserted(package, split_vit(), at, "IA3Config", feedforward_modules=[PATHS["fc2"]])
    names = {
        "k": "scale_shift.sequential.gamma",
        "v": "scale_shift.sequential.gamma",
        "fc2": "rescale.parallel.columns",
    }
    pairs = [
        Copy(layer.ia3_l["default"], (f"{ours}.{names[operation]}",), shift=1.0)
        for ours, operation, layer in places(model, theirs, at)
    ]
    return compare(model, theirs, pairs)


def vera(package: Package) -> Difference:
    """The frozen random pair is ours too: theirs is drawn from another random stream."""
    model, at = preset(vit(), "vera", rank=RANK), "q v"
    theirs = inserted(package, split_vit(), at, "VeraConfig", r=RANK)
    drawn = dict(model.tuners.named_buffers())
    pairs = []
    for ours, _, layer in places(model, theirs, at):
        layer.vera_A["default"] = drawn["shared.vera_4_64_64.a"]
        layer.vera_B["default"] = drawn["shared.vera_4_64_64.b"]
        pairs.append(Copy(layer.vera_lambda_d["default"], (f"{ours}.vera.parallel.d",)))
        pairs.append(Copy(layer.vera_lambda_b["default"], (f"{ours}.vera.parallel.b",)))
    return compare(model, theirs, pairs)


def oft(package: Package) -> Difference:
    """With Cayley's transform as in the paper, which the library has a series for."""
    model, at = preset(vit(), "oft", parts=8), "q k v proj"
    theirs = inserted(package, split_vit(), at, "OFTConfig", oft_block_size=8, use_cayley_neumann=False)
    pairs = [
        Copy(layer.oft_R["default"].weight, (f"{ours}.oft.parallel.angles",))
        for ours, _, layer in places(model, theirs, at)
    ]
    return compare(model, theirs, pairs)
