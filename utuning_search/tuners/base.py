"""What a tuner is: a frozen config that states claims, and the small module it builds."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from functools import cache
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
    OUTSIDE_OPERATIONS,
    QKV_PARTS,
    TOKEN_OPERATIONS,
    Form,
    Operation,
    Scale,
)
from utuning_search.tuners.references import Reference
from utuning_search.tuners.sites import BackboneShape, Site

__all__ = [
    "ADDITIVE_FORMS",
    "CORE_OPERATIONS",
    "FORMS",
    "GATE",
    "LEARNED_SCALES",
    "LINEAR_OPERATIONS",
    "NORM_OPERATIONS",
    "OPERATIONS",
    "OUTSIDE_OPERATIONS",
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
    def per_token(self) -> bool:
        """Whether other tokens need not be computed where one is read: U of a token is a function of that token alone.

        Without a gate before it. Of a tuner inside an operation: of what it changes apart from keys and values.
        """
        return False

    @property
    def scalable(self) -> bool:
        """Whether a scale may stand before it."""
        return self.forms != ("inside",)

    @property
    def mergeable(self) -> bool:
        """Whether it can be folded into the frozen weights of a linear operation or a norm."""
        return False

    @property
    def is_constant(self) -> bool:
        """Whether U does not depend on the tokens, so that it folds wherever a bias does."""
        return False

    @property
    def borrows_attention(self) -> bool:
        """Whether it computes with the block's frozen norm1, qkv and proj, which then must not change."""
        return False

    @property
    def reads_normed(self) -> bool:
        """Whether, inside an operation, it computes with what the norm before that gives."""
        return False

    @property
    def changes_norm(self) -> bool:
        """Whether it works inside the operation's LayerNorm; see `InsideTuner.normalise`."""
        return False

    @property
    def mixes_channels(self) -> bool:
        """Whether its M (see `Tuner.affine`) is a full matrix where it is legal at a norm: it then folds into the
        linear maps that read the norm, not into the norm's weight."""
        return False

    @property
    def reads_weight(self) -> bool:
        """Whether it computes with the frozen weight of its linear operation, which then must not change; see
        `Tuner.affine`."""
        return False

    @property
    def extra_keys(self) -> int:
        """Keys and values that join the softmax; see `InsideTuner.extra_keys_values`."""
        return 0

    @property
    def extra_tokens(self) -> int:
        """Tokens that join the sequence, to the last block if it is placed `once`; see `InsideTuner.extra_tokens`."""
        return 0

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

    def num_flops(self, site: Site, tokens: int) -> int:
        """Closed-form FLOPs of one unmerged module at `site` on one image, by the convention of `designs/flops.py`.

        Extra keys and tokens are not its own: they make the frozen operation dearer.

        Args:
            site: Where it works.
            tokens: Of the sequence that it reads.

        Raises:
            InputError: The tuner states none.
        """
        del site, tokens
        raise InputError(f"FLOPs of tuner '{self.kind}'", "a tuner states num_flops", "none")

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
        return {name: getattr(self, name) for name in field_names(type(self))}


@cache
def field_names(kind: type[TunerConfig]) -> tuple[str, ...]:
    """The options of a kind of tuner; a search asks for them thousands of times a proposal."""
    return tuple(f.name for f in fields(kind))


class Tuner(nn.Module, ABC):
    """U of x' = OP(x) + s U(.): added to the output of a frozen operation.

    What it draws at random while it is trained comes from torch.Generators that are attributes of its modules: their
    states go into checkpoints.

    Attributes:
        shares: Name of the module that it needs by `connect`; see `TunerConfig.shared_name`.
        reads_weight: As the config claims.
    """

    shares: str | None = None
    reads_weight: bool = False

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

    def affine(self, weight: Tensor | None = None) -> tuple[Tensor | None, Tensor | None] | None:
        """(M, c) with U(x) = x Mᵀ + c, M of (out_dim, in_dim), c of (out_dim,); None if U is not affine.

        Where the tuner is legal at a norm, M is diagonal, as a norm's weight is, unless it `mixes_channels`.

        Args:
            weight: The frozen weight (out_dim, in_dim) of its operation, given to what claims to read it.
        """
        del weight
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

    def extra_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Keys and values that join the softmax, each (heads, length, head_dim) or one such for each image, or None.

        Args:
            x: Tokens (batch, tokens, dim) that the attention reads, after its norm.
        """
        del x
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


def low_rank_flops(site: Site, tokens: int, rank: int) -> int:
    """FLOPs of in_dim -> rank -> out_dim, two linear maps of `tokens` tokens."""
    return 2 * tokens * rank * (site.in_dim + site.out_dim)


def zeros(*shape: int) -> nn.Parameter:
    """A trainable tensor of zeros."""
    return nn.Parameter(torch.zeros(*shape))
