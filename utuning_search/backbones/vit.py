"""timm's VisionTransformer: where it keeps its parts, and its forward passes followed step by step."""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

from timm.layers import Attention, GluMlp, Mlp, SwiGLU
from timm.models.vision_transformer import Block, VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from utuning_search.backbones.family import BackboneAdapter, BackboneBlock
from utuning_search.backbones.timm_block import TimmBlock
from utuning_search.backbones.timm_model import check_blocks, check_patches, flops_outside
from utuning_search.common.errors import BackboneError
from utuning_search.tuners import OPERATIONS, QKV_PARTS, BackboneShape, Operation

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


class VisionTransformerBlock(TimmBlock):
    """A pre-norm Block with Attention and Mlp, GluMlp or SwiGLU, whose attention knows no places."""

    def _bare(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block(x))

    def _bare_attention(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block.attn(x))

    def _is_longer(self, x: Tensor) -> bool:
        del x
        return False

    def _end(self, number: Literal[1, 2], x: Tensor) -> Tensor:
        scale, drop = self._ends(number)
        return cast(Tensor, drop(scale(x)))

    def _ends(self, number: Literal[1, 2]) -> tuple[Any, nn.Module]:
        block = self._block
        return (block.ls1, block.drop_path1) if number == 1 else (block.ls2, block.drop_path2)


class VisionTransformerAdapter(BackboneAdapter):
    """Whatever timm builds of its VisionTransformer with pre-norm blocks, and pools."""

    named: ClassVar[str] = "a timm VisionTransformer"
    head: ClassVar[tuple[str, ...]] = ("head.", "head_dist.")
    operations: ClassVar[tuple[Operation, ...]] = OPERATIONS

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._vit = cast(Any, model)  # nn.Module's own typing knows nothing of its attributes
        self.blocks: Sequence[BackboneBlock] = tuple(VisionTransformerBlock(b) for b in self._vit.blocks)

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return isinstance(model, VisionTransformer)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        vit = cast(VisionTransformer, model)
        if not vit.global_pool:
            todo = 'Create it with global_pool="token" or "avg".'
            raise BackboneError(where, "the model pools its tokens", "no pooling", todo)
        rule = "a pre-norm Block with Attention and Mlp"
        check_blocks(vit.blocks.children(), ((Block,), (Attention,), (Mlp, GluMlp, SwiGLU)), rule, where)

    @property
    def shape(self) -> BackboneShape:
        vit = self._vit
        block = vit.blocks[0]
        return BackboneShape(
            dim=vit.embed_dim,
            depth=len(vit.blocks),
            num_heads=block.attn.num_heads,
            head_dim=block.attn.head_dim,
            hidden=self.blocks[0].widths("fc1")[1],
            hidden_in=block.mlp.fc2.in_features,
            parameters=sum(p.numel() for n, p in vit.named_parameters() if not n.startswith(self.head)),
            grid=tuple(vit.patch_embed.grid_size),
            prefix_tokens=vit.num_prefix_tokens,
            flops_outside=self._flops_outside(),
            gated_attention=getattr(block.attn, "gate", None) is not None,
            scaled_ends=not all(b.ends_in_linear(o) for b in self.blocks for o in ("attention", "mlp")),
            plain_norms=all(
                isinstance(m, nn.LayerNorm) and m.weight is not None and m.bias is not None
                for b in vit.blocks
                for m in (b.norm1, b.norm2)
            ),
        )

    def _flops_outside(self) -> int | None:
        """FLOPs of one image in patch embedding and pooling; None where either is not one that we know."""
        vit = self._vit
        tokens: int = math.prod(vit.patch_embed.grid_size) + (vit.num_prefix_tokens if vit.pool_include_prefix else 0)
        return flops_outside(vit, tokens)

    @property
    def num_features(self) -> int:
        features: int = self._vit.num_features
        return features

    @property
    def num_prefix_tokens(self) -> int:
        tokens: int = self._vit.num_prefix_tokens
        return tokens

    @property
    def image_size(self) -> int:
        size: int = self._vit.patch_embed.img_size[0]
        return size

    @property
    def channels(self) -> int:
        channels: int = self._vit.in_chans
        return channels

    def embed(self, images: Tensor) -> Tensor:
        vit = self._vit
        tokens: Tensor = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))
        return tokens

    def pool(self, tokens: Tensor) -> Tensor:
        features: Tensor = self._vit.forward_head(self._vit.norm(tokens), pre_logits=True)
        return features

    def unfuse_attention(self) -> None:
        for module in self.model.modules():
            if isinstance(module, Attention):
                # `fused_attn` is timm's own switch; it is Final for TorchScript only.
                setattr(module, "fused_attn", False)  # noqa: B010

    def check_image_size(self, where: str) -> None:
        check_patches(self._vit.patch_embed, where)

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        named = checkpoint_filter_fn(state, cast(VisionTransformer, self.model))
        if self._vit.attn_pool is None:  # of models that average instead, weights are published with the pooling
            named = {name: tensor for name, tensor in named.items() if not name.startswith("attn_pool.")}
        return named

    def read_npz(self, path: Path) -> dict[str, Tensor]:
        target = copy.deepcopy(self._vit)  # timm writes as it reads: a file that breaks off must not leave half of it
        target.load_pretrained(str(path))
        return cast(dict[str, Tensor], target.state_dict())
