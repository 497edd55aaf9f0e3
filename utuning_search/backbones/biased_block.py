"""Blocks whose attention has biases by relative position among all tokens: BEiT's, and those of timm's relpos ViTs."""

from abc import abstractmethod
from typing import Any, cast

import torch
from torch import Tensor, nn

from utuning_search.backbones.timm_block import TimmBlock


class BiasedBlock(TimmBlock):
    """A block of a model, which has some bias in common with the others perhaps.

    Its biases are between the class token and the patches. Prompts and prefixes get none, as queries or as keys.
    """

    def __init__(self, model: nn.Module, index: int) -> None:
        self._model = cast(Any, model)
        super().__init__(self._model.blocks[index])

    @abstractmethod
    def _own(self) -> list[Tensor]:
        """Of the model's own tokens, each (heads, tokens, tokens) or a batch of one of it."""

    @property
    @abstractmethod
    def _biased(self) -> bool:
        """Whether it has any."""

    def _is_longer(self, x: Tensor) -> bool:
        known: int = self._model.patch_embed.num_patches + self._model.num_prefix_tokens
        return self._biased and x.shape[1] != known

    def _biases(self, tokens: int, keys: int) -> list[Tensor]:
        at: int = self._model.num_prefix_tokens
        # Rows that join the softmax are the first keys, tokens that join the sequence come after the prefix.
        return [
            _with_zeros(_with_zeros(_with_zeros(b, tokens, at, -2), tokens, at, -1), keys, 0, -1) for b in self._own()
        ]


def _with_zeros(x: Tensor, length: int, position: int, dim: int) -> Tensor:
    """x with as many zeros before index `position` of a dimension as make it `length` long."""
    count = length - x.shape[dim]
    if not count:
        return x
    shape = list(x.shape)
    shape[dim] = count
    before, after = x.narrow(dim, 0, position), x.narrow(dim, position, x.shape[dim] - position)
    return torch.cat([before, x.new_zeros(shape), after], dim=dim)
