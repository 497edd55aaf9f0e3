"""timm's MultiScaleVit (MViTv2): queries, keys and values are pooled by convolutions, from stage to stage to fewer.

The pooling and the biases by relative position are frozen parts of the attention. Keys are pooled more than queries,
so that no token of a tuner could join either.
"""

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, cast

import torch
from timm.layers import Mlp
from timm.models.mvitv2 import (
    MultiScaleAttention,
    MultiScaleBlock,
    MultiScaleVit,
    cal_rel_pos_type,
    checkpoint_filter_fn,
    reshape_post_pool,
    reshape_pre_pool,
)
from torch import Tensor, nn

from utuning_search.backbones.family import BlockTuners
from utuning_search.backbones.grids import conv_grid, flops_of_convs
from utuning_search.backbones.staged_model import Step, all_blocks, is_layer_norm
from utuning_search.backbones.timm_model import check_blocks, check_pools, check_square
from utuning_search.backbones.widening import WideningAdapter, WideningBlock
from utuning_search.common.errors import BackboneError, InputError
from utuning_search.tuners import Stage


class MultiScaleBlockAdapter(WideningBlock):
    """A MultiScaleBlock whose attention widens, and the grid that it reads."""

    def __init__(self, block: nn.Module, before: tuple[int, int]) -> None:
        super().__init__(block)
        self._before = before

    def stage(self) -> Stage:
        block, attn = self._block, self._block.attn
        queries, keys = (_pooled_grid(pool, self._before) for pool in (attn.pool_q, attn.pool_k))
        extra = int(attn.has_cls_token)
        read, tokens, seen = (math.prod(grid) + extra for grid in (self._before, queries, keys))
        dim, hidden = self.widths("fc1")
        flops = 2 * read * attn.qkv.weight.numel() + 4 * tokens * seen * dim
        flops += 2 * tokens * (attn.proj.weight.numel() + 2 * dim * hidden)
        for pool, grid in ((attn.pool_q, queries), (attn.pool_k, keys), (attn.pool_v, keys)):
            if pool is not None:
                flops += 2 * attn.num_heads * math.prod(grid) * pool.weight.numel()
        if attn.rel_pos_type == "spatial":
            flops += 2 * math.prod(queries) * sum(keys) * dim
        if block.shortcut_proj_attn is not None:
            flops += 2 * read * block.shortcut_proj_attn.weight.numel()
        return Stage(
            blocks=1,
            dim=dim,
            num_heads=attn.num_heads,
            head_dim=attn.head_dim,
            hidden=hidden,
            hidden_in=hidden,
            grid=queries,
            flops=int(flops),
            dim_in=block.dim if block.dim != block.dim_out else 0,
            read=read if read != tokens else 0,
        )

    def _ends(self, number: Literal[1, 2]) -> tuple[Any, nn.Module]:
        return None, self._block.drop_path1 if number == 1 else self._block.drop_path2

    def _bare(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block(x, list(self._before))[0])

    def _bare_attention(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block.attn(x, list(self._before))[0])

    def _shortcut(self, x: Tensor, h: Tensor) -> Tensor:
        block = self._block
        whole = x if block.shortcut_proj_attn is None else block.shortcut_proj_attn(h)
        return cast(Tensor, block._shortcut_pool(whole, list(self._before)))

    def _attend(self, x: Tensor, rows: list[tuple[Tensor, Tensor]], tuners: BlockTuners) -> Tensor:
        del rows  # no keys join
        attn = self._block.attn
        qkv = self._qkv(x, tuners).reshape(x.shape[0], x.shape[1], 3, attn.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, q_size = self._pool(qkv[0], attn.pool_q, attn.norm_q)
        k, k_size = self._pool(qkv[1], attn.pool_k, attn.norm_k)
        v, _ = self._pool(qkv[2], attn.pool_v, attn.norm_v)
        logits = q * attn.scale @ k.transpose(-2, -1)
        if attn.rel_pos_type == "spatial":
            places = attn.rel_pos_h, attn.rel_pos_w
            logits = cal_rel_pos_type(logits, q, attn.has_cls_token, q_size, k_size, *places)
        mixed = logits.softmax(dim=-1) @ v
        mixed = mixed + q if attn.residual_pooling else mixed
        mixed = mixed.transpose(1, 2).reshape(x.shape[0], -1, attn.dim_out)
        return tuners.add("proj", self, mixed, attn.proj(mixed))

    def _pool(self, x: Tensor, pool: nn.Module | None, norm: nn.Module | None) -> tuple[Tensor, list[int]]:
        """Queries, keys or values (batch, heads, tokens, head_dim) pooled and normalised, and their grid then."""
        attn, size = self._block.attn, list(self._before)
        if pool is not None:
            image, first = reshape_pre_pool(x, size, attn.has_cls_token)
            x, size = reshape_post_pool(pool(image), attn.num_heads, first)
        return (x if norm is None else norm(x)), size


def _pooled_grid(pool: nn.Module | None, grid: tuple[int, int]) -> tuple[int, int]:
    return grid if pool is None else conv_grid(pool, grid)


class MultiScaleVitAdapter(WideningAdapter):
    """Whatever timm builds of its MultiScaleVit that pools by convolutions and widens in its attention, and pools."""

    named: ClassVar[str] = "a timm MultiScaleVit"

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return isinstance(model, MultiScaleVit)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        mvit = cast(Any, model)
        check_pools(mvit, 'Create it with global_pool="avg".', where)
        blocks = all_blocks(mvit.stages)
        rule = "a MultiScaleBlock with its attention and Mlp"
        check_blocks(blocks, ((MultiScaleBlock,), (MultiScaleAttention,), (Mlp,)), rule, where)
        for i, block in enumerate(blocks):
            if block.attn.mode != "conv":
                raise BackboneError(f"{where}, block {i + 1}", "convolutions pool a head's channels", block.attn.mode)
            if block.shortcut_proj_mlp is not None:
                rule = "blocks widen in their attention, whose shortcut a tuner reads"
                raise BackboneError(f"{where}, block {i + 1}", rule, "one that widens in its MLP")
        check_square(mvit.stages[0].feat_size, where)

    @property
    def _first_grid(self) -> tuple[int, int]:
        rows, columns = self._timm.stages[0].feat_size
        pool = self._timm.stages[0].blocks[0].attn.pool_q
        steps = (1, 1) if pool is None else pool.stride
        return rows * steps[0], columns * steps[1]

    def _stages(self) -> Iterator[Step]:
        before = self._first_grid
        for stage in self._timm.stages:
            grid = _pooled_grid(stage.blocks[0].attn.pool_q, before)
            yield Step(None, tuple(stage.blocks), grid, before)
            before = grid

    def _block(self, block: nn.Module, grid: tuple[int, int]) -> MultiScaleBlockAdapter:
        step = next(s for s in self._steps if block in s.blocks)
        return MultiScaleBlockAdapter(block, step.before if block is step.blocks[0] else grid)

    @property
    def image_size(self) -> int:
        size: int = self._first_grid[0] * self._timm.patch_embed.proj.stride[0]
        return size

    @property
    def num_prefix_tokens(self) -> int:
        tokens: int = self._timm.num_prefix_tokens
        return tokens

    def _patches(self, images: Tensor) -> Tensor:
        return cast(Tensor, self._timm.patch_embed(images)[0])

    def _placed(self, patches: Tensor) -> Tensor:
        timm, tokens = self._timm, patches
        if timm.cls_token is not None:
            tokens = torch.cat([timm.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        return tokens if timm.pos_embed is None else cast(Tensor, tokens + timm.pos_embed)

    def pool(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self._timm.forward_head(self._timm.norm(tokens), pre_logits=True))

    def pool_tuned(self, tokens: Tensor, tuners: BlockTuners) -> Tensor:
        normed = tuners.add("final", self.blocks[0], tokens, self._timm.norm(tokens))
        return cast(Tensor, self._timm.forward_head(normed, pre_logits=True))

    def ends(self) -> tuple[nn.Module | None, nn.Module | None]:
        norm = self._timm.norm
        return self._timm.patch_embed.proj, norm if is_layer_norm(norm) else None

    def _flops_outside(self) -> int:
        return flops_of_convs(self._timm.patch_embed.proj, (self.image_size, self.image_size))[0]

    def check_image_size(self, where: str) -> None:
        last = self._timm.stages[-1].feat_size[0]
        if self._steps[-1].grid[0] != last:
            step = 2 ** (len(self._steps) - 1) * self._timm.patch_embed.proj.stride[0]
            raise InputError(
                where, f"image_size is a multiple of {step}, as its stages halve the grid", self.image_size
            )

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return cast(dict[str, Tensor], checkpoint_filter_fn(dict(state), self.model))
