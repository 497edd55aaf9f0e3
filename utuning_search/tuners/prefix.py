"""Prefix tuning: learned keys and values, in the paper's two readings.

With λ the softmax mass that falls on the prefix, per query and head (U-Tuning, section 3; He et al., 2022):

    exact     (1 - λ) Attn(Q, K, V) + λ Attn(Q, K_pre, V_pre)      rows join the softmax
    parallel  Attn(Q, K, V) + s Attn(Q, K_pre, V_pre)              U-Tuning's parallel tuner

The parallel reading uses the frozen query and output projections of its block, at `mlp` and `block` too.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from utuning_search.tuners.base import (
    ADDITIVE_FORMS,
    TOKEN_OPERATIONS,
    Form,
    InsideTuner,
    Operation,
    Tuner,
    TunerConfig,
    check_choice,
    check_count,
    zeros,
)
from utuning_search.tuners.frozen_block import FrozenBlock, attend_flops
from utuning_search.tuners.references import PREFIX, U_TUNING, UNIFIED_VIEW, Reference
from utuning_search.tuners.sites import Site

MAX_LENGTH = 512
READINGS = ("exact", "parallel")
KEY_STD = 0.5  # of unit-variance keys: large enough to tell prefix rows apart, small enough for a soft softmax


@dataclass(frozen=True)
class PrefixConfig(TunerConfig):
    """Attributes: length, prefix rows a head; reading, "exact" or "parallel"."""

    length: int
    reading: str = "parallel"

    kind: ClassVar[str] = "prefix"
    summary: ClassVar[str] = "learned keys and values: joined in the softmax (exact), or a parallel attention"
    references: ClassVar[tuple[Reference, ...]] = (PREFIX, UNIFIED_VIEW, U_TUNING)

    def __post_init__(self) -> None:
        check_count(self.kind, "length", self.length, MAX_LENGTH)
        check_choice(self.kind, "reading", self.reading, READINGS)

    @property
    def operations(self) -> tuple[Operation, ...]:
        return ("attention",) if self.reading == "exact" else TOKEN_OPERATIONS

    @property
    def forms(self) -> tuple[Form, ...]:
        return ("inside",) if self.reading == "exact" else ADDITIVE_FORMS

    def cited(self, form: Form) -> tuple[Reference, ...]:
        del form
        return (PREFIX,) if self.reading == "exact" else (PREFIX, U_TUNING)

    @property
    def starts_at_zero(self) -> bool:
        # The exact reading's rows take softmax mass from the first step on, whatever their values.
        return self.reading == "parallel"

    @property
    def label(self) -> str:
        return "exact prefix" if self.reading == "exact" else "prefix"

    @property
    def size_label(self) -> str:
        return f"l={self.length}"

    @property
    def has_keys(self) -> bool:
        """A softmax over a single row is 1 whatever its key, so a parallel prefix of length 1 has values only."""
        return self.reading == "exact" or self.length > 1

    @property
    def borrows_attention(self) -> bool:
        return self.reading == "parallel"

    @property
    def extra_keys(self) -> int:
        return self.length if self.reading == "exact" else 0

    def num_parameters(self, site: Site) -> int:
        return (2 if self.has_keys else 1) * self.length * site.num_heads * site.head_dim

    def num_flops(self, site: Site, tokens: int) -> int:
        return 0 if self.reading == "exact" else attend_flops(site, tokens, self.length)

    def build(self, site: Site) -> nn.Module:
        return ExactPrefix(self, site) if self.reading == "exact" else ParallelPrefix(self, site)


def _keys(config: PrefixConfig, site: Site) -> nn.Parameter:
    return nn.Parameter(KEY_STD * torch.randn(site.num_heads, config.length, site.head_dim))


class ExactPrefix(InsideTuner):
    """Prefix rows that join the softmax; keys and values are (heads, length, head_dim)."""

    def __init__(self, config: PrefixConfig, site: Site) -> None:
        super().__init__()
        self.keys = _keys(config, site)
        self.values = zeros(site.num_heads, config.length, site.head_dim)

    def extra_keys_values(self) -> tuple[Tensor, Tensor] | None:
        return self.keys, self.values


class ParallelPrefix(Tuner):
    """A separate attention over the prefix; values start at zero, so U starts at zero."""

    def __init__(self, config: PrefixConfig, site: Site) -> None:
        super().__init__()
        self.keys = _keys(config, site) if config.has_keys else None
        self.values = zeros(site.num_heads, config.length, site.head_dim)

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        keys = torch.zeros_like(self.values) if self.keys is None else self.keys
        return block.attend(x, keys, self.values)
