"""The frozen attention of a timm block, seen by the tuners that borrow its projections."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.tuners.base import Site


def heads(x: Tensor, attention: Any) -> Tensor:
    """Split (..., tokens, heads * head_dim) into (..., heads, tokens, head_dim)."""
    split: Tensor = x.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(-3, -2)
    return split


def query(block: Any, x: Tensor) -> Tensor:
    """Frozen queries of residual-stream tokens x (batch, tokens, dim): (batch, heads, tokens, head_dim)."""
    attention = block.attn
    width = attention.num_heads * attention.head_dim
    bias = attention.qkv.bias
    q = F.linear(block.norm1(x), attention.qkv.weight[:width], None if bias is None else bias[:width])
    split: Tensor = attention.q_norm(heads(q, attention))
    return split


def keys_values(block: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Frozen keys and values of tokens (length, dim), each (heads, length, head_dim)."""
    attention = block.attn
    width = attention.num_heads * attention.head_dim
    bias = attention.qkv.bias
    kv = F.linear(tokens, attention.qkv.weight[width:], None if bias is None else bias[width:])
    k, v = kv.split(width, dim=-1)
    return attention.k_norm(heads(k, attention)), heads(v, attention)


def keys_values_flops(site: Site, length: int) -> int:
    """FLOPs of `keys_values` of `length` tokens."""
    return 2 * length * site.in_dim * 2 * site.num_heads * site.head_dim


def attend_flops(site: Site, tokens: int, length: int) -> int:
    """FLOPs of `attend` of `tokens` tokens to `length` keys: two projections and two products a head."""
    heads = site.num_heads * site.head_dim
    return 2 * tokens * heads * (site.in_dim + site.out_dim) + 4 * tokens * heads * length


def attend(block: Any, x: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attn(x W_q, k, v) W_o with the block's frozen W_q and W_o, without W_o's bias.

    Args:
        block: A timm block.
        x: (batch, tokens, dim), before norm1.
        k: (heads, length, head_dim).
        v: (heads, length, head_dim).

    Returns:
        (batch, tokens, dim).
    """
    attention = block.attn
    q = query(block, x)
    # Einsums over so few keys beat the fused kernel, and their backward is fast in bf16 on CPU too.
    weights = (q * attention.scale @ k.to(q.dtype).transpose(-2, -1)).softmax(dim=-1)
    mixed = (weights @ v.to(weights.dtype)).transpose(1, 2).flatten(2)
    projection: nn.Linear = attention.proj
    return F.linear(mixed, projection.weight)
