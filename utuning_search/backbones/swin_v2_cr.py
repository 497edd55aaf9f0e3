"""timm's SwinTransformerV2Cr, another Swin V2: some blocks end in a norm of the residual stream, the last one always.

That norm is a frozen part of the block; what `final` gives is what the last one of them gives.
"""

import math
from collections.abc import Iterator
from typing import Any, ClassVar, cast

import torch.nn.functional as F
from timm.layers import Mlp
from timm.models.swin_transformer_v2_cr import (
    SwinTransformerV2Cr,
    SwinTransformerV2CrBlock,
    WindowMultiHeadAttention,
    checkpoint_filter_fn,
)
from torch import Tensor, nn

from utuning_search.backbones.family import BlockTuners
from utuning_search.backbones.grids import image_of, tokens_of
from utuning_search.backbones.staged_model import Step, all_blocks, is_layer_norm
from utuning_search.backbones.swin_v2 import HOTTEST, SwinV2Block
from utuning_search.backbones.timm_model import check_blocks, check_square
from utuning_search.backbones.windows import WindowAdapter, masked_softmax
from utuning_search.common.errors import BackboneError


class SwinV2CrBlock(SwinV2Block):
    """A SwinTransformerV2CrBlock."""

    def _bare_attention(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block._shifted_window_attn(x.unflatten(1, self._grid)).flatten(1, 2))

    def run(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        return cast(Tensor, self._block.norm3(super().run(x, tuners)))

    def _hotness(self) -> Tensor:
        return cast(Tensor, self._block.attn.logit_scale.reshape(-1, 1, 1).clamp(max=HOTTEST).exp())

    def _flops_of_places(self) -> int:
        maps, tokens = self._block.attn.meta_mlp, math.prod(self._block.window_size)
        return int(2 * tokens**2 * (maps.fc1.weight.numel() + maps.fc2.weight.numel()))

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        attn = self._block.attn
        cosines = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        logits = cosines * self._hotness() + attn._relative_positional_encodings()
        return cast(Tensor, attn.attn_drop(masked_softmax(logits, mask)) @ v)


class SwinV2CrAdapter(WindowAdapter):
    """Whatever timm builds of its SwinTransformerV2Cr, and pools."""

    named: ClassVar[str] = "a timm SwinTransformerV2Cr"
    post_norm: ClassVar[bool] = True

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return isinstance(model, SwinTransformerV2Cr)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        swin = cast(Any, model)
        if not swin.head.global_pool.pool_type:
            raise BackboneError(where, "the model pools its tokens", "no pooling", 'Create it with global_pool="avg".')
        kinds = ((SwinTransformerV2CrBlock,), (WindowMultiHeadAttention,), (Mlp,))
        check_blocks(all_blocks(swin.stages), kinds, "a SwinTransformerV2CrBlock with its attention and Mlp", where)
        check_square(swin.patch_embed.img_size, where)

    def _stages(self) -> Iterator[Step]:
        before = tuple(self._timm.patch_embed.grid_size)
        for stage in self._timm.stages:
            between, grid = None if isinstance(stage.downsample, nn.Identity) else stage.downsample, stage.feat_size
            yield Step(between, tuple(stage.blocks), tuple(grid), before)
            before = tuple(grid)

    def _block(self, block: nn.Module, grid: tuple[int, int]) -> SwinV2CrBlock:
        return SwinV2CrBlock(block, grid)

    def _patches(self, images: Tensor) -> Tensor:
        return tokens_of(self._timm.patch_embed(images))

    def pool(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self._timm.forward_head(image_of(tokens, self._steps[-1].grid), pre_logits=True))

    def pool_tuned(self, tokens: Tensor, tuners: BlockTuners) -> Tensor:
        return self.pool(tuners.add("final", self.blocks[0], tokens, tokens))

    def ends(self) -> tuple[nn.Module | None, nn.Module | None]:
        norm = self._timm.patch_embed.norm  # the last one is inside a block, whose tuners see what it gives
        return norm if is_layer_norm(norm) else None, None

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return cast(dict[str, Tensor], checkpoint_filter_fn(state, self.model))
