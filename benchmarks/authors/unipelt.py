"""UniPELT: its attention, with gated LoRA and gated prefix, and its gated adapter, in pre-norm blocks of a ViT."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from .checkout import Checkout, StandIn
from .compare import Copy, Difference, bottleneck, compare, numbered, preset, vit, with_blocks

WIDTH, HEADS, LENGTH, RANK, BOTTLENECK = 64, 4, 3, 2, 4
PARENTS = ("activations", "adapters", "adapters.model_mixin", "adapters.models", "adapters.models.bert", "file_utils")
CONFIG = {
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "attention_probs_dropout_prob": 0.0,
    "is_decoder": False,
    "add_lora": True,
    "lora_r": RANK,
    "lora_alpha": 16,
    "add_lora_gate": True,
    "add_prefix_gate": True,
    "add_central_gate": False,
}


def compared(checkout: Checkout) -> Difference:
    given: dict[str, Any] = {"lora_layers": checkout.load("lora_layers.py")}
    for name in (*PARENTS, "modeling_outputs", "modeling_utils", "utils", "models.bert.configuration_bert"):
        given[f".transformers.{name}"] = StandIn()
    bert = checkout.load("transformers/models/bert/modeling_bert.py", given)
    adapters = checkout.load("transformers/adapters/modeling.py")
    backbone = vit()
    model = preset(backbone, "unipelt", rank=RANK, length=LENGTH, adapter_rank=BOTTLENECK)
    blocks, pairs = [], []
    for name, block in numbered(model):
        attention = attending(bert, block)
        for part, own in (("q", attention.query), ("v", attention.value)):
            at = f"{name}.added.{part}.lora.parallel"
            pairs += [
                Copy(own.lora_A, (f"{at}.a",)),
                Copy(own.lora_B, (f"{at}.b",)),
                *gate(f"{at}_gate", own.lora_gate),
            ]
        at = f"{name}.inside.attention.prefix"
        shape = (HEADS, LENGTH, WIDTH // HEADS)
        prefix = [nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for _ in range(2)]
        pairs += [Copy(rows, (f"{at}.{kind}",)) for kind, rows in zip(("keys", "values"), prefix, strict=True)]
        pairs += gate(f"{at}.gate", attention.prefix_gate)
        adapter = adapters.Adapter(WIDTH, BOTTLENECK, "relu", add_layer_norm_before=False, add_gate=True).double()
        at = "added.block.adapter.sequential"
        pairs += bottleneck(name, at, adapter.adapter_down[0], adapter.adapter_up)
        pairs += gate(f"{name}.{at}_gate", adapter.gate)
        blocks.append(partial(run, block, attention, prefix, adapter))
    return compare(model, lambda images: with_blocks(backbone, blocks, images), pairs)


def attending(bert: Any, block: Any) -> Any:
    """Their attention with the frozen projections of a block."""
    attention = bert.BertSelfAttention(SimpleNamespace(**CONFIG), 0).double()
    for kind in ("weight", "bias"):
        parts = getattr(block.attn.qkv, kind).detach().chunk(3)
        for own, part in zip((attention.query, attention.key, attention.value), parts, strict=True):
            getattr(own, kind).data.copy_(part)
    return attention


def gate(ours: str, theirs: nn.Module) -> list[Copy]:
    return [Copy(parameter, (f"{ours}.{name}",)) for name, parameter in theirs.named_parameters()]


def run(block: Any, attention: Any, prefix: list[Tensor], adapter: Any, x: Tensor) -> Tensor:
    rows = [part.expand(len(x), -1, -1, -1) for part in prefix]
    x = x + block.attn.proj(attention(block.norm1(x), prefix_embed=rows)[0])
    x = x + block.mlp(block.norm2(x))
    out: Tensor = adapter(x, residual_input=x)[0]
    return out
