"""A plain ViT block for training on a CPU: what it computes is that of `VisionTransformerBlock`, within rounding.

Under `torch.autocast` in bf16 its frozen maps compute with copies of their weights in bf16, which are made once;
without it in fp32. And where only the first tokens of the last block are read, only those are computed.
"""

import weakref
from collections.abc import Sequence
from typing import cast

import torch
from timm.layers import Attention, Mlp
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from utuning_search.backbones import frozen_math
from utuning_search.backbones.family import BackboneAdapter, BackboneBlock, BlockTuners
from utuning_search.backbones.frozen_math import Weights
from utuning_search.backbones.timm_block import Untuned
from utuning_search.backbones.vit import VisionTransformerAdapter, VisionTransformerBlock
from utuning_search.designs.design import Design
from utuning_search.tuners import GATE, QKV_PARTS


class QuickBlock(VisionTransformerBlock):
    """Stands in for a block of a model, which it shares.

    Args:
        block: To stand in for; see `quick`.
        read: How many of the first tokens are read of its output, which then has no others; None for all.
    """

    def __init__(self, block: nn.Module, read: int | None = None) -> None:
        super().__init__(block)
        self._read = read
        self._copies: dict[str, tuple[weakref.ref[Tensor], int, Weights]] = {}

    def __call__(self, x: Tensor) -> Tensor:
        return self.run(x, Untuned())

    def run(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        h = tuners.add("norm1", self, x, tuners.normalise("attention", self._block.norm1, x))
        found, h = self._attended(h, tuners)
        x = self._first(x)
        y = x + tuners.add("attention", self, x, tuners.add("mhsa", self, h, self._end(1, found)))
        return y + tuners.add("mlp", self, y, self._hidden(y, tuners))

    def _attended(self, h: Tensor, tuners: BlockTuners) -> tuple[Tensor, Tensor]:
        """The attention of normalised tokens before its layer scale, and these tokens, both as far as they are read."""
        attn, rows = self._block.attn, tuners.rows(h)
        qkv, proj = self._weights("qkv", attn.qkv), self._weights("proj", attn.proj)
        if self._read is None and not rows and not tuners.touches("qkv", *QKV_PARTS, "proj"):
            return frozen_math.attention(h, qkv, proj, attn.num_heads, attn.scale), h
        whole = tuners.add("qkv", self, h, qkv(h))
        if tuners.touches(*QKV_PARTS):
            pairs = zip(QKV_PARTS, whole.chunk(3, dim=-1), strict=True)
            whole = torch.cat([tuners.add(part, self, h, y) for part, y in pairs], dim=-1)
        q, k, v = (part.unflatten(-1, (attn.num_heads, -1)).transpose(-3, -2) for part in whole.chunk(3, dim=-1))
        q = q if self._read is None else q[:, :, : self._read]
        for keys, values in rows:
            k = torch.cat([keys.to(k.dtype).expand(len(k), -1, -1, -1), k], dim=2)
            v = torch.cat([values.to(v.dtype).expand(len(v), -1, -1, -1), v], dim=2)
        with torch.autocast("cpu", enabled=False):  # the precision is chosen there
            mixed = frozen_math.mix(q, k, v, attn.scale).transpose(1, 2).flatten(2)
        return tuners.add("proj", self, mixed, proj(mixed)), self._first(h)

    def _hidden(self, y: Tensor, tuners: BlockTuners) -> Tensor:
        mlp = self._block.mlp
        h = tuners.add("norm2", self, y, tuners.normalise("mlp", self._block.norm2, y))
        fc1, fc2 = self._weights("fc1", mlp.fc1), self._weights("fc2", mlp.fc2)
        if tuners.touches("fc1", "fc2"):
            hidden = mlp.act(tuners.add("fc1", self, h, fc1(h)))
            out = tuners.add("fc2", self, hidden, fc2(hidden))
        else:
            out = frozen_math.mlp(h, fc1, fc2, mlp.act.approximate)
        return tuners.add("ffn", self, h, self._end(2, out))

    def _first(self, x: Tensor) -> Tensor:
        return x if self._read is None else x[:, : self._read]

    def _weights(self, name: str, module: nn.Linear) -> Weights:
        """Of a frozen map, as they are to be computed with now."""
        if not torch.is_autocast_enabled("cpu"):
            return Weights(module.weight, module.bias)
        weight, dtype = module.weight, torch.get_autocast_dtype("cpu")
        known = self._copies.get(name)
        # Merging puts other weights there, or changes them in place; their versions count that.
        if known is None or known[0]() is not weight or known[1] != weight._version or known[2].weight.dtype != dtype:
            bias = cast(Tensor | None, module.bias)
            made = Weights(weight.detach().to(dtype), None if bias is None else bias.detach().to(dtype))
            known = self._copies[name] = (weakref.ref(weight), weight._version, made)
        return known[2]


def quick(blocks: Sequence[BackboneBlock], read: int | None = None) -> tuple[BackboneBlock, ...]:
    """Blocks of a model for training on a CPU: a stand-in for each that has one, the others as they are.

    Args:
        blocks: Of an adapter.
        read: How many of the first tokens are read of what the last one gives; None for all.
    """
    last = len(blocks) - 1
    return tuple(
        QuickBlock(cast(VisionTransformerBlock, b)._block, read if i == last else None) if _is_plain(b) else b
        for i, b in enumerate(blocks)
    )


def tokens_read(adapter: BackboneAdapter, design: Design) -> int | None:
    """How many of the first tokens after the last block decide a design's logits; None for all.

    Args:
        adapter: Around the model.
        design: Resolved for its depth.
    """
    model, depth = adapter.model, len(adapter.blocks)
    own = cast(type[VisionTransformer], type(model))
    if type(adapter) is not VisionTransformerAdapter or not _is_plain(adapter.blocks[-1]):
        return None
    if own.forward_head is not VisionTransformer.forward_head or own.pool is not VisionTransformer.pool:
        return None
    if model.global_pool != "token" or model.attn_pool is not None or not adapter.num_prefix_tokens:
        return None
    # The last block's tuners see what the earlier ones made of all tokens; those of a bypass see frozen ones only.
    here = [p for p in design.placements if not p.is_outside and (design.is_bypass or depth in p.block_numbers())]
    return 1 if all(p.tuner.per_token and p.scale != GATE for p in here) else None


def _is_plain(block: BackboneBlock) -> bool:
    """Whether the block is one that `QuickBlock` follows: nothing in it but linear maps, softmax and GELU."""
    if type(block) is not VisionTransformerBlock:
        return False
    attn, mlp = block._block.attn, block._block.mlp
    if type(attn) is not Attention or type(mlp) is not Mlp or type(mlp.act) is not nn.GELU:
        return False
    maps = (getattr(attn, "qkv", None), attn.proj, mlp.fc1, mlp.fc2)
    if not all(type(m) is nn.Linear and not m.weight.requires_grad and m.weight.device.type == "cpu" for m in maps):
        return False
    names = ("q_norm", "k_norm", "norm", "gate")
    others = [*(getattr(attn, name, None) for name in names), mlp.norm]
    drops = (attn.attn_drop, attn.proj_drop, mlp.drop1, mlp.drop2)
    return all(m is None or isinstance(m, nn.Identity) for m in others) and all(
        isinstance(d, nn.Identity) or not getattr(d, "p", 1.0) for d in drops
    )
