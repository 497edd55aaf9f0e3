"""timm's MetaFormer (CAFormer, ConvFormer, PoolFormer): pooling, a separable convolution or attention mixes tokens.

`attention` is that token mixer after its norm, and `mhsa` the same without the norm. As it is another thing from stage
to stage, nothing inside it is an operation, and nothing of it can be borrowed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

from timm.layers import Mlp
from timm.models.metaformer import Attention, MetaFormer, MetaFormerBlock, Pooling, Scale, SepConv, checkpoint_filter_fn
from torch import Tensor, nn

from utuning_search.backbones.convolved import ConvolvedAdapter
from utuning_search.backbones.family import BlockTuners, LinearMap
from utuning_search.backbones.grids import flops_of_convs, for_tokens, image_of, map_of, through, tokens_of
from utuning_search.backbones.staged_model import (
    BlockWithoutQueries,
    all_blocks,
    is_layer_norm,
)
from utuning_search.common.errors import BackboneError
from utuning_search.tuners import OPERATIONS, QKV_PARTS, Operation, Stage

LACKS: tuple[Operation, ...] = ("qkv", *QKV_PARTS, "proj")
Half = Literal[1, 2]


class MixerBlock(BlockWithoutQueries):
    """A MetaFormerBlock: x, scaled, + mixer(norm1 x), then that, scaled, + mlp(norm2 of it)."""

    def __init__(self, block: nn.Module, grid: tuple[int, int]) -> None:
        self._block: Any = block
        self._grid = grid
        self._of_images = not isinstance(self._block.token_mixer, Attention)

    def stage(self) -> Stage:
        dim, hidden = self.widths("fc1")
        tokens, mixer = math.prod(self._grid), self._block.token_mixer
        flops = 4 * tokens * dim * hidden
        if isinstance(mixer, Attention):
            weights = mixer.qkv.weight.numel() + mixer.proj.weight.numel()
            flops += 2 * tokens * weights + 4 * tokens**2 * mixer.attention_dim
        else:
            flops += flops_of_convs(mixer, self._grid)[0]
        heads = (mixer.num_heads, mixer.head_dim) if isinstance(mixer, Attention) else (0, 0)
        return Stage(1, dim, *heads, hidden, hidden, self._grid, flops=flops)

    def norms(self) -> tuple[nn.Module, nn.Module]:
        return self._block.norm1, self._block.norm2

    def widths(self, operation: Operation) -> tuple[int, int]:
        if operation in ("fc1", "fc2"):
            return map_of(getattr(self._block.mlp, operation)).widths
        width = map_of(self._block.mlp.fc1).widths[0]
        return width, width

    def linear(self, operation: Operation) -> LinearMap | None:
        if operation == "fc1":
            return map_of(self._block.mlp.fc1)
        if operation in ("fc2", "mlp"):
            return map_of(self._block.mlp.fc2)
        mixer = self._block.token_mixer
        last = mixer.proj if isinstance(mixer, Attention) else getattr(mixer, "pwconv2", None)
        return None if last is None else map_of(last)

    def ends_in_linear(self, operation: Operation) -> bool:
        if operation not in ("attention", "mlp"):
            return True
        half: Half = 1 if operation == "attention" else 2
        ends = [getattr(self._block, f"{name}{half}") for name in ("drop_path", "layer_scale")]
        return self.linear(operation) is not None and all(isinstance(e, nn.Identity) for e in ends)

    def norm(self, operation: Operation) -> nn.Module:
        return cast(nn.Module, self._block.norm1 if operation in ("attention", "norm1") else self._block.norm2)

    def normed(self, operation: Operation, x: Tensor) -> Tensor:
        return cast(Tensor, self._for_tokens(self.norm(operation))(x))

    def _for_tokens(self, norm: nn.Module) -> nn.Module:
        return for_tokens(norm, self._grid, of_images=self._of_images)

    def __call__(self, x: Tensor) -> Tensor:
        return tokens_of(self._block(image_of(x, self._grid))) if self._of_images else cast(Tensor, self._block(x))

    def run(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        block = self._block
        h = tuners.add("norm1", self, x, tuners.normalise("attention", self._for_tokens(block.norm1), x))
        mixed = tokens_of(block.token_mixer(image_of(h, self._grid))) if self._of_images else block.token_mixer(h)
        out = tuners.add("mhsa", self, h, self._end(1, mixed))
        y = _scaled(block.res_scale1, x) + tuners.add("attention", self, x, out)
        h = tuners.add("norm2", self, y, tuners.normalise("mlp", self._for_tokens(block.norm2), y))
        out = tuners.add("ffn", self, h, self._end(2, self._hidden(h, tuners)))
        return _scaled(block.res_scale2, y) + tuners.add("mlp", self, y, out)

    def _end(self, half: Half, x: Tensor) -> Tensor:
        scale, drop = (getattr(self._block, f"{name}{half}") for name in ("layer_scale", "drop_path"))
        return _scaled(scale, drop(x))

    def _hidden(self, h: Tensor, tuners: BlockTuners) -> Tensor:
        mlp, grid = self._block.mlp, self._grid
        h = tuners.add("fc1", self, h, through(mlp.fc1, h, grid))
        # As timm has them in memory: activations of others differ in their last bits.
        h = tokens_of(mlp.drop1(mlp.act(image_of(h, grid)))) if self._of_images else mlp.drop1(mlp.act(h))
        return cast(Tensor, mlp.drop2(tuners.add("fc2", self, h, through(mlp.fc2, mlp.norm(h), grid))))


def _scaled(scale: nn.Module, x: Tensor) -> Tensor:
    """Tokens times a scale of channels, which timm may have shaped for images."""
    return x * scale.scale if isinstance(scale, Scale) else cast(Tensor, scale(x))


class MetaFormerAdapter(ConvolvedAdapter):
    """Whatever timm builds of its MetaFormer, and pools."""

    named: ClassVar[str] = "a timm MetaFormer"
    lacks: ClassVar[tuple[Operation, ...]] = LACKS
    lacks_because: ClassVar[str] = "what mixes tokens is another thing from stage to stage"
    operations: ClassVar[tuple[Operation, ...]] = tuple(o for o in OPERATIONS if o not in LACKS)
    head_arguments: ClassVar[Mapping[str, Any]] = {"use_mlp_head": False}

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return isinstance(model, MetaFormer)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        super().check(model, where)
        timm = cast(Any, model)
        for i, block in enumerate(all_blocks(timm.stages)):
            parts = (type(block), type(block.token_mixer), type(block.mlp))
            if parts[0] is not MetaFormerBlock or parts[1] not in (Pooling, SepConv, Attention) or parts[2] is not Mlp:
                rule, got = "a MetaFormerBlock with a mixer of timm's", " with ".join(p.__name__ for p in parts)
                raise BackboneError(f"{where}, block {i + 1}", rule, got)

    def _block(self, block: nn.Module, grid: tuple[int, int]) -> MixerBlock:
        return MixerBlock(block, grid)

    def pool(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self._timm.forward_head(image_of(tokens, self._steps[-1].grid), pre_logits=True))

    def pool_tuned(self, tokens: Tensor, tuners: BlockTuners) -> Tensor:
        head = self._timm.head
        pooled = head.global_pool(image_of(tokens, self._steps[-1].grid))
        normed = tuners.add("final", self.blocks[0], pooled.flatten(1), head.norm(pooled).flatten(1))
        return cast(Tensor, head.drop(normed))

    def ends(self) -> tuple[nn.Module | None, nn.Module | None]:
        ends = self._timm.stem.norm, self._timm.head.norm
        return ends[0] if is_layer_norm(ends[0]) else None, ends[1] if is_layer_norm(ends[1]) else None

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return cast(dict[str, Tensor], checkpoint_filter_fn(state, self.model))

    @classmethod
    def bias_arguments(cls, names: Sequence[str]) -> dict[str, Any]:
        found = {}
        for name in names:
            inside = "proj_bias" if name.endswith("proj.bias") else "bias"
            found["mlp_bias" if ".mlp." in name else inside] = True
        return found
