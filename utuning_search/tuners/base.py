"""What a tuner is: a frozen config that states claims, and the small module it builds."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from utuning_search.common.errors import InputError
from utuning_search.tuners.frozen_block import FrozenBlock
from utuning_search.tuners.operations import (
    ADDITIVE_FORMS,
    CORE_OPERATIONS,
    FORMS,
    GATE,
    LEARNED_SCALES,
    LINEAR_OPERATIONS,
    NORM_OPERATIONS,
    OPERATIONS,
    QKV_PARTS,
    TOKEN_OPERATIONS,
    Form,
    Operation,
    Scale,
)
from utuning_search.tuners.references import Reference

__all__ = [
    "ADDITIVE_FORMS",
    "CORE_OPERATIONS",
    "FORMS",
    "GATE",
    "LEARNED_SCALES",
    "LINEAR_OPERATIONS",
    "NORM_OPERATIONS",
    "OPERATIONS",
    "QKV_PARTS",
    "TOKEN_OPERATIONS",
    "BackboneShape",
    "Form",
    "InsideTuner",
    "Operation",
    "Scale",
    "Site",
    "Tuner",
    "TunerConfig",
    "check_choice",
    "check_count",
    "zeros",
]


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
        grid: Patches along the height and the width of an image.
    """

    dim: int
    depth: int
    num_heads: int
    head_dim: int
    hidden: int
    hidden_in: int
    parameters: int
    grid: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))  # a storage gives it back as a list

    def widths(self, operation: Operation) -> tuple[int, int]:
        """(input width, output width) of an operation."""
        heads = self.num_heads * self.head_dim
        linear = {
            "qkv": (self.dim, 3 * heads),
            **dict.fromkeys(QKV_PARTS, (self.dim, heads)),
            "proj": (heads, self.dim),
            "fc1": (self.dim, self.hidden),
            "fc2": (self.hidden_in, self.dim),
        }
        return linear.get(operation, (self.dim, self.dim))


@dataclass(frozen=True)
class Site:
    """Where one tuner module works: it maps (batch, tokens, in_dim) to (batch, tokens, out_dim).

    The last grid[0] * grid[1] tokens are an image's patches, row by row; class, register and prompt tokens come
    before them.
    """

    in_dim: int
    out_dim: int
    num_heads: int
    head_dim: int
    grid: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class TunerConfig(ABC):
    """A tuner's kind and size. Every property is a claim that the contract tests measure.

    Attributes:
        kind: The name in TOML files and on the command line.
        summary: What it computes, in one line.
        references: The papers its kind comes from; those of one form or reading are in `cited`.
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

    def forms_at(self, operation: Operation) -> tuple[Form, ...]:
        """Legal forms at one of its operations, the customary one first."""
        return tuple(f for f in self.forms if f == "parallel") if operation in CORE_OPERATIONS else self.forms

    def cited(self, form: Form) -> tuple[Reference, ...]:
        """The papers of this very tuner in this form."""
        del form
        return self.references

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
    def named(self) -> str:
        """The label with its article, such as "an exact prefix"."""
        return f"{'an' if self.label[0] in 'aeiou' else 'a'} {self.label}"

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

    def shared_name(self, site: Site) -> str | None:
        """Name of what all modules of this config and width share in a design; None where they share nothing."""
        del site
        return None

    def num_shared(self, site: Site) -> int:
        """Closed-form number of shared trainable parameters, which count once a design."""
        del site
        return 0

    def build_shared(self, site: Site) -> nn.Module:
        """A fresh module that holds what is shared; see `Tuner.connect`."""
        raise TypeError(f"{self.named} shares nothing, at {site}")

    def options(self) -> dict[str, Any]:
        """Field names and values, as in TOML."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


class Tuner(nn.Module, ABC):
    """U of x' = OP(x) + s U(.): added to the output of a frozen operation.

    Attributes:
        shares: Name of the module that it needs by `connect`; see `TunerConfig.shared_name`.
    """

    shares: str | None = None

    @abstractmethod
    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        """Map x (batch, tokens, in_dim) to (batch, tokens, out_dim).

        Args:
            x: OP's input in parallel form, OP's output in sequential form.
            block: The frozen block around it, for tuners that use its projections.
        """

    def connect(self, shared: nn.Module) -> None:
        """Take the module of `TunerConfig.build_shared`, which stays registered where it is."""
        raise TypeError(f"{type(self).__name__} shares nothing with {type(shared).__name__}")

    @property
    def borrows_attention(self) -> bool:
        """Whether it computes with the projections of its `FrozenBlock`, which then must not change."""
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

    def fold(self, block: FrozenBlock, operation: Operation) -> bool:
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
