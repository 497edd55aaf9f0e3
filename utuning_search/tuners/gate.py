"""A gate: how much of a tuner joins in, as a function of the tokens that it reads (UniPELT, 2110.07577)."""

import torch
from torch import Tensor, nn


class Gate(nn.Module):
    """A scale that is a function of the input: σ(w·t + b), averaged over tokens; starts at 1/2 (UniPELT)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, tokens, width) to (batch, 1, 1)."""
        return torch.sigmoid(x @ self.weight.to(x.dtype) + self.bias.to(x.dtype)).mean(dim=1).view(-1, 1, 1)


def gate_size(width: int) -> int:
    """Number of parameters of a gate."""
    return width + 1
