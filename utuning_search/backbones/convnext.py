"""timm's ConvNeXt, V2 too: x + MLP(norm(depthwise convolution of x)), and no attention.

`mlp` reads what the convolution gives and is added to the residual stream; `norm2`, `ffn`, `fc1` and `fc2` are its
parts.
"""

import math
from typing import Any, ClassVar, cast

from timm.layers import ClassifierHead, GlobalResponseNormMlp, Mlp, NormMlpClassifierHead
from timm.models.convnext import ConvNeXt, ConvNeXtBlock, checkpoint_filter_fn
from torch import Tensor, nn

from utuning_search.backbones.convolved import ConvolvedAdapter
from utuning_search.backbones.family import BlockTuners, LinearMap
from utuning_search.backbones.grids import for_tokens, image_of, map_of, through, tokens_of
from utuning_search.backbones.staged_model import (
    BlockWithoutQueries,
    all_blocks,
    is_layer_norm,
)
from utuning_search.common.errors import BackboneError
from utuning_search.tuners import OPERATIONS, Operation, Stage

LACKS: tuple[Operation, ...] = ("attention", "mhsa", "norm1", "qkv", "q", "k", "v", "proj")


class ConvNextBlock(BlockWithoutQueries):
    """A ConvNeXtBlock."""

    def __init__(self, block: nn.Module, grid: tuple[int, int]) -> None:
        self._block: Any = block
        self._grid = grid

    def stage(self) -> Stage:
        block = self._block
        dim, hidden = self.widths("fc1")
        flops = 2 * block.conv_dw.weight.numel() + 4 * dim * hidden
        return Stage(1, dim, 0, 0, hidden, hidden, self._grid, flops=math.prod(self._grid) * flops)

    def norms(self) -> tuple[nn.Module, ...]:
        return (self._block.norm,)

    def widths(self, operation: Operation) -> tuple[int, int]:
        if operation in ("fc1", "fc2"):
            return map_of(getattr(self._block.mlp, operation)).widths
        width: int = self._block.conv_dw.out_channels
        return width, width

    def linear(self, operation: Operation) -> LinearMap:
        return map_of(self._block.mlp.fc1 if operation == "fc1" else self._block.mlp.fc2)

    def ends_in_linear(self, operation: Operation) -> bool:
        return operation != "mlp" or (self._block.gamma is None and isinstance(self._block.drop_path, nn.Identity))

    def norm(self, operation: Operation) -> nn.Module:
        del operation
        return cast(nn.Module, self._block.norm)

    def normed(self, operation: Operation, x: Tensor) -> Tensor:
        del operation
        return cast(Tensor, self._norm()(x))

    def _norm(self) -> nn.Module:
        return for_tokens(self._block.norm, self._grid, of_images=self._block.use_conv_mlp)

    def __call__(self, x: Tensor) -> Tensor:
        return tokens_of(self._block(image_of(x, self._grid)))

    def run(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        block = self._block
        y = tokens_of(block.conv_dw(image_of(x, self._grid)))
        h = tuners.add("norm2", self, y, tuners.normalise("mlp", self._norm(), y))
        out = self._hidden(h, tuners)
        out = block.drop_path(out if block.gamma is None else out * block.gamma)
        return tuners.add("mlp", self, y, tuners.add("ffn", self, h, out)) + x

    def _hidden(self, h: Tensor, tuners: BlockTuners) -> Tensor:
        mlp, grid = self._block.mlp, self._grid
        h = tuners.add("fc1", self, h, through(mlp.fc1, h, grid))
        response = mlp.grn if isinstance(mlp, GlobalResponseNormMlp) else mlp.norm
        # As timm has them in memory: activations of others differ in their last bits.
        if isinstance(mlp.fc1, nn.Conv2d):
            h = tokens_of(response(mlp.drop1(mlp.act(image_of(h, grid)))))
        else:
            h = response(mlp.drop1(mlp.act(h)).unflatten(1, grid)).flatten(1, 2)
        return cast(Tensor, mlp.drop2(tuners.add("fc2", self, h, through(mlp.fc2, h, grid))))


class ConvNextAdapter(ConvolvedAdapter):
    """Whatever timm builds of its ConvNeXt, and pools."""

    named: ClassVar[str] = "a timm ConvNeXt"
    lacks: ClassVar[tuple[Operation, ...]] = LACKS
    lacks_because: ClassVar[str] = "its blocks have no attention"
    operations: ClassVar[tuple[Operation, ...]] = tuple(o for o in OPERATIONS if o not in LACKS)

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return isinstance(model, ConvNeXt)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        super().check(model, where)
        timm = cast(Any, model)
        if type(timm.head) not in (ClassifierHead, NormMlpClassifierHead):
            raise BackboneError(where, "its head is one of ConvNeXt's", type(timm.head).__name__)
        for i, block in enumerate(all_blocks(timm.stages)):
            parts = (type(block), type(block.mlp), type(block.shortcut))
            if parts[0] is not ConvNeXtBlock or parts[1] not in (Mlp, GlobalResponseNormMlp):
                rule, got = "a ConvNeXtBlock with its MLP", " with ".join(p.__name__ for p in parts[:2])
                raise BackboneError(f"{where}, block {i + 1}", rule, got)
            if parts[2] is not nn.Identity or block.conv_dw.stride != (1, 1) or block.conv_dw.dilation != (1, 1):
                raise BackboneError(f"{where}, block {i + 1}", "blocks keep their grid", "an output_stride below 32")

    def _block(self, block: nn.Module, grid: tuple[int, int]) -> ConvNextBlock:
        return ConvNextBlock(block, grid)

    @property
    def num_features(self) -> int:
        head = self._timm.head
        pooled = isinstance(head, ClassifierHead)
        features: int = head.in_features * head.global_pool.feat_mult() if pooled else head.num_features
        return features

    def pool(self, tokens: Tensor) -> Tensor:
        image = image_of(tokens, self._steps[-1].grid)
        return cast(Tensor, self._timm.forward_head(self._timm.norm_pre(image), pre_logits=True))

    def pool_tuned(self, tokens: Tensor, tuners: BlockTuners) -> Tensor:
        head, first, grid = self._timm.head, self.blocks[0], self._steps[-1].grid
        if isinstance(head, ClassifierHead):
            normed = tuners.add("final", first, tokens, tokens_of(self._timm.norm_pre(image_of(tokens, grid))))
            return cast(Tensor, head(image_of(normed, grid), pre_logits=True))
        pooled = head.global_pool(image_of(tokens, grid))
        normed = tuners.add("final", first, pooled.flatten(1), head.norm(pooled).flatten(1))
        return cast(Tensor, head.drop(head.pre_logits(normed)))

    def ends(self) -> tuple[nn.Module | None, nn.Module | None]:
        timm = self._timm
        ends = timm.stem[-1], timm.norm_pre if isinstance(timm.head, ClassifierHead) else timm.head.norm
        return ends[0] if is_layer_norm(ends[0]) else None, ends[1] if is_layer_norm(ends[1]) else None

    def _flops_outside(self) -> int:
        hidden = getattr(getattr(self._timm.head, "pre_logits", None), "fc", None)
        return super()._flops_outside() + (2 * hidden.weight.numel() if hidden is not None else 0)

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return cast(dict[str, Tensor], checkpoint_filter_fn(state, self.model))
