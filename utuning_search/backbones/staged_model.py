"""A timm model of stages: blocks of one width and grid one after another, and a step between two stages."""

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar, cast

from torch import Tensor, nn

from utuning_search.backbones.family import BackboneAdapter, BackboneBlock, BlockTuners
from utuning_search.backbones.timm_model import check_square
from utuning_search.common.errors import BackboneError
from utuning_search.tuners import OPERATIONS, BackboneShape, Operation, Stage


@dataclass(frozen=True)
class Step:
    """What comes before the blocks of a stage.

    Attributes:
        module: Takes the tokens of the stage before, or the patches, to those of this one; None where nothing does.
        blocks: Of the stage, timm's own.
        grid: Patches along the height and the width of an image in them.
        before: The same before `module`.
    """

    module: nn.Module | None
    blocks: tuple[nn.Module, ...]
    grid: tuple[int, int]
    before: tuple[int, int]


class StagedAdapter(BackboneAdapter):
    """A model whose blocks see a grid of patches, row by row, which becomes smaller from stage to stage.

    Images are square, and of one size, as tokens do not tell the sides of their grid.

    Attributes:
        lacks: Operations that its blocks have not.
        post_norm: Whether norms come after attention and MLP.
    """

    blocks: tuple["StagedBlock", ...]
    head: ClassVar[tuple[str, ...]] = ("head.fc.",)
    lacks: ClassVar[tuple[Operation, ...]] = ()
    operations: ClassVar[tuple[Operation, ...]] = OPERATIONS
    joins: ClassVar[bool] = False
    post_norm: ClassVar[bool] = False

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._timm = cast(Any, model)  # nn.Module's own typing knows nothing of its attributes
        self._steps = tuple(self._stages())
        self.blocks = tuple(self._block(block, step.grid) for step in self._steps for block in step.blocks)
        firsts = [sum(len(s.blocks) for s in self._steps[:i]) for i in range(len(self._steps))]
        self._steps_at = dict(zip(firsts[1:], self._steps[1:], strict=True))

    # What a family adds

    @abstractmethod
    def _stages(self) -> Iterator[Step]:
        """Its stages in order."""

    @abstractmethod
    def _block(self, block: nn.Module, grid: tuple[int, int]) -> "StagedBlock":
        """The adapter of one of the model's blocks."""

    @abstractmethod
    def _patches(self, images: Tensor) -> Tensor:
        """Everything before the first stage: images to (batch, tokens, dim)."""

    @abstractmethod
    def _between(self, module: nn.Module, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens through the step before a stage; `grid` is that before it."""

    @abstractmethod
    def _flops_outside(self) -> int | None:
        """FLOPs of one image before the first block, between stages and after the last block, without a head.

        None where they have no closed form here.
        """

    # What all have

    @property
    def shape(self) -> BackboneShape:
        per_block = [block.stage() for block in self.blocks]
        stages = tuple(_joined(list(alike)) for _, alike in groupby(per_block))
        last = stages[-1]
        plain_patches, plain_final = (end is not None for end in self.ends())
        return BackboneShape(
            dim=last.dim,
            depth=len(self.blocks),
            num_heads=last.num_heads,
            head_dim=last.head_dim,
            hidden=last.hidden,
            hidden_in=last.hidden_in,
            parameters=sum(p.numel() for n, p in self.model.named_parameters() if not n.startswith(self.head)),
            grid=last.grid,
            prefix_tokens=self.num_prefix_tokens,
            flops_outside=self._flops_outside(),
            scaled_ends=not all(b.ends_in_linear(o) for b in self.blocks for o in ("attention", "mlp") if self._has(o)),
            plain_norms=all(is_layer_norm(m) for b in self.blocks for m in b.norms()),
            plain_patches=plain_patches,
            plain_final=plain_final,
            stages=stages,
            lacks=self.lacks,
            attends=self.attends,
            joins=self.joins,
            post_norm=self.post_norm,
            features=None if self.num_features == last.dim else self.num_features,
        )

    def _has(self, operation: Operation) -> bool:
        return operation in self.operations

    @property
    def num_prefix_tokens(self) -> int:
        return 0

    @property
    def num_features(self) -> int:
        features: int = self._timm.num_features
        return features

    @property
    def channels(self) -> int:
        channels: int = self._timm.in_chans
        return channels

    def enter(self, index: int, tokens: Tensor) -> Tensor:
        step = self._steps_at.get(index)
        return tokens if step is None else self._through(step, tokens)

    def _through(self, step: Step, tokens: Tensor) -> Tensor:
        return tokens if step.module is None else self._between(step.module, tokens, step.before)

    def embed(self, images: Tensor) -> Tensor:
        self._check_size(images)
        return self._placed(self._through(self._steps[0], self._patches(images)))

    def embed_tuned(self, images: Tensor, tuners: BlockTuners) -> Tensor:
        self._check_size(images)
        patches = self._patches(images)
        return self._placed(self._through(self._steps[0], tuners.add("patches", self.blocks[0], patches, patches)))

    def _placed(self, patches: Tensor) -> Tensor:
        """Patches as the first block reads them, with their places and a class token where the model has these."""
        return patches

    def check_image_size(self, where: str) -> None:
        """Any size does, or timm has refused it as it made the model."""
        del where

    def unfuse_attention(self) -> None:
        for module in self.model.modules():
            if getattr(module, "fused_attn", False):
                # `fused_attn` is timm's own switch; it is Final for TorchScript only.
                setattr(module, "fused_attn", False)  # noqa: B010


class StagedBlock(BackboneBlock):
    """A block of a StagedAdapter."""

    @abstractmethod
    def stage(self) -> Stage:
        """Its numbers, as those of a stage of one block."""

    @abstractmethod
    def norms(self) -> Sequence[nn.Module]:
        """Its norms that are operations."""


class BlockWithoutQueries(StagedBlock):
    """A block whose queries, keys and values nothing can be borrowed of; its family says that it does not `attends`."""

    @property
    def softmax_scale(self) -> float:
        raise self._nothing()

    def queries(self, x: Tensor) -> Tensor:
        del x
        raise self._nothing()

    def keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        del tokens
        raise self._nothing()

    def project(self, mixed: Tensor) -> Tensor:
        del mixed
        raise self._nothing()

    def _nothing(self) -> TypeError:
        return TypeError(f"{type(self).__name__} has no queries that could be borrowed")


def _joined(alike: Sequence[Stage]) -> Stage:
    first = alike[0]
    return Stage(**{**vars(first), "blocks": len(alike)})


def is_layer_norm(module: nn.Module | None) -> bool:
    """Whether it is a LayerNorm with weight and bias."""
    return isinstance(module, nn.LayerNorm) and module.weight is not None and module.bias is not None


def conv_flops(conv: nn.Conv2d, grid: tuple[int, int]) -> int:
    """FLOPs of a convolution whose output has so many rows and columns."""
    return 2 * math.prod(grid) * conv.weight.numel()


def check_configured(model: nn.Module, where: str) -> None:
    """Raise BackboneError, from `where`, where a model of any size does not say that its images are of a square one."""
    if "input_size" not in (getattr(model, "pretrained_cfg", None) or {}):
        raise BackboneError(where, "its pretrained_cfg says the input_size of its images", "none")
    check_square(configured_size(model), where)


def configured_size(model: nn.Module) -> tuple[int, int]:
    """Height and width of images, as timm's configuration of a model of any size says."""
    _, height, width = cast(Any, model).pretrained_cfg["input_size"]
    return height, width


def all_blocks(stages: Iterable[Any]) -> list[Any]:
    """The blocks of timm's stages, in order."""
    return [block for stage in stages for block in stage.blocks]
