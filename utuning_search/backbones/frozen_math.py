"""A frozen attention and a frozen MLP, forward and backward by hand: gradients of their inputs only.

Autograd does the same in many small steps, and keeps and copies more. In fp32 these are the same products in the same
order; in bf16 products of matrices are in bf16 and sums of short rows in fp32, as CPUs are fast at either.

Weights are (output width, input width), as of `nn.Linear`; tokens (batch, tokens, dim) come in fp32 or bf16, gradients
go back in the dtype of what came in.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

HALF_ROW = 32  # numbers of bf16 in a vector of AVX-512; softmax of shorter rows takes them one by one


@dataclass(frozen=True)
class Weights:
    """Weight and bias of a frozen linear map in the precision that it computes in."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """(..., input width) to (..., output width), in the dtype of the weight."""
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


def core_dtype(dtype: torch.dtype, keys: int) -> torch.dtype:
    """In which precision rows of so many keys are best summed, where products of matrices are in `dtype`."""
    return torch.float32 if keys < HALF_ROW else dtype


def mix(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """softmax(q kᵀ scale) v of queries, keys and values (batch, heads, tokens or keys, head_dim); of no dropout."""
    dtype = core_dtype(q.dtype, k.shape[2])
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    return (q * scale @ k.transpose(-2, -1)).softmax(dim=-1) @ v


def attention(x: Tensor, qkv: Weights, proj: Weights, heads: int, scale: float) -> Tensor:
    """Multi-head self-attention of normalised tokens x, in the dtype of the weights."""
    return cast(Tensor, _Attention.apply(x, qkv.weight, qkv.bias, proj.weight, proj.bias, heads, scale))


def mlp(x: Tensor, fc1: Weights, fc2: Weights, approximate: str) -> Tensor:
    """fc2(gelu(fc1 x)) of normalised tokens x, in the dtype of the weights."""
    return cast(Tensor, _Mlp.apply(x, fc1.weight, fc1.bias, fc2.weight, fc2.bias, approximate))


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, u: Tensor, c: Tensor | None, heads: int, scale: float
    ) -> Tensor:
        batch, tokens, _ = x.shape
        with _exactly():
            core = core_dtype(w.dtype, tokens)
            parts = F.linear(x.to(w.dtype), w, b).view(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
            rows = parts.to(core, memory_format=torch.contiguous_format, copy=True).flatten(1, 2)
            q, k, v = rows.unbind(0)  # (batch * heads, tokens, head_dim)
            q *= scale
            weights = torch.bmm(q, k.transpose(1, 2)).softmax(dim=-1)
            mixed = _joined(torch.bmm(weights, v), batch, u.dtype)
            ctx.save_for_backward(rows, weights, w, u)
            ctx.scale, ctx.dtype = scale, x.dtype
            return F.linear(mixed, u, c)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weights, w, u = ctx.saved_tensors
        q, k, v = rows.unbind(0)
        batch, tokens, _ = grad.shape
        with _exactly():
            mixed = (grad.to(u.dtype).flatten(0, 1) @ u).view(batch, tokens, -1, v.shape[-1]).transpose(1, 2)
            mixed = mixed.to(rows.dtype, memory_format=torch.contiguous_format).flatten(0, 1)
            found = torch.empty_like(rows)
            torch.bmm(weights.transpose(1, 2), mixed, out=found[2])
            of_weights = torch.bmm(mixed, v.transpose(1, 2))
            logits = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            torch.bmm(logits, k, out=found[0]).mul_(ctx.scale)
            torch.bmm(logits.transpose(1, 2), q, out=found[1])
            parts = found.view(3, batch, -1, tokens, v.shape[-1]).permute(1, 3, 0, 2, 4)
            parts = parts.to(w.dtype, memory_format=torch.contiguous_format).reshape(batch, tokens, -1)
            return (parts @ w).to(ctx.dtype), None, None, None, None, None, None


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, u: Tensor, c: Tensor | None, approximate: str
    ) -> Tensor:
        with _exactly():
            hidden = F.linear(x.to(w.dtype), w, b)
            ctx.save_for_backward(hidden, w, u)
            ctx.approximate, ctx.dtype = approximate, x.dtype
            return F.linear(F.gelu(hidden, approximate=approximate), u, c)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, w, u = ctx.saved_tensors
        with _exactly():
            found = torch.ops.aten.gelu_backward(grad.to(u.dtype) @ u, hidden, approximate=ctx.approximate)
            return (found @ w).to(ctx.dtype), None, None, None, None, None


def _joined(heads: Tensor, batch: int, dtype: torch.dtype) -> Tensor:
    """(batch * heads, tokens, head_dim) to (batch, tokens, heads * head_dim)."""
    split = heads.view(batch, -1, *heads.shape[1:]).transpose(1, 2)
    return split.to(dtype, memory_format=torch.contiguous_format).flatten(2)


def _exactly() -> torch.autocast:
    """Each operation in the dtype that it is given."""
    return torch.autocast("cpu", enabled=False)
