"""What a tuner is: a frozen config that states claims, and the small module it builds."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from utuning_search.errors import InputError
from utuning_search.tuners.references import Reference

Operation = Literal["attention", "mlp", "block", "qkv", "proj", "fc1", "fc2"]
Form = Literal["parallel", "sequential", "mixed", "inside"]
Scale = Literal["none", "scalar", "channel"] | float

LINEAR_OPERATIONS: tuple[Operation, ...] = ("qkv", "proj", "fc1", "fc2")
TOKEN_OPERATIONS: tuple[Operation, ...] = ("attention", "mlp", "block")
OPERATIONS: tuple[Operation, ...] = TOKEN_OPERATIONS + LINEAR_OPERATIONS
ADDITIVE_FORMS: tuple[Form, ...] = ("parallel", "sequential", "mixed")
FORMS: tuple[Form, ...] = (*ADDITIVE_FORMS, "inside")
LEARNED_SCALES = ("scalar", "channel")


@dataclass(frozen=True)
class BackboneShape:
    """The numbers of a ViT that sizes depend on.

    Attributes:
        dim: Width of a token.
        depth: Number of blocks.
        num_heads: Attention heads.
        head_dim: Width of a head.
        hidden: Output width of `fc1`.
        hidden_in: Input width of `fc2`; less than `hidden` in gated MLPs.
        parameters: All parameters of the backbone without a head.
    """

    dim: int
    depth: int
    num_heads: int
    head_dim: int
    hidden: int
    hidden_in: int
    parameters: int

    def widths(self, operation: Operation) -> tuple[int, int]:
        """(input width, output width) of an operation."""
        heads = self.num_heads * self.head_dim
        linear = {
            "qkv": (self.dim, 3 * heads),
            "proj": (heads, self.dim),
            "fc1": (self.dim, self.hidden),
            "fc2": (self.hidden_in, self.dim),
        }
        return linear.get(operation, (self.dim, self.dim))


@dataclass(frozen=True)
class Site:
    """Where one tuner module works: it maps (batch, tokens, in_dim) to (batch, tokens, out_dim)."""

    in_dim: int
    out_dim: int
    num_heads: int
    head_dim: int


@dataclass(frozen=True)
class TunerConfig(ABC):
    """A tuner's kind and size. Every property is a claim that the contract tests measure.

    Attributes:
        kind: The name in TOML files and on the command line.
        summary: What it computes, in one line.
        references: The papers it comes from.
    """

    kind: ClassVar[str]
    summary: ClassVar[str]
    references: ClassVar[tuple[Reference, ...]]

    @property
    @abstractmethod
    def operations(self) -> tuple[Operation, ...]:
        """Operations at which it is legal."""

    @property
    @abstractmethod
    def forms(self) -> tuple[Form, ...]:
        """Legal forms, the customary one first; ("inside",) where it works within the operation."""

    @property
    @abstractmethod
    def starts_at_zero(self) -> bool:
        """Whether a fresh tuner leaves the operation exactly as it was."""

    @property
    def scalable(self) -> bool:
        """Whether a scale may stand before it."""
        return self.forms != ("inside",)

    @property
    def mergeable(self) -> bool:
        """Whether it can be folded into the frozen weights of a linear operation or a norm."""
        return False

    @property
    def once(self) -> bool:
        """Whether it is placed in exactly one block and acts on all later ones."""
        return False

    @property
    def label(self) -> str:
        """A short human name without the size, such as "exact prefix"."""
        return self.kind.replace("_", " ")

    @property
    def size_label(self) -> str:
        """The size in the field's shorthand, such as "r=8"; empty where it has none."""
        return ""

    @abstractmethod
    def num_parameters(self, site: Site) -> int:
        """Closed-form number of trainable parameters of one module at `site`, without its scale."""

    @abstractmethod
    def build(self, site: Site) -> nn.Module:
        """A fresh `Tuner` (or `InsideTuner` where forms are ("inside",)) for `site`."""

    def options(self) -> dict[str, Any]:
        """Field names and values, as in TOML."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


class Tuner(nn.Module):
    """U of x' = OP(x) + s U(.): added to the output of a frozen operation."""

    def forward(self, x: Tensor, block: nn.Module) -> Tensor:
        """Map x (batch, tokens, in_dim) to (batch, tokens, out_dim).

        Args:
            x: OP's input in parallel form, OP's output in sequential form.
            block: The frozen timm block, for tuners that use its projections; never registered here.
        """
        raise NotImplementedError(f"{type(self).__name__} defines forward")

    @property
    def borrows_attention(self) -> bool:
        """Whether it computes with the block's frozen norm1, qkv and proj, which then must not change."""
        return False

    def affine(self) -> tuple[Tensor | None, Tensor | None] | None:
        """(M, c) with U(x) = x Mᵀ + c, M of (out_dim, in_dim), c of (out_dim,); None if U is not affine."""
        return None


class InsideTuner(nn.Module):
    """A tuner that changes its operation from within: U(x) = OP'(x) - OP(x) has no simpler form.

    Each method is the identity unless a tuner redefines it.

    Attributes:
        stays: Whether its extra tokens stay in the sequence after its block.
    """

    stays: bool = False

    def normalise(self, norm: nn.Module, x: Tensor) -> Tensor:
        """The operation's LayerNorm applied to x (batch, tokens, dim)."""
        return cast(Tensor, norm(x))

    def extra_keys_values(self) -> tuple[Tensor, Tensor] | None:
        """Keys and values of (heads, length, head_dim) that join the softmax, or None."""
        return None

    def extra_tokens(self) -> Tensor | None:
        """Tokens of (length, dim) that join the sequence after the backbone's prefix tokens, or None."""
        return None

    def fold(self, block: nn.Module, operation: Operation) -> bool:
        """Fold into the frozen weights of `block` in place; whether that was possible."""
        del block, operation
        return False


def check_count(kind: str, name: str, value: object, high: int) -> None:
    """Raise InputError unless `value` is an integer from 1 to `high`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= high:
        raise InputError(f"tuner '{kind}'", f"{name} is an integer from 1 to {high}", repr(value))


def check_choice(kind: str, name: str, value: object, known: tuple[str, ...]) -> None:
    """Raise InputError unless `value` is one of `known`."""
    if value not in known:
        raise InputError(f"tuner '{kind}'", f"{name} is one of {', '.join(known)}", repr(value))


def zeros(*shape: int) -> nn.Parameter:
    """A trainable tensor of zeros."""
    return nn.Parameter(torch.zeros(*shape))
