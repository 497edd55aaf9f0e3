"""What a family of backbones has to tell: one adapter around a frozen model, and one around each of its blocks.

Everything else asks these: no other module knows how a family names and calls its parts. A new family is a subclass of
`BackboneAdapter` and one of `BackboneBlock` in a module of its own, and an entry in `registry.OURS` or, in another
distribution, an entry point of the group `utuning_search.backbones`. `testing.BackboneContract` measures their claims.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from utuning_search.common.errors import BackboneError
from utuning_search.tuners import BackboneShape, FrozenBlock, Operation


class BlockTuners(ABC):
    """What a design has inside one block, for `BackboneBlock.run` to ask at each operation that it passes."""

    @abstractmethod
    def touches(self, *operations: Operation) -> bool:
        """Whether something is added at one of these; if not, the block may run them as a whole."""

    @abstractmethod
    def add(self, operation: Operation, block: FrozenBlock, x: Tensor, y: Tensor) -> Tensor:
        """y = OP(x) with what is added there, of y's shape and dtype.

        Args:
            operation: Any of the block's but "block", which is not the family's to add; or one outside the blocks,
                which comes with the first block.
            block: The block that asks.
            x: (batch, tokens, in_dim).
            y: (batch, tokens, out_dim).
        """

    @abstractmethod
    def normalise(self, operation: Operation, norm: nn.Module, x: Tensor) -> Tensor:
        """The norm before "attention" or "mlp" applied to x (batch, tokens, dim), as tuned from within."""

    @abstractmethod
    def rows(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values that join the softmax before the block's own, one by one.

        Args:
            x: Tokens (batch, tokens, dim) that the attention reads, after its norm.

        Returns:
            Each (heads, length, head_dim), or (batch, heads, length, head_dim).
        """


class LinearMap(ABC):
    """The linear map whose output is an operation's output, wherever a family keeps its weight and bias."""

    @property
    @abstractmethod
    def widths(self) -> tuple[int, int]:
        """(input width, output width)."""

    @abstractmethod
    def weight(self) -> Tensor:
        """(output width, input width)."""

    @abstractmethod
    def bias(self) -> Tensor | None:
        """(output width,), or None where it has none."""

    @abstractmethod
    def assign(self, weight: Tensor, bias: Tensor) -> None:
        """Take another weight and bias in place of its own; neither is trainable."""


@dataclass(frozen=True)
class LinearPart(LinearMap):
    """One module, and the rows of its weight that make an operation's output."""

    module: nn.Linear
    rows: slice

    @property
    def widths(self) -> tuple[int, int]:
        return self.module.in_features, self.rows.stop - self.rows.start

    def weight(self) -> Tensor:
        return self.module.weight[self.rows]

    def bias(self) -> Tensor | None:
        own = cast(Tensor | None, self.module.bias)
        return None if own is None else own[self.rows]

    def assign(self, weight: Tensor, bias: Tensor) -> None:
        whole, own = self.module.weight.detach().clone(), cast(Tensor | None, self.module.bias)
        biases = torch.zeros_like(whole[:, 0]) if own is None else own.detach().clone()
        whole[self.rows], biases[self.rows] = weight, bias
        self.module.weight = nn.Parameter(whole, requires_grad=False)
        self.module.bias = nn.Parameter(biases, requires_grad=False)


class BackboneBlock(FrozenBlock):
    """One frozen block. It keeps the model's own module, and registers nothing with it."""

    @abstractmethod
    def widths(self, operation: Operation) -> tuple[int, int]:
        """(input width, output width) of one of its operations, read off its own modules."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """The bare block, as the model itself runs it: (batch, tokens, dim) to the same."""

    @abstractmethod
    def run(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        """The block with tuners inside, (batch, tokens, dim) to the same; with none, `__call__` bit for bit.

        `tuners.add` is asked once at each operation but "block" that is not run as a whole, inner ones first.
        """

    @abstractmethod
    def linear(self, operation: Operation) -> LinearMap | None:
        """The last linear map of a linear operation, "attention" or "mlp"; None where there is none."""

    def weight(self, operation: Operation) -> Tensor:
        part = self.linear(operation)
        if part is None:
            raise BackboneError(f"the weight of '{operation}'", "the operation is one linear map", "another")
        return part.weight()

    def normed(self, operation: Operation, x: Tensor) -> Tensor:
        """Tokens (batch, tokens, dim) through the norm before or after "attention" or "mlp"."""
        return cast(Tensor, self.norm(operation)(x))

    @abstractmethod
    def ends_in_linear(self, operation: Operation) -> bool:
        """Whether nothing but dropout stands between the output of `linear(operation)` and the operation's."""


class BackboneAdapter(ABC):
    """One frozen model of a family, as designs, training and merging see it.

    It is no `nn.Module` and owns nothing: the model stays where it is registered, and a deep copy of whoever holds
    both wraps the copied model. Only `unfuse_attention` changes the model, in how it computes and not in what.

    Attributes:
        named: What models of the family are called in errors, with an article.
        head: How names of tensors of a head begin; backbones have none.
        operations: Those that its blocks have.
        lacks_because: Why they have no others.
        attends: Whether the queries and projections of every block can be borrowed; see `FrozenBlock.attend`.
        joins: Whether tokens, keys and values of tuners can join the attention of every block.
        any_size: Whether a model takes images of any size, and its timm configuration says which.
        head_arguments: That timm makes a model with whose head is one linear map, where it has another one by default.
        model: The model.
        blocks: Its blocks in order.
    """

    named: ClassVar[str]
    head: ClassVar[tuple[str, ...]]
    operations: ClassVar[tuple[Operation, ...]]
    lacks_because: ClassVar[str] = "its blocks have none"
    attends: ClassVar[bool] = True
    joins: ClassVar[bool] = True
    any_size: ClassVar[bool] = False
    head_arguments: ClassVar[Mapping[str, Any]] = {}
    model: nn.Module
    blocks: Sequence[BackboneBlock]

    @abstractmethod
    def __init__(self, model: nn.Module) -> None:
        """Around a model that `recognises` and `check` let through."""

    @classmethod
    @abstractmethod
    def recognises(cls, model: nn.Module) -> bool:
        """Whether a model is of this family; no two families recognise one model."""

    @classmethod
    @abstractmethod
    def check(cls, model: nn.Module, where: str) -> None:
        """Say why a model of this family cannot carry tuners.

        Raises:
            BackboneError: From `where`; names the part that is in the way.
        """

    @classmethod
    def defaults(cls, model: nn.Module) -> dict[str, Any]:
        """What timm is told instead of its own defaults, which make a model of this family that `check` refuses; such
        as to pool its tokens. The weights are the same. Nothing, unless a family says so."""
        del model
        return {}

    @property
    @abstractmethod
    def shape(self) -> BackboneShape:
        """The numbers that closed-form sizes depend on; `lacks`, `attends` and `joins` are as the family says."""

    @property
    @abstractmethod
    def num_features(self) -> int:
        """Width of what `pool` gives."""

    @property
    @abstractmethod
    def num_prefix_tokens(self) -> int:
        """Class, register and other tokens before those of patches."""

    @property
    @abstractmethod
    def image_size(self) -> int:
        """Height and width of its images, in pixels."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Of its images."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Everything before the first block: (batch, channels, height, width) to (batch, tokens, dim)."""

    def enter(self, index: int, tokens: Tensor) -> Tensor:
        """What the block of an index (from 0) reads, of what the block before gives: the same, but between stages."""
        del index
        return tokens

    def run(self, tokens: Tensor, start: int, stop: int) -> Tensor:
        """The bare blocks with an index (from 0) in start <= index < stop, each after `enter`."""
        for index in range(start, stop):
            tokens = self.blocks[index](self.enter(index, tokens))
        return tokens

    @abstractmethod
    def pool(self, tokens: Tensor) -> Tensor:
        """Everything after the last block but the head: (batch, tokens, dim) to (batch, num_features)."""

    def embed_tuned(self, images: Tensor, tuners: BlockTuners) -> Tensor:
        """`embed` with `tuners.add` asked at "patches", of families that have this operation."""
        raise TypeError(f"{self.named} has no operation 'patches', for {tuners} on {len(images)} images")

    def pool_tuned(self, tokens: Tensor, tuners: BlockTuners) -> Tensor:
        """`pool` with `tuners.add` asked at "final", of families that have this operation."""
        raise TypeError(f"{self.named} has no operation 'final', for {tuners} on {len(tokens)} images")

    def ends(self) -> tuple[nn.Module | None, nn.Module | None]:
        """The convolution that makes what "patches" gives and the LayerNorm that makes what "final" gives, both with a
        bias; None where another module does, or several do."""
        return None, None

    @abstractmethod
    def unfuse_attention(self) -> None:
        """Use plain matmuls in the attention of this one model.

        On CPUs the fused kernel's backward in bf16 is about four times slower than plain matmuls.
        """

    @abstractmethod
    def check_image_size(self, where: str) -> None:
        """Raise InputError, from `where`, where the model's image size does not fall into patches."""

    @abstractmethod
    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint's tensors under the model's own names, and resampled to its image size."""

    def read_npz(self, path: Path) -> dict[str, Tensor]:
        """All tensors of the model, as a .npz file has them; the model stays as it is."""
        raise TypeError(f"no .npz of {self.named} is known, at {path}")

    @classmethod
    def bias_arguments(cls, names: Sequence[str]) -> dict[str, Any]:
        """What timm is told, so that a fresh model has biases of these names, which merging gave to this one."""
        separate = ("qkv.bias", "q_bias", "v_bias", "q_proj.bias", "v_proj.bias")
        return {"qkv_bias" if n.endswith(separate) else "proj_bias": True for n in names}

    def plain_state(self) -> dict[str, Tensor]:
        """The model's tensors under the names of a fresh model with biases, whatever merging put where.

        Raises:
            BackboneError: The model has something that a fresh one has no place for.
        """
        return dict(self.model.state_dict())

    def _check_size(self, images: Tensor) -> None:
        """Raise BackboneError unless images are as large as the model's own: its blocks know so many places, and would
        take more patches for prompts."""
        if tuple(images.shape[-2:]) != (self.image_size, self.image_size):
            rule, got = f"images are of {self.image_size} pixels", "x".join(map(str, images.shape[-2:]))
            raise BackboneError(f"backbone '{type(self.model).__name__}'", rule, got)
