"""timm's VisionTransformer with attention and MLP side by side, behind one norm (arXiv 2302.05442).

x + s (attention(norm x) + mlp(norm x)), s a layer scale: one map makes queries, keys, values and what the MLP acts on.
`attention` and `mlp` both read x, with `norm1` before both. Where one map makes the sum of both, neither is known by
itself, and so neither they nor the maps that they end in are operations.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import DiffParallelScalingBlock, ParallelScalingBlock, VisionTransformer
from torch import Tensor, nn

from utuning_search.backbones.differential import DifferentialBlock
from utuning_search.backbones.family import BlockTuners, LinearPart
from utuning_search.backbones.timm_block import TimmBlock
from utuning_search.backbones.timm_model import Kinds, check_pools
from utuning_search.backbones.vit import VitAdapter, is_parallel
from utuning_search.common.errors import BackboneError
from utuning_search.tuners import LINEAR_OPERATIONS, OPERATIONS, QKV_PARTS, Operation

LACKS: tuple[Operation, ...] = ("norm2",)
SUMMED: tuple[Operation, ...] = ("attention", "mlp", "mhsa", "ffn", "proj", "fc2")


class SideBySide(TimmBlock):
    """A ParallelScalingBlock or DiffParallelScalingBlock."""

    @property
    def attn(self) -> Any:
        return self._block  # which keeps all of its attention itself

    @property
    def _cut(self) -> list[int]:
        """Outputs of the map that comes first: those that the MLP acts on, then queries, keys and values."""
        hidden, *parts = self._block.in_split
        return [hidden, sum(parts)]

    def norm(self, operation: Operation) -> nn.Module:
        del operation
        return cast(nn.Module, self._block.in_norm)

    def norms(self) -> Sequence[nn.Module]:
        return (self._block.in_norm,)

    def _normalised(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block.in_norm(x))

    def widths(self, operation: Operation) -> tuple[int, int]:
        width: int = self._block.in_proj.in_features
        return self.linear(operation).widths if operation in LINEAR_OPERATIONS else (width, width)

    def linear(self, operation: Operation) -> LinearPart:
        hidden, attended = self._cut
        if operation == "fc1":
            return LinearPart(self._block.in_proj, slice(0, hidden))
        if operation in QKV_PARTS:
            count, index = attended // len(QKV_PARTS), QKV_PARTS.index(operation)
            return LinearPart(self._block.in_proj, slice(hidden + index * count, hidden + (index + 1) * count))
        if operation == "qkv":
            return LinearPart(self._block.in_proj, slice(hidden, hidden + attended))
        module = self._block.attn_out_proj if operation in ("attention", "proj") else self._block.mlp_out_proj
        return LinearPart(module, slice(0, module.out_features))

    def ends_in_linear(self, operation: Operation) -> bool:
        if operation not in ("attention", "mlp"):
            return True
        return all(isinstance(end, nn.Identity) for end in (self._block.ls, self._block.drop_path))

    def _bare(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block(x))

    def _bare_attention(self, x: Tensor) -> Tensor:
        raise TypeError(f"{type(self._block).__name__} has no attention by itself, for {len(x)} images")

    def _is_longer(self, x: Tensor) -> bool:
        del x
        return False

    def run(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        block = self._block
        h = tuners.add("norm1", self, x, tuners.normalise("attention", block.in_norm, x))
        hidden, qkv = block.in_proj(h).split(self._cut, dim=-1)
        if tuners.touches("qkv", *QKV_PARTS, "fc1"):
            made = tuners.add("fc1", self, h, hidden), self._tuned_qkv(qkv, h, tuners)
            # As timm has them in memory: activations of others differ in their last bits.
            hidden, qkv = torch.cat(made, dim=-1).split(self._cut, dim=-1)
        mixed = self._mixed_heads(qkv, tuners.rows(h))
        acted = block.mlp_drop(block.mlp_act(hidden))
        return self._summed(x, h, mixed, acted, tuners)

    @abstractmethod
    def _summed(self, x: Tensor, h: Tensor, mixed: Tensor, acted: Tensor, tuners: BlockTuners) -> Tensor:
        """The residual stream with attention and MLP: (batch, tokens, dim).

        Args:
            x: What the block reads.
            h: The same after the norm.
            mixed: Heads side by side.
            acted: What the MLP's last map reads.
            tuners: In the block.
        """


class ParallelBlock(SideBySide):
    """A ParallelScalingBlock with an output map for attention, and one for the MLP."""

    def _summed(self, x: Tensor, h: Tensor, mixed: Tensor, acted: Tensor, tuners: BlockTuners) -> Tensor:
        block = self._block
        attended = tuners.add("proj", self, mixed, block.attn_out_proj(mixed))
        thought = tuners.add("fc2", self, acted, block.mlp_out_proj(acted))
        y = x + block.drop_path(block.ls(attended + thought))
        halves: tuple[tuple[Operation, Operation, Tensor], ...] = (
            ("mhsa", "attention", attended),
            ("ffn", "mlp", thought),
        )
        for core, outer, out in halves:
            if tuners.touches(core, outer):  # the sum is timm's own, so that nothing added leaves it bit for bit
                part = block.ls(out)
                y = y + (tuners.add(outer, self, x, tuners.add(core, self, h, part)) - part)
        return cast(Tensor, y)

    def project(self, mixed: Tensor) -> Tensor:
        return F.linear(mixed, self._block.attn_out_proj.weight)


class SummedBlock(SideBySide):
    """A block whose last map makes the sum of attention and MLP."""

    def widths(self, operation: Operation) -> tuple[int, int]:
        if operation == "fc2":  # a part of the last map
            return self._cut[0], self._block.in_proj.in_features
        return super().widths(operation)

    def _summed(self, x: Tensor, h: Tensor, mixed: Tensor, acted: Tensor, tuners: BlockTuners) -> Tensor:
        del h, tuners
        block = self._block
        return cast(Tensor, x + block.drop_path(block.ls(block.out_proj(torch.cat([mixed, acted], dim=-1)))))

    def project(self, mixed: Tensor) -> Tensor:
        return F.linear(mixed, self._block.out_proj.weight[:, : mixed.shape[-1]])


class DifferentialSummedBlock(DifferentialBlock, SummedBlock):
    """A DiffParallelScalingBlock."""


class SideBySideAdapter(VitAdapter):
    """A VisionTransformer of such blocks.

    Attributes:
        summed: Whether one map makes the sum of attention and MLP.
    """

    attentions: ClassVar[Kinds] = (ParallelScalingBlock, DiffParallelScalingBlock)
    summed: ClassVar[bool]

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        if not isinstance(model, VisionTransformer) or not is_parallel(model):
            return False
        first = next(iter(cast(Any, model).blocks.children()))
        return cls.summed is (getattr(first, "out_proj", None) is not None)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        vit = cast(Any, model)
        check_pools(vit, 'Create it with global_pool="token" or "avg".', where)
        first, blocks = vit.blocks[0], tuple(vit.blocks.children())
        for i, block in enumerate(blocks):
            kind = next((kind for kind in cls.attentions if isinstance(block, kind)), None)
            known = kind is not None and type(block).forward is kind.forward and isinstance(first, kind)
            if not known or (block.out_proj is not None) is not cls.summed:
                rule = "all are a ParallelScalingBlock, or all a DiffParallelScalingBlock, with as many output maps"
                raise BackboneError(f"{where}, block {i + 1}", rule, type(block).__name__)
            if block.mlp_bias is not None:
                rule = "the map to queries, keys, values and MLP has one bias"
                raise BackboneError(f"{where}, block {i + 1}", rule, "one of the MLP alone")

    def plain_state(self) -> dict[str, Tensor]:
        return dict(self.model.state_dict())


class ParallelVitAdapter(SideBySideAdapter):
    """Whatever timm builds of its VisionTransformer with ParallelScalingBlocks of two output maps, and pools."""

    named: ClassVar[str] = "a timm VisionTransformer with parallel blocks"
    operations: ClassVar[tuple[Operation, ...]] = tuple(o for o in OPERATIONS if o not in LACKS)
    lacks_because: ClassVar[str] = "attention and MLP read one norm, which is norm1"
    summed: ClassVar[bool] = False

    def _block(self, index: int) -> ParallelBlock:
        return ParallelBlock(self._timm.blocks[index])


class SummedVitAdapter(SideBySideAdapter):
    """Whatever timm builds of its VisionTransformer with parallel blocks of one output map, and pools."""

    named: ClassVar[str] = "a timm VisionTransformer with parallel blocks of one output map"
    operations: ClassVar[tuple[Operation, ...]] = tuple(o for o in OPERATIONS if o not in (*LACKS, *SUMMED))
    lacks_because: ClassVar[str] = "one norm is before attention and MLP, and one map makes their sum"
    summed: ClassVar[bool] = True

    def _block(self, index: int) -> SummedBlock:
        block = self._timm.blocks[index]
        return (DifferentialSummedBlock if isinstance(block, DiffParallelScalingBlock) else SummedBlock)(block)
