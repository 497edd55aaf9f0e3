"""Bregman proximal-point regularisation: a step is held near an average of those before it, by what the model answers.

Jiang et al., SMART (arXiv 1911.03437, section on Bregman proximal point optimization), with its momentum; G-Adapter
(Gui et al., arXiv 2305.10329) trains with it on graphs. SMART's adversarial term is not part of it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOMENTUM = 0.99  # β, as published; the paper raises it to 0.999 late in long trainings


class Proximal:
    """μ D(θ, θ̃) is added to a batch's loss, where θ are the trained parameters and θ̃ an average of their past.

    D(θ, θ̃) = 1/n Σ_i ℓ(p_i, p̃_i), with p_i and p̃_i the class probabilities of image i under θ and θ̃, and the
    symmetrised divergence ℓ(p, p̃) = KL(p‖p̃) + KL(p̃‖p) in nats. θ̃ starts as θ, so D and its gradient are zero at the
    first step, and follows each step: θ̃ ← β θ̃ + (1 - β) θ, with β = 0.99. No gradient goes through θ̃. One more
    forward pass a step.

    Where a tuner drops parts at random both passes draw their own, and D is above zero from the start.

    Args:
        parameters: θ, trained in place.
        weight: μ.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], weight: float) -> None:
        self.weight = weight
        self._parameters = parameters
        self._average = [p.detach().clone() for p in parameters]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """θ̃ stands where θ is, without gradients; no graph of a forward pass may be waiting for its backward."""
        current = [p.data for p in self._parameters]
        try:
            for parameter, average in zip(self._parameters, self._average, strict=True):
                parameter.data = average
            with torch.no_grad():
                yield
        finally:
            for parameter, own in zip(self._parameters, current, strict=True):
                parameter.data = own

    def penalty(self, logits: Tensor, averaged: Tensor) -> Tensor:
        """μ D of logits (images, classes) under θ and under θ̃."""
        own, other = logits.log_softmax(dim=1), averaged.log_softmax(dim=1)
        divergence = F.kl_div(other, own, reduction="batchmean", log_target=True)
        divergence = divergence + F.kl_div(own, other, reduction="batchmean", log_target=True)
        return self.weight * divergence

    @torch.no_grad()
    def follow(self) -> None:
        """Move θ̃ towards θ, after a step."""
        for average, parameter in zip(self._average, self._parameters, strict=True):
            average.lerp_(parameter.detach(), 1 - MOMENTUM)

    def state(self) -> list[Tensor]:
        """θ̃, a tensor a parameter."""
        return [average.cpu() for average in self._average]

    @torch.no_grad()
    def load_state(self, averages: Sequence[Tensor]) -> None:
        """Put θ̃ back."""
        for own, average in zip(self._average, averages, strict=True):
            own.copy_(average)
