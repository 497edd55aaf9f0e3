"""timm's VisionTransformer: where it keeps its parts, and its forward passes followed step by step."""

import copy
from pathlib import Path
from typing import Any, ClassVar, cast

from timm.layers import Attention, DiffAttention, GluMlp, Mlp, SwiGLU
from timm.models.vision_transformer import (
    Block,
    DiffParallelScalingBlock,
    ParallelScalingBlock,
    ResPostBlock,
    VisionTransformer,
    checkpoint_filter_fn,
)
from torch import Tensor, nn

from utuning_search.backbones.differential import DifferentialBlock
from utuning_search.backbones.timm_block import LayerScaledBlock, PostNormBlock
from utuning_search.backbones.timm_model import Kinds, TimmAdapter, check_blocks, check_pools
from utuning_search.tuners import QKV_PARTS, Operation

# The linear map whose output is the operation's output, for the operations that end in one.
LAST_LINEAR: dict[Operation, str] = {
    **dict.fromkeys(("qkv", *QKV_PARTS), "attn.qkv"),
    **dict.fromkeys(("proj", "attention"), "attn.proj"),
    "fc1": "mlp.fc1",
    **dict.fromkeys(("fc2", "mlp"), "mlp.fc2"),
}


def linear_name(block: int, operation: Operation) -> str:
    """What the model calls the linear map at the end of an operation in a block (from 1)."""
    return f"blocks.{block - 1}.{LAST_LINEAR[operation]}"


def is_parallel(model: nn.Module) -> bool:
    """Whether the blocks of a VisionTransformer have attention and MLP side by side, behind one norm."""
    return any(
        isinstance(b, (ParallelScalingBlock, DiffParallelScalingBlock)) for b in cast(Any, model).blocks.children()
    )


class VisionTransformerBlock(LayerScaledBlock):
    """A pre-norm Block with Attention and Mlp, GluMlp or SwiGLU, whose attention knows no places."""

    def _bare(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block(x))

    def _bare_attention(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block.attn(x))

    def _is_longer(self, x: Tensor) -> bool:
        del x
        return False


class ResPostBlockAdapter(PostNormBlock, VisionTransformerBlock):
    """A ResPostBlock: norms come after attention and MLP."""


class DifferentialVitBlock(DifferentialBlock, VisionTransformerBlock):
    """A Block with DiffAttention."""


class DifferentialResPostBlock(DifferentialBlock, ResPostBlockAdapter):
    """A ResPostBlock with DiffAttention."""


class VitAdapter(TimmAdapter):
    """A VisionTransformer, with blocks of any kind."""

    head: ClassVar[tuple[str, ...]] = ("head.", "head_dist.")

    def _pooled_tokens(self) -> int:
        left_out: int = 0 if self._timm.pool_include_prefix else self._timm.num_prefix_tokens
        return super()._pooled_tokens() - left_out

    def _tokens(self, patches: Tensor) -> Tensor:
        vit = self._timm
        return cast(Tensor, vit.norm_pre(vit.patch_drop(vit._pos_embed(patches))))

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        named = checkpoint_filter_fn(state, cast(VisionTransformer, self.model))
        if self._timm.attn_pool is None:  # of models that average instead, weights are published with the pooling
            named = {name: tensor for name, tensor in named.items() if not name.startswith("attn_pool.")}
        return named


class VisionTransformerAdapter(VitAdapter):
    """Whatever timm builds of its VisionTransformer with norms before or after attention and MLP, and pools."""

    named: ClassVar[str] = "a timm VisionTransformer"
    attentions: ClassVar[Kinds] = (Attention, DiffAttention)

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return isinstance(model, VisionTransformer) and not is_parallel(model)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        vit = cast(VisionTransformer, model)
        check_pools(vit, 'Create it with global_pool="token" or "avg".', where)
        rule = "a Block or ResPostBlock with Attention or DiffAttention, and Mlp"
        kinds = ((Block, ResPostBlock), cls.attentions, (Mlp, GluMlp, SwiGLU))
        check_blocks(vit.blocks.children(), kinds, rule, where)

    def _block(self, index: int) -> VisionTransformerBlock:
        block = self._timm.blocks[index]
        if isinstance(block.attn, DiffAttention):
            return (DifferentialResPostBlock if isinstance(block, ResPostBlock) else DifferentialVitBlock)(block)
        return ResPostBlockAdapter(block) if isinstance(block, ResPostBlock) else VisionTransformerBlock(block)

    def read_npz(self, path: Path) -> dict[str, Tensor]:
        target = copy.deepcopy(self._timm)  # timm writes as it reads: a file that breaks off must not leave half of it
        target.load_pretrained(str(path))
        return cast(dict[str, Tensor], target.state_dict())
