"""Differential attention (Ye et al., 2024, arXiv 2410.05258): of two softmaxes a head, one is subtracted.

A head has two halves of queries and keys, and values as wide as both: (softmax(q1 k1ᵀ s) - λ softmax(q2 k2ᵀ s)) v. What
it gives is normalised by itself and scaled by 1 - λ0, a constant of the block's depth.
"""

from typing import Any, ClassVar, cast

import torch.nn.functional as F
from torch import Tensor

from utuning_search.backbones.timm_block import TimmBlock


class DifferentialBlock(TimmBlock):
    """A block with timm's DiffAttention.

    Rows of tuners have a head's whole width, as what "k" and "v" give of a token: each half of a key joins its own
    softmax. Where tuners attend to rows of their own, heads are not normalised: that would blow up values that start
    at zero.
    """

    softmaxes: ClassVar[int] = 2

    def queries(self, x: Tensor) -> Tensor:
        return whole(super().queries(x))

    def keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        k, v = super().keys_values(tokens)
        return whole(k), v

    def attend(self, x: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q = halves(self.queries(x))
        weights = (q * self.softmax_scale @ halves(k).to(q.dtype).transpose(-2, -1)).softmax(dim=-1)
        mixed = difference(self.attn, weights) @ v.to(weights.dtype)
        return self.project(mixed.transpose(1, 2).flatten(2))

    def _joining(self, keys: Tensor) -> Tensor:
        return halves(keys)

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return mix(self.attn, q, k, v)


def mix(attn: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """timm's own steps from queries to heads: (batch, heads, tokens, head_dim).

    Args:
        attn: Of timm, with λ and the norm of heads.
        q: (batch, 2 * heads, tokens, head_dim / 2).
        k: (batch, 2 * heads, keys, head_dim / 2).
        v: (batch, heads, keys, head_dim).
    """
    if attn.fused_attn:
        drop = attn.attn_drop_p if attn.training else 0.0
        pairs = zip(_by_half(q).unbind(2), _by_half(k).unbind(2), strict=True)
        first, second = (F.scaled_dot_product_attention(a, b, v, dropout_p=drop) for a, b in pairs)
        mixed = first - _lambda(attn, q) * second
    else:
        weights = (q * attn.scale @ k.transpose(-2, -1)).softmax(dim=-1)
        mixed = difference(attn, attn.attn_drop(weights)) @ v
    return cast(Tensor, attn.sub_norm(mixed) * (1 - attn.lambda_init))


def difference(attn: Any, weights: Tensor) -> Tensor:
    """Softmaxes (batch, 2 * heads, tokens, keys), and of each two the second with λ subtracted from the first."""
    first, second = _by_half(weights).unbind(2)
    return first - _lambda(attn, weights) * second


def halves(x: Tensor) -> Tensor:
    """(..., heads, tokens, head_dim) to (..., 2 * heads, tokens, head_dim / 2)."""
    split: Tensor = x.unflatten(-1, (2, -1)).transpose(-3, -2)
    return split.flatten(-4, -3)


def whole(x: Tensor) -> Tensor:
    """(..., 2 * heads, tokens, head_dim / 2) to (..., heads, tokens, head_dim)."""
    split: Tensor = x.unflatten(-3, (-1, 2)).transpose(-3, -2)
    return split.flatten(-2)


def _by_half(x: Tensor) -> Tensor:
    """(batch, 2 * heads, ...) to (batch, heads, 2, ...)."""
    split: Tensor = x.unflatten(1, (-1, 2))
    return split


def _lambda(attn: Any, like: Tensor) -> Tensor:
    return cast(Tensor, attn._compute_lambda().type_as(like))
