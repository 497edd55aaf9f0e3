"""Prompt tuning: learned tokens, in the sequence (VPT) or beside it (U-Tuning's parallel tuner).

    deep      fresh tokens join the sequence of each block and leave it after that block (VPT-deep)
    shallow   tokens join before one block and stay to the last one (VPT-shallow where that is block 1)
    parallel  Attn(x W_q, P W_k, P W_v) W_o with the block's frozen projections, added with a scale

Tokens join right after the backbone's own prefix tokens (class, registers), so index 0 stays the class token.
"""

import math
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
)
from utuning_search.tuners.frozen_block import FrozenBlock, attend_flops, keys_values_flops
from utuning_search.tuners.references import U_TUNING, VPT, Reference
from utuning_search.tuners.sites import Site

MAX_LENGTH = 512
READINGS = ("deep", "shallow", "parallel")
PATCH_AREA = 3 * 16 * 16  # VPT's initialisation is stated for RGB patches of 16 pixels


@dataclass(frozen=True)
class PromptConfig(TunerConfig):
    """Attributes: length, tokens; reading, "deep", "shallow" or "parallel"."""

    length: int
    reading: str = "deep"

    kind: ClassVar[str] = "prompt"
    summary: ClassVar[str] = "learned tokens: in the sequence (deep, shallow), or a parallel attention"
    references: ClassVar[tuple[Reference, ...]] = (VPT, U_TUNING)

    def __post_init__(self) -> None:
        check_count(self.kind, "length", self.length, MAX_LENGTH)
        check_choice(self.kind, "reading", self.reading, READINGS)

    @property
    def operations(self) -> tuple[Operation, ...]:
        return TOKEN_OPERATIONS if self.reading == "parallel" else ("block",)

    @property
    def forms(self) -> tuple[Form, ...]:
        return ADDITIVE_FORMS if self.reading == "parallel" else ("inside",)

    def cited(self, form: Form) -> tuple[Reference, ...]:
        del form
        return (VPT, U_TUNING) if self.reading == "parallel" else (VPT,)

    @property
    def per_token(self) -> bool:
        return True

    @property
    def starts_at_zero(self) -> bool:
        return False

    @property
    def once(self) -> bool:
        return self.reading == "shallow"

    @property
    def label(self) -> str:
        return {"deep": "deep prompt", "shallow": "shallow prompt", "parallel": "prompt"}[self.reading]

    @property
    def size_label(self) -> str:
        return f"l={self.length}"

    @property
    def borrows_attention(self) -> bool:
        return self.reading == "parallel"

    @property
    def extra_tokens(self) -> int:
        return 0 if self.reading == "parallel" else self.length

    def num_parameters(self, site: Site) -> int:
        return self.length * site.in_dim

    def num_flops(self, site: Site, tokens: int) -> int:
        if self.reading != "parallel":
            return 0
        return keys_values_flops(site, self.length) + attend_flops(site, tokens, self.length)

    def build(self, site: Site) -> nn.Module:
        return ParallelPrompt(self, site) if self.reading == "parallel" else SequencePrompt(self, site)


def _tokens(config: PromptConfig, site: Site) -> nn.Parameter:
    """Uniform as in VPT's released code: ±sqrt(6 / (3·16·16 + dim))."""
    bound = math.sqrt(6 / (PATCH_AREA + site.in_dim))
    return nn.Parameter(torch.empty(config.length, site.in_dim).uniform_(-bound, bound))


class SequencePrompt(InsideTuner):
    """Tokens (length, dim) that join the sequence."""

    def __init__(self, config: PromptConfig, site: Site) -> None:
        super().__init__()
        self.stays = config.once
        self.tokens = _tokens(config, site)

    def extra_tokens(self) -> Tensor | None:
        return self.tokens


class ParallelPrompt(Tuner):
    """A separate attention over the prompt's frozen keys and values; the prompt's own rows are dropped."""

    def __init__(self, config: PromptConfig, site: Site) -> None:
        super().__init__()
        self.tokens = _tokens(config, site)

    def forward(self, x: Tensor, block: FrozenBlock) -> Tensor:
        return block.attend(x, *block.keys_values(self.tokens))
