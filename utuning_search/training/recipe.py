"""How a design is trained."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from utuning_search.common.errors import InputError, nearest
from utuning_search.training.balance import BALANCES, NONE


@dataclass(frozen=True)
class Recipe:
    """How a trial is trained.

    Attributes:
        epochs: Passes over the proxy split.
        batch_size: Images a step.
        learning_rate: Peak, of AdamW; cosine decay to zero over all epochs.
        weight_decay: Of matrices; vectors and scalars have none.
        warmup_epochs: Linear warm-up.
        label_smoothing: Of the cross-entropy, in [0, 1).
        rungs: Epochs after which a trial is measured and may be pruned; the last epoch is always measured.
        balance: Whether classes of unequal size count alike: "none", by "weights" of the loss, or by "sampling" each as
            often as any other.
        proximal: Weight of Bregman proximal-point regularisation (`training/proximal.py`; SMART, arXiv 1911.03437, has
            1); 0 is none.
    """

    epochs: int = 16
    batch_size: int = 32
    learning_rate: float = 0.005
    weight_decay: float = 0.01
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.0
    rungs: tuple[int, ...] = ()
    balance: str = NONE
    proximal: float = 0.0

    def __post_init__(self) -> None:
        positive = {"epochs": self.epochs, "batch_size": self.batch_size, "learning_rate": self.learning_rate}
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise InputError(name, f"{name} is above 0", value)
        if list(self.rungs) != sorted(set(self.rungs)) or (
            self.rungs and not 0 < self.rungs[0] <= self.rungs[-1] < self.epochs
        ):
            raise InputError("rungs", f"rungs ascend within 1 to {self.epochs - 1}", list(self.rungs))
        if not 0 <= self.label_smoothing < 1:
            raise InputError("label_smoothing", "label_smoothing is in [0, 1)", self.label_smoothing)
        if not 0 <= self.warmup_epochs < self.epochs:
            rule = f"warmup_epochs is at least 0 and below epochs, {self.epochs}"
            raise InputError("warmup_epochs", rule, self.warmup_epochs)
        if not 0 <= self.weight_decay < math.inf:
            raise InputError("weight_decay", "weight_decay is not negative", self.weight_decay)
        if not 0 <= self.proximal < math.inf:
            raise InputError("proximal", "proximal is not negative", self.proximal)
        if self.balance not in BALANCES:
            rule = f"balance is one of {', '.join(BALANCES)}"
            raise InputError("balance", rule, repr(self.balance), nearest(self.balance, BALANCES))

    def to_dict(self) -> dict[str, Any]:
        """The TOML table; without what came later where it says nothing, as in older studies."""
        table = {**asdict(self), "rungs": list(self.rungs)}
        if self.balance == NONE:
            del table["balance"]
        if not self.proximal:
            del table["proximal"]
        return table
