"""timm's Qwen3VitClassifier: the vision towers of Qwen3-VL and later ones, Eva's blocks in an encoder of their own.

Older versions of timm have no such models, so their module is asked for only once there is one.
"""

from typing import Any, ClassVar, cast

from timm.layers import AttentionRope, Mlp
from timm.models.eva import EvaBlock
from torch import Tensor, nn

from utuning_search.backbones.eva import EvaBlockAdapter
from utuning_search.backbones.family import BlockTuners
from utuning_search.backbones.timm_model import Kinds, TimmAdapter, check_blocks, check_pools, check_square
from utuning_search.common.errors import BackboneError
from utuning_search.common.lazy import load

MODULE, NAME = "timm.models.qwen3_vit", "Qwen3VitClassifier"


class Qwen3Adapter(TimmAdapter):
    """Whatever timm builds of its Qwen3VitClassifier without the projector to a language model, and pools."""

    named: ClassVar[str] = "a timm Qwen3VitClassifier"
    attentions: ClassVar[Kinds] = (AttentionRope,)

    def __init__(self, model: nn.Module) -> None:
        super().__init__(cast(Any, model).encoder)
        self.model = model
        self._whole = cast(Any, model)

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return (type(model).__module__, type(model).__name__) == (MODULE, NAME)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        qwen = cast(Any, model)
        check_pools(qwen, 'Create it with global_pool="avg".', where)
        if qwen.encoder.merger is not None:
            todo = "Take the model of the same name without _merge."
            raise BackboneError(where, "its own tokens are pooled", "those that a projector merges", todo)
        rule = "a pre-norm EvaBlock with its attention and MLP"
        check_blocks(qwen.encoder.blocks, ((EvaBlock,), cls.attentions, (Mlp,)), rule, where)
        check_square(qwen.encoder.patch_embed.img_size, where)

    def _block(self, index: int) -> EvaBlockAdapter:
        return EvaBlockAdapter(self._timm, index)

    @property
    def num_features(self) -> int:
        features: int = self._whole.num_features
        return features

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

    def _pooled(self, tokens: Tensor) -> Tensor:
        return tokens.mean(dim=1)

    def pool(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self._whole.head_drop(self._whole.norm(self._pooled(tokens))))

    def pool_tuned(self, tokens: Tensor, tuners: BlockTuners) -> Tensor:
        pooled = self._pooled(tokens)
        normed = tuners.add("final", self.blocks[0], pooled, self._whole.norm(pooled))
        return cast(Tensor, self._whole.head_drop(normed))

    def ends(self) -> tuple[nn.Module | None, nn.Module | None]:
        return self._timm.patch_embed.proj, None  # its last norm has no weight

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return cast(dict[str, Tensor], load(MODULE, "checkpoint_filter_fn_classifier")(state, self.model))

    def plain_state(self) -> dict[str, Tensor]:
        return dict(self.model.state_dict())
