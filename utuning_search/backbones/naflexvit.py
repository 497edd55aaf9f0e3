"""timm's NaFlexVit with plain blocks (SigLIP 2 NaFlex, C-RADIO): a ViT whose patches are made by a linear map.

timm runs it on images of one size, and on dictionaries of patches whose grids differ from image to image. Here it is
the former: images are square, of the size that its configuration says, and places are resampled to their grid.
"""

from typing import Any, ClassVar, cast

import torch
from timm.layers import Attention, GluMlp, Mlp, SwiGLU
from timm.models.naflexvit import NaFlexVit, batch_patchify, checkpoint_filter_fn
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from utuning_search.backbones.family import BlockTuners
from utuning_search.backbones.staged_model import check_configured, configured_size
from utuning_search.backbones.timm_model import (
    Kinds,
    TimmAdapter,
    check_blocks,
    check_patches,
    check_pools,
    flops_of_pool,
)
from utuning_search.backbones.vit import VisionTransformerBlock
from utuning_search.common.errors import BackboneError


class NaFlexVitAdapter(TimmAdapter):
    """Whatever timm builds of its NaFlexVit with the blocks of a VisionTransformer, and pools."""

    named: ClassVar[str] = "a timm NaFlexVit"
    attentions: ClassVar[Kinds] = (Attention,)
    any_size: ClassVar[bool] = True

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return isinstance(model, NaFlexVit)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        naflex = cast(Any, model)
        check_pools(naflex, 'Create it with global_pool="map", "token" or "avg".', where)
        rule = "a pre-norm Block with Attention and Mlp"
        check_blocks(naflex.blocks, ((Block,), (Attention,), (Mlp, GluMlp, SwiGLU)), rule, where)
        if naflex.patch_drop is not None:
            raise BackboneError(where, "all patches are there in training", "patch dropout")
        check_configured(model, where)

    def _block(self, index: int) -> VisionTransformerBlock:
        return VisionTransformerBlock(self._timm.blocks[index])

    @property
    def image_size(self) -> int:
        return configured_size(self.model)[0]

    @property
    def _grid(self) -> tuple[int, int]:
        rows, columns = self._timm.embeds.dynamic_feat_size((self.image_size, self.image_size))
        return rows, columns

    def _pooled_tokens(self) -> int:
        left_out: int = 0 if self._timm.pool_include_prefix else self._timm.num_prefix_tokens
        return super()._pooled_tokens() - left_out

    def _flops_outside(self) -> int | None:
        rows, columns = self._grid
        pooling = flops_of_pool(self._timm, self._pooled_tokens())
        return None if pooling is None else pooling + 2 * rows * columns * int(self._timm.embeds.proj.weight.numel())

    def embed(self, images: Tensor) -> Tensor:
        self._check_size(images)
        return cast(Tensor, self._timm.norm_pre(self._timm.embeds(images)[0]))

    def embed_tuned(self, images: Tensor, tuners: BlockTuners) -> Tensor:
        self._check_size(images)
        patches = self._patches(images)
        return self._tokens(tuners.add("patches", self.blocks[0], patches, patches))

    def _patches(self, images: Tensor) -> Tensor:
        """Before places are added: (batch, patches, dim)."""
        embeds = self._timm.embeds
        if embeds.is_linear:
            last = getattr(embeds, "channels_last", True)  # older versions of timm know no other order
            order: dict[str, bool] = {} if last else {"channels_last": False}
            pixels, _ = batch_patchify(images, embeds.patch_size, pad=embeds.dynamic_img_pad, **order)
            pixels = pixels if embeds.norm_input is None else embeds.norm_input(pixels)
            return cast(Tensor, embeds.norm(embeds.proj(pixels)))
        return cast(Tensor, embeds.norm(embeds.proj(images).flatten(2).transpose(1, 2)))

    def _tokens(self, patches: Tensor) -> Tensor:
        # timm adds places in memory; nothing else reads these patches.
        embeds, grid, tokens = self._timm.embeds, list(self._grid), patches
        if embeds.pos_embed_type == "learned":
            embeds._apply_learned_pos_embed(tokens, grid_size=grid)
        elif embeds.pos_embed_type == "factorized":
            embeds._apply_factorized_pos_embed(tokens, grid_size=grid)
        before = [t.expand(tokens.shape[0], -1, -1) for t in (embeds.cls_token, embeds.reg_token) if t is not None]
        tokens = torch.cat([*before, tokens], dim=1) if before else tokens
        return cast(Tensor, self._timm.norm_pre(embeds.pos_drop(tokens)))

    def _pooled(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self._timm._pool(tokens))

    def ends(self) -> tuple[nn.Module | None, nn.Module | None]:
        embeds = self._timm.embeds
        plain = isinstance(embeds.norm, nn.Identity) and embeds.proj.bias is not None
        return embeds.proj if plain else None, self._plain_final()

    def check_image_size(self, where: str) -> None:
        check_patches(self._timm.embeds, where, (self.image_size, self.image_size))

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return cast(dict[str, Tensor], checkpoint_filter_fn(state, cast(NaFlexVit, self.model)))
