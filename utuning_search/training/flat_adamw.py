"""AdamW over a few long vectors instead of many small tensors: as much arithmetic, without the time between tensors."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

TRAINED = "trained"


class FlatAdamW:
    """torch's fused AdamW on parameters that become parts of longer vectors, which it makes at its first step.

    A parameter that has no gradient then is never changed, as by torch's.

    Args:
        parameters: What is trained; they stay what they are, in memory that they share from the first step on.
        learning_rate: To begin with.
        weight_decay: Of matrices; vectors and scalars have none.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], learning_rate: float, weight_decay: float) -> None:
        self.learning_rate = learning_rate
        self._parameters, self._weight_decay = tuple(parameters), weight_decay
        self._parts: list[tuple[nn.Parameter, list[nn.Parameter]]] = []
        self._optimizer: torch.optim.Optimizer | None = None

    def step(self) -> None:
        """Change the parameters by their gradients."""
        if self._optimizer is None:
            self._optimizer = self._begin([p for p in self._parameters if p.grad is not None])
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate
        for whole, parts in self._parts:
            whole.grad = _joined([torch.zeros_like(p) if p.grad is None else p.grad for p in parts])
        self._optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """What the next step depends on besides parameters and gradients, on the CPU; nothing before the first one.

        As `trained` the indices of the parameters that are changed, and of each of the longer vectors what torch keeps.
        """
        if self._optimizer is None:
            return {}
        indices = {id(p): i for i, p in enumerate(self._parameters)}
        found = {TRAINED: torch.tensor(sorted(indices[id(p)] for _, parts in self._parts for p in parts))}
        for i, (whole, _) in enumerate(self._parts):
            found |= {f"{i}.{name}": value.detach().cpu() for name, value in self._optimizer.state[whole].items()}
        return found

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on where the optimizer stood that `state` was taken of; to be called before the first step."""
        if TRAINED not in state:
            return
        self._optimizer = self._begin([self._parameters[i] for i in state[TRAINED].tolist()])
        kept: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            part, _, inner = name.partition(".")
            if name != TRAINED:
                kept.setdefault(int(part), {})[inner] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": kept, "param_groups": groups})

    def _begin(self, trained: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        groups = []
        for kind in dict.fromkeys((p.device, p.dtype, p.ndim > 1) for p in trained):
            parts = [p for p in trained if (p.device, p.dtype, p.ndim > 1) == kind]
            whole = nn.Parameter(_joined([p.detach() for p in parts]))
            for part, place in zip(parts, whole.detach().split([p.numel() for p in parts]), strict=True):
                part.data = place.view_as(part)
            self._parts.append((whole, parts))
            # Decay pulls towards the frozen model in weights; in scales, biases, shifts it would only fight the data.
            groups.append({"params": [whole], "weight_decay": self._weight_decay if kind[2] else 0.0})
        return torch.optim.AdamW(groups, lr=self.learning_rate, fused=True)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])
