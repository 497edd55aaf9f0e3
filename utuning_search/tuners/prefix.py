"""Prefix tuning: learned keys and values, in three readings.

With λ the softmax mass that falls on the prefix, per query and head (U-Tuning, section 3; He et al., 2022):

    exact     (1 - λ) Attn(Q, K, V) + λ Attn(Q, K_pre, V_pre)      rows join the softmax
    parallel  Attn(Q, K, V) + s Attn(Q, K_pre, V_pre)              U-Tuning's parallel tuner
    gated     exact, with g K_pre and g V_pre                      UniPELT; g is a gate of what the attention reads

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
from utuning_search.tuners.gate import Gate, gate_size
from utuning_search.tuners.references import PREFIX, U_TUNING, UNIFIED_VIEW, UNIPELT, Reference
from utuning_search.tuners.sites import Site

MAX_LENGTH = 512
READINGS = ("exact", "parallel", "gated")
KEY_STD = 0.5  # of unit-variance keys: large enough to tell prefix rows apart, small enough for a soft softmax


@dataclass(frozen=True)
class PrefixConfig(TunerConfig):
    """Attributes: length, prefix rows a head of keys; reading, "exact", "parallel" or "gated"."""

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
        return ("attention",) if self.joins else TOKEN_OPERATIONS

    @property
    def forms(self) -> tuple[Form, ...]:
        return ("inside",) if self.joins else ADDITIVE_FORMS

    def cited(self, form: Form) -> tuple[Reference, ...]:
        del form
        return {"exact": (PREFIX,), "parallel": (PREFIX, U_TUNING), "gated": (UNIPELT, PREFIX)}[self.reading]

    @property
    def joins(self) -> bool:
        """Whether its rows join the softmax."""
        return self.reading != "parallel"

    @property
    def per_token(self) -> bool:
        return self.reading != "gated"

    @property
    def starts_at_zero(self) -> bool:
        # Rows in the softmax take mass from the first step on, whatever their values.
        return not self.joins

    @property
    def label(self) -> str:
        return "prefix" if self.reading == "parallel" else f"{self.reading} prefix"

    @property
    def size_label(self) -> str:
        return f"l={self.length}"

    @property
    def has_keys(self) -> bool:
        """A softmax over a single row is 1 whatever its key, so a parallel prefix of length 1 has values only."""
        return self.joins or self.length > 1

    @property
    def borrows_attention(self) -> bool:
        return not self.joins

    @property
    def reads_normed(self) -> bool:
        return self.reading == "gated"

    @property
    def extra_keys(self) -> int:
        return self.length if self.joins else 0

    def num_parameters(self, site: Site) -> int:
        rows = (2 if self.has_keys else 1) * self.length * site.kv_heads * site.head_dim
        return rows + (gate_size(site.in_dim) if self.reading == "gated" else 0)

    def num_flops(self, site: Site, tokens: int) -> int:
        return 0 if self.joins else attend_flops(site, tokens, self.length)

    def build(self, site: Site) -> nn.Module:
        kinds = {"exact": ExactPrefix, "parallel": ParallelPrefix, "gated": GatedPrefix}
        return kinds[self.reading](self, site)


def _keys(config: PrefixConfig, site: Site) -> nn.Parameter:
    return nn.Parameter(KEY_STD * torch.randn(site.kv_heads, config.length, site.head_dim))


class ExactPrefix(InsideTuner):
    """Prefix rows that join the softmax; keys and values are (heads of keys, length, head_dim)."""

    def __init__(self, config: PrefixConfig, site: Site) -> None:
        super().__init__()
        self.keys = _keys(config, site)
        self.values = zeros(site.kv_heads, config.length, site.head_dim)

    def extra_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        del x
        return self.keys, self.values


class GatedPrefix(ExactPrefix):
    """Prefix rows that join the softmax, keys and values times a gate of the image's tokens."""

    def __init__(self, config: PrefixConfig, site: Site) -> None:
        super().__init__(config, site)
        self.gate = Gate(site.in_dim)

    def extra_keys_values(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        open_ = self.gate(x).unsqueeze(-1)  # (batch, 1, 1, 1)
        return open_ * self.keys, open_ * self.values


class ParallelPrefix(Tuner):
    """A separate attention over the prefix; values start at zero, so U starts at zero."""

    def __init__(self, config: PrefixConfig, site: Site) -> None:
        super().__init__()
        self.keys = _keys(config, site) if config.has_keys else None
        self.values = zeros(site.kv_heads, config.length, site.head_dim)

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        keys = torch.zeros_like(self.values) if self.keys is None else self.keys
        return block.attend(x, keys, self.values)
