"""timm's Hiera: attention in mask units at first, and a block before each other stage that pools its queries.

timm keeps tokens unit by unit, so that pooling is a maximum over the first of several strides. Blocks here read and
give them row by row; what stands at a linear map sees timm's order.
"""

import math
from collections.abc import Iterator
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from timm.models.hiera import Hiera, HieraBlock, MaskUnitAttention, Unroll, checkpoint_filter_fn
from torch import Tensor, nn

from utuning_search.backbones.family import BlockTuners
from utuning_search.backbones.grids import flops_of_convs
from utuning_search.backbones.staged_model import Step, is_layer_norm
from utuning_search.backbones.timm_block import LayerScaledBlock
from utuning_search.backbones.timm_model import check_blocks, check_square
from utuning_search.backbones.widening import WideningAdapter, WideningBlock
from utuning_search.common.errors import BackboneError, InputError
from utuning_search.tuners import Stage


class HieraBlockAdapter(LayerScaledBlock, WideningBlock):
    """A HieraBlock of a model."""

    def __init__(self, model: nn.Module, index: int) -> None:
        self._model, self._index = cast(Any, model), index
        super().__init__(self._model.blocks[index])
        self._before, self._after = order_after(self._model, max(index - 1, 0)), order_after(self._model, index)

    def stage(self) -> Stage:
        block, attn = self._block, self._block.attn
        tokens, read = (math.prod(order.size) for order in (self._after, self._before))
        dim, hidden = self.widths("fc1")
        keys = attn.q_stride * attn.window_size if attn.use_mask_unit_attn else read
        flops = 2 * read * attn.qkv.weight.numel() + 4 * tokens * keys * attn.dim_out
        flops += 2 * tokens * (attn.proj.weight.numel() + 2 * dim * hidden)
        if block.proj is not None:
            flops += 2 * read * block.proj.weight.numel()
        return Stage(
            blocks=1,
            dim=dim,
            num_heads=attn.heads,
            head_dim=attn.head_dim,
            hidden=hidden,
            hidden_in=hidden,
            grid=(self._after.size[0], self._after.size[1]),
            flops=flops,
            dim_in=block.dim if block.dim != block.dim_out else 0,
            read=read if read != tokens else 0,
        )

    def _bare(self, x: Tensor) -> Tensor:
        return self._in_rows(self._block(self._arranged(x)))

    def _bare_attention(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block.attn(x))

    def _arranged(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._before(x))

    def _arranged_after(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._after(x))

    def _in_rows(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._model.reroll(x, self._index).flatten(1, 2))

    def _shortcut(self, x: Tensor, h: Tensor) -> Tensor:
        block = self._block
        if not block.do_expand:
            return x
        whole = self._arranged(x) if block.proj is None else block.proj(self._arranged(h))
        parts = whole.view(x.shape[0], block.attn.q_stride, -1, whole.shape[-1])
        pooled = parts.amax(dim=1)
        return self._in_rows(torch.cat([pooled, parts.mean(dim=1)], dim=-1) if block.proj is None else pooled)

    def _attend(self, x: Tensor, rows: list[tuple[Tensor, Tensor]], tuners: BlockTuners) -> Tensor:
        del rows  # no keys join
        attn = self._block.attn
        qkv = self._qkv(x, tuners)
        # Of units (batch, heads, units, tokens, head_dim), or of all tokens (batch, heads, tokens, head_dim).
        if attn.use_mask_unit_attn:
            units = x.shape[1] // (attn.q_stride * attn.window_size)
            parts = qkv.reshape(x.shape[0], -1, units, 3, attn.heads, attn.head_dim).permute(3, 0, 4, 2, 1, 5)
        else:
            parts = qkv.reshape(x.shape[0], x.shape[1], 3, attn.heads, attn.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = parts.unbind(0)
        if attn.q_stride > 1:
            q = q.unflatten(-2, (attn.q_stride, -1)).amax(dim=-3)
        if not attn.use_mask_unit_attn:
            q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        if attn.fused_attn:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q * attn.scale @ k.transpose(-1, -2)).softmax(dim=-1) @ v
        mixed = mixed.transpose(1, 3 if attn.use_mask_unit_attn else 2).reshape(x.shape[0], -1, attn.dim_out)
        return tuners.add("proj", self, mixed, attn.proj(mixed))


def order_after(model: Any, index: int) -> Unroll:
    """From tokens row by row to timm's order of them, after the block of that index."""
    schedule, size = model.reroll.schedule[index]
    return Unroll(tuple(size), (1,) * len(size), list(schedule))


class HieraAdapter(WideningAdapter):
    """Whatever timm builds of its Hiera for images, and pools."""

    named: ClassVar[str] = "a timm Hiera"

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return isinstance(model, Hiera)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        hiera = cast(Any, model)
        if not hiera.head.pool_type:
            raise BackboneError(where, "the model pools its tokens", "no pooling", 'Create it with global_pool="avg".')
        if hiera.patch_drop_rate:
            raise BackboneError(where, "all patches are there in training", "patch dropout")
        if len(hiera.patch_stride) != 2:
            raise BackboneError(where, "it sees images", f"patches of {len(hiera.patch_stride)} dimensions")
        rule = "a HieraBlock with its attention and Mlp"
        check_blocks(hiera.blocks, ((HieraBlock,), (MaskUnitAttention,), (Mlp,)), rule, where)
        check_square(hiera.tokens_spatial_shape, where)

    def _stages(self) -> Iterator[Step]:
        before, first = order_after(self._timm, 0).size, 0
        for last in self._timm.stage_ends:
            grid = order_after(self._timm, last).size
            yield Step(None, tuple(self._timm.blocks[first : last + 1]), (grid[0], grid[1]), (before[0], before[1]))
            before, first = grid, last + 1

    def _block(self, block: nn.Module, grid: tuple[int, int]) -> HieraBlockAdapter:
        del grid  # the model's own orders tell
        return HieraBlockAdapter(self.model, list(self._timm.blocks).index(block))

    @property
    def image_size(self) -> int:
        size: int = self._timm.tokens_spatial_shape[0] * self._timm.patch_stride[0]
        return size

    def _patches(self, images: Tensor) -> Tensor:
        return cast(Tensor, self._timm.patch_embed(images))

    def embed(self, images: Tensor) -> Tensor:
        return cast(Tensor, self._timm._pos_embed(super().embed(images)))

    def embed_tuned(self, images: Tensor, tuners: BlockTuners) -> Tensor:
        return cast(Tensor, self._timm._pos_embed(super().embed_tuned(images, tuners)))

    def _arranged(self, tokens: Tensor) -> Tensor:
        """In timm's order; not all strides need be used up."""
        return cast(Tensor, order_after(self._timm, len(self.blocks) - 1)(tokens))

    def pool(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self._timm.forward_head(self._arranged(tokens), pre_logits=True))

    def pool_tuned(self, tokens: Tensor, tuners: BlockTuners) -> Tensor:
        head = self._timm.head
        pooled = head._global_pool(self._arranged(tokens))
        return cast(Tensor, head.drop(head.pre_logits(tuners.add("final", self.blocks[0], pooled, head.norm(pooled)))))

    def ends(self) -> tuple[nn.Module | None, nn.Module | None]:
        norm = self._timm.head.norm
        return self._timm.patch_embed.proj, norm if is_layer_norm(norm) else None

    def _flops_outside(self) -> int:
        return flops_of_convs(self._timm.patch_embed.proj, (self.image_size, self.image_size))[0]

    def check_image_size(self, where: str) -> None:
        step = self._timm.patch_stride[0] * self._timm.mask_unit_size[0]
        if self.image_size % step:
            raise InputError(where, f"image_size is a multiple of {step}, a mask unit", self.image_size)

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return cast(dict[str, Tensor], checkpoint_filter_fn(state, self.model))
