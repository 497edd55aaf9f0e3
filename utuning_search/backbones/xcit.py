"""timm's Xcit: attention among channels, a convolution among neighbours, an MLP; class attention after the last block.

The softmax is one of channels, so there are no queries and keys of tokens that rows of tuners could meet. The
convolution and the class attention are no operations, but frozen parts of the block and of what comes after the last.
"""

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from timm.models.xcit import XCA, XCABlock, Xcit, checkpoint_filter_fn
from torch import Tensor, nn

from utuning_search.backbones.family import BlockTuners
from utuning_search.backbones.grids import flops_of_convs
from utuning_search.backbones.staged_model import StagedAdapter, StagedBlock, Step, is_layer_norm
from utuning_search.backbones.timm_block import TimmBlock
from utuning_search.backbones.timm_model import check_blocks, check_pools, check_square
from utuning_search.tuners import Stage


class XcitBlock(TimmBlock, StagedBlock):
    """An XCABlock."""

    def __init__(self, block: nn.Module, grid: tuple[int, int]) -> None:
        super().__init__(block)
        self._grid = grid

    def stage(self) -> Stage:
        dim, hidden = self.widths("fc1")
        tokens, heads = math.prod(self._grid), self._block.attn.num_heads
        flops = 2 * tokens * (4 * dim**2 + 2 * dim * hidden) + 4 * tokens * dim * (dim // heads)
        flops += flops_of_convs(self._block.local_mp, self._grid)[0]
        return Stage(1, dim, heads, dim // heads, hidden, hidden, self._grid, flops=flops)

    def norms(self) -> tuple[nn.Module, nn.Module]:
        return self._block.norm1, self._block.norm2

    def _bare(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block(x, *self._grid))

    def _bare_attention(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block.attn(x))

    def _is_longer(self, x: Tensor) -> bool:
        del x
        return False

    def _ends(self, number: Literal[1, 2]) -> tuple[Any, nn.Module]:
        block = self._block
        return (block.gamma1, block.drop_path1) if number == 1 else (block.gamma2, block.drop_path2)

    def run(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        block = self._block
        y = x + tuners.add("attention", self, x, self._attention(x, tuners))
        y = y + block.drop_path3(block.gamma3 * block.local_mp(block.norm3(y), *self._grid))
        return cast(Tensor, y + tuners.add("mlp", self, y, self._mlp(y, tuners)))

    def _attend(self, x: Tensor, rows: list[tuple[Tensor, Tensor]], tuners: BlockTuners) -> Tensor:
        del rows  # no keys join
        attn = self._block.attn
        qkv = self._qkv(x, tuners).unflatten(-1, (3, attn.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 4, 1).unbind(0)  # each (batch, heads, head_dim, tokens)
        if getattr(attn, "fused_attn", False):  # older versions of timm multiply always
            q, k = F.normalize(q, dim=-1) * attn.temperature, F.normalize(k, dim=-1)
            mixed = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        else:
            logits = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * attn.temperature
            mixed = attn.attn_drop(logits.softmax(dim=-1)) @ v
        mixed = mixed.permute(0, 3, 1, 2).flatten(2)
        return cast(Tensor, attn.proj_drop(tuners.add("proj", self, mixed, attn.proj(mixed))))


class XcitAdapter(StagedAdapter):
    """Whatever timm builds of its Xcit, and pools."""

    named: ClassVar[str] = "a timm Xcit"
    head: ClassVar[tuple[str, ...]] = ("head.",)
    attends: ClassVar[bool] = False

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return isinstance(model, Xcit)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        timm = cast(Any, model)
        check_pools(timm, 'Create it with global_pool="token" or "avg".', where)
        check_blocks(timm.blocks, ((XCABlock,), (XCA,), (Mlp,)), "an XCABlock with its XCA and Mlp", where)
        check_square(timm.patch_embed.img_size, where)

    def _stages(self) -> Iterator[Step]:
        grid = (self.image_size // self._timm.patch_embed.patch_size,) * 2
        yield Step(None, tuple(self._timm.blocks), grid, grid)

    def _block(self, block: nn.Module, grid: tuple[int, int]) -> XcitBlock:
        return XcitBlock(block, grid)

    @property
    def image_size(self) -> int:
        size: int = self._timm.patch_embed.img_size[0]
        return size

    def _patches(self, images: Tensor) -> Tensor:
        return cast(Tensor, self._timm.patch_embed(images)[0])

    def _placed(self, patches: Tensor) -> Tensor:
        timm, tokens = self._timm, patches
        if timm.pos_embed is not None:
            places = timm.pos_embed(patches.shape[0], *self._steps[0].grid)
            tokens = patches + places.reshape(patches.shape[0], -1, patches.shape[1]).permute(0, 2, 1)
        return cast(Tensor, timm.pos_drop(tokens))

    def _between(self, module: nn.Module, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        raise TypeError(f"one stage has no {type(module).__name__} before it, for {len(tokens)} images of {grid}")

    def pool(self, tokens: Tensor) -> Tensor:
        timm = self._timm
        return cast(Tensor, timm.forward_head(timm.norm(self._with_class(tokens)), pre_logits=True))

    def _with_class(self, tokens: Tensor) -> Tensor:
        """The class token before the others, after the blocks in which it alone attends."""
        whole = torch.cat([self._timm.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        for block in self._timm.cls_attn_blocks:  # before 1.0.31 timm has no `forward_cls`
            whole = block(whole)
        return whole

    def pool_tuned(self, tokens: Tensor, tuners: BlockTuners) -> Tensor:
        timm = self._timm
        whole = self._with_class(tokens)
        normed = tuners.add("final", self.blocks[0], whole, timm.norm(whole))
        return cast(Tensor, timm.forward_head(normed, pre_logits=True))

    def ends(self) -> tuple[nn.Module | None, nn.Module | None]:
        norm = self._timm.norm
        return None, norm if is_layer_norm(norm) else None

    def _flops_outside(self) -> int:
        timm, tokens = self._timm, math.prod(self._steps[0].grid)
        flops, _ = flops_of_convs(timm.patch_embed.proj, (self.image_size, self.image_size))
        if timm.pos_embed is not None:
            flops += 2 * tokens * timm.pos_embed.token_projection.weight.numel()
        for block in timm.cls_attn_blocks:  # one query, of the class token, which the MLP sees alone
            dim = timm.embed_dim
            flops += 2 * dim**2 * (2 + 2 * (tokens + 1)) + 4 * (tokens + 1) * dim
            flops += 2 * (block.mlp.fc1.weight.numel() + block.mlp.fc2.weight.numel())
        return flops

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return cast(dict[str, Tensor], checkpoint_filter_fn(dict(state), self.model))
