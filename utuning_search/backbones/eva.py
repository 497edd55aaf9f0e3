"""timm's Eva (EVA, EVA-02, DINOv3, Perception Encoder, RoPE ViTs): queries and keys are turned by their places."""

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
from timm.layers import (
    AttentionRope,
    GluMlp,
    Mlp,
    SwiGLU,
    apply_rot_embed_cat,
    get_mixed_freqs,
)
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm, checkpoint_filter_fn
from torch import Tensor, nn

from utuning_search.backbones.family import BlockTuners
from utuning_search.backbones.timm_block import PostNormBlock, TimmBlock, in_evaluation
from utuning_search.backbones.timm_model import Kinds, TimmAdapter, check_blocks, check_pools, check_square
from utuning_search.common.errors import BackboneError


class EvaBlockAdapter(TimmBlock):
    """An EvaBlock of a model, with the model's rotary embedding, if it has one.

    Only the last tokens, those of patches, are turned: not those of the class and registers, as in the model itself,
    and not those that tuners insert.
    """

    def __init__(self, model: nn.Module, index: int) -> None:
        self._model, self._index = cast(Any, model), index
        super().__init__(self._model.blocks[index])

    def _bare(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block(x, rope=self._rotation()))

    def _bare_attention(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block.attn(x, rope=self._rotation()))

    def _is_longer(self, x: Tensor) -> bool:
        known: int = self._model.patch_embed.num_patches + self._model.num_prefix_tokens
        return self._model.rope is not None and x.shape[1] != known

    def _rotation(self) -> Tensor | None:
        """Sines and cosines of the patches, (patches, 2 * head_dim) or (heads, patches, 2 * head_dim)."""
        rope = self._model.rope
        if rope is None:
            return None
        mixed = getattr(self._model, "rope_mixed", False)
        if mixed and rope.t_x is not None:  # all blocks' at once would be made anew in each block
            return get_mixed_freqs(rope.freqs[:, self._index], rope.t_x, rope.t_y)
        known = getattr(rope, "feat_shape", None) is not None
        fixed = known and not getattr(self._model, "dynamic_img_size", False)
        shape = {} if fixed else {"shape": self._model.patch_embed.grid_size}
        # Some move all places at random in training, once a batch. Blocks that run from cached tokens cannot know it.
        whole = in_evaluation(rope, lambda: rope.get_embed(**shape))
        return whole[self._index] if mixed else whole

    def _placed(self, x: Sequence[Tensor], like: Tensor) -> list[Tensor]:
        rotation = self._rotation()
        if rotation is None:
            return list(x)
        half, count = getattr(self._block.attn, "rotate_half", False), rotation.shape[-2]
        turned = [apply_rot_embed_cat(t[:, :, -count:], rotation, half=half) for t in x]
        return [torch.cat([t[:, :, :-count], own], dim=2).type_as(like) for t, own in zip(x, turned, strict=True)]


class EvaBlockPostNormAdapter(PostNormBlock, EvaBlockAdapter):
    """An EvaBlockPostNorm: norms come after attention and MLP."""


class EvaAdapter(TimmAdapter):
    """Whatever timm builds of its Eva, and pools."""

    named: ClassVar[str] = "a timm Eva"
    attentions: ClassVar[Kinds] = (EvaAttention, AttentionRope)

    @classmethod
    def defaults(cls, model: nn.Module) -> dict[str, Any]:
        """A square of the shorter side, where images are oblong by default and only rotations tell places."""
        eva = cast(Any, model)
        height, width = eva.patch_embed.img_size
        return {"img_size": min(height, width)} if height != width and eva.pos_embed is None else {}

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return isinstance(model, Eva)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        eva = cast(Any, model)
        check_pools(eva, 'Create it with global_pool="token", "avg" or "map".', where)
        rule = "an EvaBlock or EvaBlockPostNorm with its attention and MLP"
        check_blocks(eva.blocks, ((EvaBlock, EvaBlockPostNorm), cls.attentions, (Mlp, GluMlp, SwiGLU)), rule, where)
        if eva.patch_drop is not None:
            raise BackboneError(where, "all patches are there in training", "patch dropout")
        check_square(eva.patch_embed.img_size, where)

    def _block(self, index: int) -> EvaBlockAdapter:
        norm_last = isinstance(self._timm.blocks[index], EvaBlockPostNorm)
        return (EvaBlockPostNormAdapter if norm_last else EvaBlockAdapter)(self.model, index)

    def _tokens(self, patches: Tensor) -> Tensor:
        tokens, _ = self._timm._pos_embed(patches)
        return cast(Tensor, self._timm.norm_pre(tokens))

    def embed(self, images: Tensor) -> Tensor:
        self._check_size(images)
        return super().embed(images)

    def embed_tuned(self, images: Tensor, tuners: BlockTuners) -> Tensor:
        self._check_size(images)
        return super().embed_tuned(images, tuners)

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return checkpoint_filter_fn(state, self.model)

    def _ignores_key_bias(self, block: Any) -> bool:
        return self._timm.rope is None and super()._ignores_key_bias(block)
