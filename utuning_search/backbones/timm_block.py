"""A pre-norm block as families of timm build it: attention and MLP followed step by step, with tuners in between."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from timm.layers import GluMlp, SwiGLU
from torch import Tensor, nn

from utuning_search.backbones.family import BackboneBlock, BlockTuners, LinearMap, LinearPart
from utuning_search.backbones.linear_maps import SplitBias, StackedLinear
from utuning_search.tuners import LINEAR_OPERATIONS, QKV_PARTS, FrozenBlock, Operation
from utuning_search.tuners.frozen_block import shared


class Untuned(BlockTuners):
    """No tuners, for a block that has to be run step by step all the same."""

    def touches(self, *operations: Operation) -> bool:
        del operations
        return False

    def add(self, operation: Operation, block: FrozenBlock, x: Tensor, y: Tensor) -> Tensor:
        del operation, block, x
        return y

    def normalise(self, operation: Operation, norm: nn.Module, x: Tensor) -> Tensor:
        del operation
        return cast(Tensor, norm(x))

    def rows(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        del x
        return []


class TimmBlock(BackboneBlock):
    """x + attention(norm1 x), then x + mlp(norm2 x), with an attention that may know where tokens stand.

    What it knows of that, rotations of queries and keys or biases of their products, is about the model's own tokens.
    Tokens that tuners insert stand between the prefix tokens and the patches and have no place in the image, and nor
    have keys and values that join the softmax: neither is rotated, nor biased.

    Queries, keys and values may come from one map or from three, which are "qkv" together; a gated MLP's two maps are
    "fc1" together, gate first, whether they are kept in one module or in two.

    Attributes:
        softmaxes: Of a head, each with its share of queries and keys; its values are as wide as all.
    """

    softmaxes: ClassVar[int] = 1

    def __init__(self, block: nn.Module) -> None:
        self._block: Any = block  # nn.Module's own typing knows nothing of its attributes

    # What a family adds

    @abstractmethod
    def _bare(self, x: Tensor) -> Tensor:
        """The model's own block on as many tokens as the model has."""

    @abstractmethod
    def _bare_attention(self, x: Tensor) -> Tensor:
        """The model's own attention on as many normalised tokens as the model has."""

    @abstractmethod
    def _is_longer(self, x: Tensor) -> bool:
        """Whether x (batch, tokens, dim) has more tokens than the model's own modules know the places of."""

    def _placed(self, x: Sequence[Tensor], like: Tensor) -> list[Tensor]:
        """Queries or keys (batch, heads, tokens, head_dim), turned by each token's place, in the dtype of `like`."""
        del like
        return list(x)

    def _biases(self, tokens: int, keys: int) -> list[Tensor]:
        """What is added to the products of queries and keys, each (heads, tokens, keys) or a batch of one of it."""
        del tokens, keys
        return []

    def _end(self, number: Literal[1, 2], x: Tensor) -> Tensor:
        """What comes after the attention (1) or the MLP (2), before x joins the residual stream."""
        gamma, drop = self._ends(number)
        return cast(Tensor, drop(x if gamma is None else gamma * x))

    def _ends(self, number: Literal[1, 2]) -> tuple[Any, nn.Module]:
        """Layer scale, or None or an identity where there is none, and stochastic depth."""
        block = self._block
        return (block.gamma_1, block.drop_path1) if number == 1 else (block.gamma_2, block.drop_path2)

    @property
    def attn(self) -> Any:
        """timm's attention."""
        return self._block.attn

    # What tuners borrow

    @property
    def softmax_scale(self) -> float:
        scale: float = self.attn.scale
        return scale

    def queries(self, x: Tensor) -> Tensor:
        q = _apply(self.linear("q"), self._normalised(x))
        (placed,) = self._placed([self._query_heads(q)], q)
        return placed

    def _normalised(self, x: Tensor) -> Tensor:
        """What the attention reads of the residual stream."""
        return cast(Tensor, self._block.norm1(x))

    def keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        k, v = (_apply(self.linear(part), tokens) for part in QKV_PARTS[1:])
        return self._key_heads(k), _split(v, self.kv_heads)

    def project(self, mixed: Tensor) -> Tensor:
        return F.linear(mixed, self.attn.proj.weight)

    def norm(self, operation: Operation) -> nn.Module:
        return cast(nn.Module, self._block.norm1 if operation in ("attention", "norm1") else self._block.norm2)

    # Its parts

    def widths(self, operation: Operation) -> tuple[int, int]:
        if operation not in LINEAR_OPERATIONS:
            width: int = self.attn.proj.out_features
            return width, width
        return self.linear(operation).widths

    def linear(self, operation: Operation) -> LinearMap:
        attention, mlp = self.attn, self._block.mlp
        if operation in ("proj", "attention"):
            return _all_of(attention.proj)
        if operation in ("fc2", "mlp"):
            return _all_of(mlp.fc2)
        if operation == "fc1":
            return StackedLinear((mlp.fc1_g, mlp.fc1_x)) if isinstance(mlp, SwiGLU) else _all_of(mlp.fc1)
        if attention.qkv is None:
            maps = (attention.q_proj, attention.k_proj, attention.v_proj)
            return StackedLinear(maps) if operation == "qkv" else _all_of(maps[QKV_PARTS.index(operation)])
        rows = slice(0, attention.qkv.out_features)
        if operation in QKV_PARTS:
            count = rows.stop // len(QKV_PARTS)
            rows = slice(QKV_PARTS.index(operation) * count, (QKV_PARTS.index(operation) + 1) * count)
        split = getattr(attention, "q_bias", None) is not None
        return SplitBias(attention, rows) if split else LinearPart(attention.qkv, rows)

    def ends_in_linear(self, operation: Operation) -> bool:
        if operation not in ("attention", "mlp"):
            return True
        return all(e is None or isinstance(e, nn.Identity) for e in self._ends(1 if operation == "attention" else 2))

    # Its forward pass

    def __call__(self, x: Tensor) -> Tensor:
        return self.run(x, Untuned()) if self._is_longer(x) else self._bare(x)

    def run(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        y = x + tuners.add("attention", self, x, self._attention(x, tuners))
        return y + tuners.add("mlp", self, y, self._mlp(y, tuners))

    def _attention(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        h = tuners.add("norm1", self, x, tuners.normalise("attention", self._block.norm1, x))
        return tuners.add("mhsa", self, h, self._end(1, self._through_attention(h, tuners)))

    def _through_attention(self, h: Tensor, tuners: BlockTuners) -> Tensor:
        """The attention of what it reads, as a whole where nothing stands inside."""
        rows = tuners.rows(h)
        whole = not rows and not self._is_longer(h) and not tuners.touches("qkv", *QKV_PARTS, "proj")
        return self._bare_attention(h) if whole else self._attend(h, rows, tuners)

    def _attend(self, x: Tensor, rows: list[tuple[Tensor, Tensor]], tuners: BlockTuners) -> Tensor:
        """timm's own forward pass step by step, with tuners at its linear maps and rows in its softmax."""
        attn = self.attn
        gate = getattr(attn, "gate", None)
        opened = None if gate is None else gate(x).sigmoid()
        mixed = _through(attn, "norm", self._mixed_heads(self._qkv(x, tuners), rows))
        mixed = mixed if opened is None else mixed * opened
        return cast(Tensor, attn.proj_drop(tuners.add("proj", self, mixed, attn.proj(mixed))))

    def _mixed_heads(self, qkv: Tensor, rows: list[tuple[Tensor, Tensor]]) -> Tensor:
        """What "qkv" gives, with rows of tuners in the softmax: heads side by side, (batch, tokens, width)."""
        q, k, v = qkv.split(self._parts, dim=-1)
        v = _split(v, self.kv_heads)
        q, k = self._placed([self._query_heads(q), self._key_heads(k)], v)
        for keys, values in rows:
            k = torch.cat([self._joining(keys).to(k.dtype).expand(k.shape[0], -1, -1, -1), k], dim=2)
            v = torch.cat([values.to(v.dtype).expand(v.shape[0], -1, -1, -1), v], dim=2)
        return self._mixed(q, k, v).transpose(1, 2).flatten(2)

    def _joining(self, keys: Tensor) -> Tensor:
        """Keys of tuners (..., heads of keys, length, head_dim) as the softmax takes them."""
        return keys

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Values, mixed for each query: (batch, heads, tokens, head_dim)."""
        attn = self.attn
        k, v = shared(k, attn.num_heads), shared(v, attn.num_heads)
        biases = self._biases(q.shape[2], k.shape[2])
        if attn.fused_attn:
            drop = attn.attn_drop.p if attn.training else 0.0
            mask = reduce(torch.add, biases) if biases else None
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=drop)
        logits = reduce(torch.add, biases, q * attn.scale @ k.transpose(-2, -1))
        return cast(Tensor, attn.attn_drop(logits.softmax(dim=-1)) @ v)

    def _qkv(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        attn = self.attn
        if attn.qkv is None:
            qkv = torch.cat([attn.q_proj(x), attn.k_proj(x), attn.v_proj(x)], dim=-1)
        elif getattr(attn, "q_bias", None) is None:
            qkv = attn.qkv(x)
        else:
            bias = torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])
            qkv = attn.qkv(x) + bias if attn.qkv_bias_separate else F.linear(x, attn.qkv.weight, bias)
        return self._tuned_qkv(qkv, x, tuners)

    def _tuned_qkv(self, qkv: Tensor, x: Tensor, tuners: BlockTuners) -> Tensor:
        """What the map to queries, keys and values gives of x, with tuners at it and at its parts."""
        qkv = tuners.add("qkv", self, x, qkv)
        if not tuners.touches(*QKV_PARTS):
            return qkv
        parts = qkv.split(self._parts, dim=-1)
        return torch.cat([tuners.add(p, self, x, y) for p, y in zip(QKV_PARTS, parts, strict=True)], dim=-1)

    def _mlp(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        h = tuners.add("norm2", self, x, tuners.normalise("mlp", self._block.norm2, x))
        return tuners.add("ffn", self, h, self._end(2, self._hidden(h, tuners)))

    def _hidden(self, h: Tensor, tuners: BlockTuners) -> Tensor:
        """The MLP itself, with tuners at its linear maps."""
        mlp = self._block.mlp
        if tuners.touches("fc1", "fc2"):
            split = isinstance(mlp, SwiGLU)
            h = tuners.add("fc1", self, h, torch.cat([mlp.fc1_g(h), mlp.fc1_x(h)], dim=-1) if split else mlp.fc1(h))
            if split or isinstance(mlp, GluMlp):
                gate, value = h.chunk(2, dim=-1)
                if split:  # as timm has them in memory: activations of others differ in their last bits
                    gate, value = gate.contiguous(), value.contiguous()
                elif mlp.gate_last:
                    gate, value = value, gate
                h = mlp.act(gate) * value
            else:
                h = mlp.act(h)
            h = mlp.norm(mlp.drop1(h))
            return cast(Tensor, mlp.drop2(tuners.add("fc2", self, h, mlp.fc2(h))))
        return cast(Tensor, mlp(h))

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values, which several heads of queries may share."""
        heads: int = getattr(self.attn, "num_kv_heads", self.attn.num_heads)
        return heads

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.linear("v").widths[1] // self.kv_heads

    def norms(self) -> Sequence[nn.Module]:
        """Its norms that are operations."""
        return self._block.norm1, self._block.norm2

    @property
    def _parts(self) -> list[int]:
        """Output widths of "q", "k" and "v"."""
        return [self.linear(part).widths[1] for part in QKV_PARTS]

    def _query_heads(self, q: Tensor) -> Tensor:
        """What "q" gives, normalised by heads: (..., heads, tokens, head_dim)."""
        return _through(self.attn, "q_norm", _split(q, self.softmaxes * self.attn.num_heads))

    def _key_heads(self, k: Tensor) -> Tensor:
        """What "k" gives, normalised by heads: (..., heads of keys, tokens, head_dim)."""
        return _through(self.attn, "k_norm", _split(k, self.softmaxes * self.kv_heads))


class LayerScaledBlock(TimmBlock):
    """A block whose layer scale is a module of its own, or an identity."""

    def _end(self, number: Literal[1, 2], x: Tensor) -> Tensor:
        scale, drop = self._ends(number)
        return cast(Tensor, drop(scale(x)))

    def _ends(self, number: Literal[1, 2]) -> tuple[Any, nn.Module]:
        block = self._block
        return (block.ls1, block.drop_path1) if number == 1 else (block.ls2, block.drop_path2)


class PostNormBlock(TimmBlock):
    """x + norm1(attention x), then x + norm2(mlp x).

    So `mhsa` and `ffn` read the residual stream, what is added there is normalised, and `norm1` and `norm2` come last.
    """

    def _normalised(self, x: Tensor) -> Tensor:
        return x

    def ends_in_linear(self, operation: Operation) -> bool:
        return operation not in ("attention", "mlp")

    def _end(self, number: Literal[1, 2], x: Tensor) -> Tensor:
        drop = self._block.drop_path1 if number == 1 else self._block.drop_path2
        return cast(Tensor, drop(x))

    def _attention(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        y = tuners.add("mhsa", self, x, self._through_attention(x, tuners))
        return self._end(1, tuners.add("norm1", self, y, tuners.normalise("attention", self._block.norm1, y)))

    def _mlp(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        y = tuners.add("ffn", self, x, self._hidden(x, tuners))
        return self._end(2, tuners.add("norm2", self, y, tuners.normalise("mlp", self._block.norm2, y)))


def in_evaluation(module: nn.Module, make: Callable[[], Tensor]) -> Tensor:
    """What `make` computes with a module, which draws nothing at random meanwhile, as in evaluation."""
    drawing = [part for part in module.modules() if part.training]
    for part in drawing:
        part.training = False
    try:
        return make()
    finally:
        for part in drawing:
            part.training = True


def _split(x: Tensor, heads: int) -> Tensor:
    """(..., tokens, heads * head_dim) to (..., heads, tokens, head_dim)."""
    split: Tensor = x.unflatten(-1, (heads, -1)).transpose(-3, -2)
    return split


def _apply(linear: LinearMap, x: Tensor) -> Tensor:
    return F.linear(x, linear.weight(), linear.bias())


def _all_of(module: nn.Linear) -> LinearPart:
    return LinearPart(module, slice(0, module.out_features))


def _through(module: nn.Module, name: str, x: Tensor) -> Tensor:
    """x through a part that not every family's module has."""
    part = getattr(module, name, None)
    return x if part is None else cast(Tensor, part(x))
