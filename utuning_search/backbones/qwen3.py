"""timm's Qwen3VitClassifier and Qwen3VitEncoder: the vision towers of Qwen3-VL and later ones, with Eva's blocks.

A classifier pools its tokens, or those that the projector to the language model (the merger) makes of four of them
each; the projector is frozen then, and its norm is the last one. An encoder is asked for the mean of its own tokens.

Older versions of timm have no such models, so their module is asked for only once there is one.
"""

import math
from typing import Any, ClassVar, cast

from timm.layers import AttentionRope, Mlp
from timm.models.eva import EvaBlock
from torch import Tensor, nn

from utuning_search.backbones.eva import EvaBlockAdapter
from utuning_search.backbones.family import BlockTuners
from utuning_search.backbones.timm_model import Kinds, TimmAdapter, check_blocks, check_pools, check_square
from utuning_search.common.errors import BackboneError, InputError
from utuning_search.common.lazy import load

MODULE, CLASSIFIER, ENCODER = "timm.models.qwen3_vit", "Qwen3VitClassifier", "Qwen3VitEncoder"


class Qwen3Adapter(TimmAdapter):
    """Whatever timm builds of its Qwen3VitClassifier, and its Qwen3VitEncoder where it averages its tokens."""

    named: ClassVar[str] = "a timm Qwen3VitClassifier"
    attentions: ClassVar[Kinds] = (AttentionRope,)

    def __init__(self, model: nn.Module) -> None:
        super().__init__(_encoder_of(model))
        self.model = model
        self._whole = cast(Any, model)

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return type(model).__module__ == MODULE and type(model).__name__ in (CLASSIFIER, ENCODER)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        todo, encoder = 'Create it with global_pool="avg".', cast(Any, _encoder_of(model))
        check_pools(model, todo, where)
        if encoder is model and encoder.merger is not None:
            raise BackboneError(where, "the model pools its tokens", "those that a projector merges", todo)
        rule = "a pre-norm EvaBlock with its attention and MLP"
        check_blocks(encoder.blocks, ((EvaBlock,), cls.attentions, (Mlp,)), rule, where)
        check_square(encoder.patch_embed.img_size, where)

    @classmethod
    def defaults(cls, model: nn.Module) -> dict[str, Any]:
        return {"global_pool": "avg"} if getattr(model, "merger", None) is not None else {}

    def _block(self, index: int) -> EvaBlockAdapter:
        return EvaBlockAdapter(self._timm, index)

    @property
    def num_features(self) -> int:
        features: int = self._whole.num_features
        return features

    def _flops_outside(self) -> int | None:
        flops, merger = super()._flops_outside(), self._timm.merger
        if flops is None or merger is None:
            return flops
        maps = [m for m in (merger.fc1, merger.fc2) if isinstance(m, nn.Linear)]
        merged: int = math.prod(self._grid) // merger.merge_size**2
        return flops + 2 * merged * sum(m.weight.numel() for m in maps)

    def embed(self, images: Tensor) -> Tensor:
        self._check_size(images)
        return self._tokens(self._timm.patch_embed(images))

    def embed_tuned(self, images: Tensor, tuners: BlockTuners) -> Tensor:
        self._check_size(images)
        image = self._timm.patch_embed(images)
        patches = image.flatten(1, 2)
        return self._tokens(tuners.add("patches", self.blocks[0], patches, patches).reshape(image.shape))

    def _tokens(self, patches: Tensor) -> Tensor:
        return cast(Tensor, self._timm._pos_embed(patches)[0])

    def pool(self, tokens: Tensor) -> Tensor:
        merger = self._timm.merger
        return self._last(tokens if merger is None else self._merged(merger.norm(tokens)))

    def pool_tuned(self, tokens: Tensor, tuners: BlockTuners) -> Tensor:
        merger, first = self._timm.merger, self.blocks[0]
        if merger is not None:
            return self._last(self._merged(tuners.add("final", first, tokens, merger.norm(tokens))))
        pooled = tokens.mean(dim=1)
        normed = tuners.add("final", first, pooled, self._norm(pooled))
        return self._dropped(normed)

    def _merged(self, normed: Tensor) -> Tensor:
        """Normalised tokens (batch, tokens, dim) through the rest of the projector: (batch, tokens / 4, features)."""
        merger = self._timm.merger
        merged = merger.merge(normed.unflatten(1, self._grid))
        return cast(Tensor, merger.fc2(merger.act(merger.fc1(merged))))

    def _last(self, tokens: Tensor) -> Tensor:
        return self._dropped(self._norm(tokens.mean(dim=1)))

    def _norm(self, pooled: Tensor) -> Tensor:
        """An encoder has none after its blocks."""
        return pooled if self._whole is self._timm else cast(Tensor, self._whole.norm(pooled))

    def _dropped(self, pooled: Tensor) -> Tensor:
        return pooled if self._whole is self._timm else cast(Tensor, self._whole.head_drop(pooled))

    def ends(self) -> tuple[nn.Module | None, nn.Module | None]:
        merger = self._timm.merger  # the norm after pooling has no weight
        return self._timm.patch_embed.proj, None if merger is None else merger.norm

    def check_image_size(self, where: str) -> None:
        super().check_image_size(where)
        merger, (rows, _) = self._timm.merger, self._grid
        if merger is not None and rows % merger.merge_size:
            step = merger.merge_size * self._timm.patch_embed.patch_size[0]
            rule = f"image_size is a multiple of {step}, as its projector merges patches"
            raise InputError(where, rule, self.image_size)

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        kind = "encoder" if self._whole is self._timm else "classifier"
        return cast(dict[str, Tensor], load(MODULE, f"checkpoint_filter_fn_{kind}")(state, self.model))

    def plain_state(self) -> dict[str, Tensor]:
        return dict(self.model.state_dict())


def _encoder_of(model: nn.Module) -> nn.Module:
    return cast(nn.Module, getattr(model, "encoder", model))
