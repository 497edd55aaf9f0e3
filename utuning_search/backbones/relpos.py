"""timm's VisionTransformerRelPos: a ViT whose only places are biases by relative position, of each block or of all."""

import math
from typing import Any, ClassVar, cast

import torch
from timm.layers import Mlp
from timm.models import vision_transformer_relpos as timms
from timm.models.vision_transformer_relpos import (
    RelPosAttention,
    RelPosBlock,
    ResPostRelPosBlock,
    VisionTransformerRelPos,
)
from torch import Tensor, nn

from utuning_search.backbones.biased_block import BiasedBlock
from utuning_search.backbones.timm_block import LayerScaledBlock, PostNormBlock, in_evaluation
from utuning_search.backbones.timm_model import Kinds, TimmAdapter, check_blocks, check_pools


class RelPosBlockAdapter(LayerScaledBlock, BiasedBlock):
    """A RelPosBlock of a model, with the bias that all its blocks share, if it has one."""

    def _bare(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block(x, shared_rel_pos=self._shared()))

    def _bare_attention(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block.attn(x, shared_rel_pos=self._shared()))

    def _shared(self) -> Tensor | None:
        shared = self._model.shared_rel_pos
        # A map that makes it drops units in training, once a batch; blocks that run from cached tokens cannot know it.
        return None if shared is None else in_evaluation(shared, shared.get_bias)

    def _own(self) -> list[Tensor]:
        own, shared = self._block.attn.rel_pos, self._shared()
        return [own.get_bias()] if own is not None else [] if shared is None else [shared]

    @property
    def _biased(self) -> bool:
        return self._block.attn.rel_pos is not None or self._model.shared_rel_pos is not None


class ResPostRelPosBlockAdapter(PostNormBlock, RelPosBlockAdapter):
    """A ResPostRelPosBlock: norms come after attention and MLP."""


class RelPosAdapter(TimmAdapter):
    """Whatever timm builds of its VisionTransformerRelPos, and pools."""

    named: ClassVar[str] = "a timm VisionTransformerRelPos"
    attentions: ClassVar[Kinds] = (RelPosAttention,)

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return isinstance(model, VisionTransformerRelPos)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        check_pools(model, 'Create it with global_pool="avg".', where)
        kinds = ((RelPosBlock, ResPostRelPosBlock), (RelPosAttention,), (Mlp,))
        rule = "a RelPosBlock or ResPostRelPosBlock with its attention and Mlp"
        check_blocks(cast(Any, model).blocks, kinds, rule, where)

    def _block(self, index: int) -> RelPosBlockAdapter:
        norm_last = isinstance(self._timm.blocks[index], ResPostRelPosBlock)
        return (ResPostRelPosBlockAdapter if norm_last else RelPosBlockAdapter)(self.model, index)

    def _flops_outside(self) -> int | None:
        """With those of the maps that make each block its biases, of which `BackboneShape` knows nothing.

        Each block asks anew for those that all share.
        """
        flops, places = super()._flops_outside(), 0
        for block in self._timm.blocks:
            maker = getattr(block.attn.rel_pos or self._timm.shared_rel_pos, "mlp", None)
            if maker is not None:
                pairs = math.prod(2 * side - 1 for side in self._grid)
                places += 2 * pairs * (maker.fc1.weight.numel() + maker.fc2.weight.numel())
        return None if flops is None else flops + places

    def _tokens(self, patches: Tensor) -> Tensor:
        token = self._timm.cls_token
        return patches if token is None else torch.cat([token.expand(patches.shape[0], -1, -1), patches], dim=1)

    def _pooled(self, tokens: Tensor) -> Tensor:
        averaged = self._timm.global_pool == "avg"
        return tokens[:, self.num_prefix_tokens :].mean(dim=1) if averaged else tokens[:, 0]

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        resampled = getattr(timms, "checkpoint_filter_fn", None)  # older versions of timm take no other size
        return state if resampled is None else cast(dict[str, Tensor], resampled(state, self.model))
