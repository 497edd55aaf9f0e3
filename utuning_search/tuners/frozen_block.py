"""The frozen block around a tuner, as far as tuners may know it: its attention's projections and its norms."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from utuning_search.tuners.operations import Operation
from utuning_search.tuners.sites import Site


class FrozenBlock(ABC):
    """A frozen block of a backbone, as the tuners in it see it.

    Each family of backbones has its own; see `backbones/family.py`. It is no `nn.Module`: a tuner that keeps it owns
    none of the block's parameters.
    """

    @property
    @abstractmethod
    def softmax_scale(self) -> float:
        """What the products of queries and keys are multiplied with, before the softmax."""

    @abstractmethod
    def queries(self, x: Tensor) -> Tensor:
        """Frozen queries of residual-stream tokens x (batch, tokens, dim), before the attention's norm.

        Returns:
            (batch, heads, tokens, head_dim).
        """

    @abstractmethod
    def keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Frozen keys and values, each (heads of keys, length, head_dim), of tokens (length, dim) that need no norm."""

    @abstractmethod
    def project(self, mixed: Tensor) -> Tensor:
        """The frozen output projection, without its bias: (batch, tokens, heads * head_dim) to (batch, tokens, dim)."""

    @abstractmethod
    def weight(self, operation: Operation) -> Tensor:
        """The frozen weight (output width, input width) of a linear operation."""

    @abstractmethod
    def norm(self, operation: Operation) -> nn.Module:
        """The norm that stands before "attention" or "mlp", also named "norm1" and "norm2"."""

    def attend(self, x: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attn(x W_q, k, v) W_o with the block's frozen W_q and W_o, without W_o's bias.

        Args:
            x: (batch, tokens, dim), before the attention's norm.
            k: (heads of keys, length, head_dim); several heads of queries may share one.
            v: (heads of keys, length, head_dim).

        Returns:
            (batch, tokens, dim).
        """
        q = self.queries(x)
        k, v = shared(k, q.shape[1]), shared(v, q.shape[1])
        # Einsums over so few keys beat the fused kernel, and their backward is fast in bf16 on CPU too.
        weights = (q * self.softmax_scale @ k.to(q.dtype).transpose(-2, -1)).softmax(dim=-1)
        return self.project((weights @ v.to(weights.dtype)).transpose(1, 2).flatten(2))


def shared(rows: Tensor, heads: int) -> Tensor:
    """Keys or values (..., heads of keys, length, head_dim) for so many heads of queries, of which neighbours share."""
    groups = heads // rows.shape[-3]
    return rows if groups == 1 else rows.repeat_interleave(groups, dim=-3)


def keys_values_flops(site: Site, length: int) -> int:
    """FLOPs of `FrozenBlock.keys_values` of `length` tokens."""
    return 2 * length * site.in_dim * 2 * site.kv_heads * site.head_dim


def attend_flops(site: Site, tokens: int, length: int) -> int:
    """FLOPs of `FrozenBlock.attend` of `tokens` tokens to `length` keys: two projections and two products a head."""
    heads = site.num_heads * site.head_dim
    return 2 * tokens * heads * (site.in_dim + site.out_dim) + 4 * tokens * heads * length
