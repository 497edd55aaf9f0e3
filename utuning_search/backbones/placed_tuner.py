"""One placement in one block: s U(x) of x' = OP(x) + s U(x), its scales and its gate."""

from typing import cast

import torch
from torch import Tensor, nn

from utuning_search.designs.placement import Placement
from utuning_search.tuners import GATE, BackboneShape, FrozenBlock
from utuning_search.tuners.gate import Gate

MIX_START = 0.5  # of a bypass's λ: both its inputs weigh the same


class PlacedTuner(nn.Module):
    """One placement in one block: its tuner or tuners, each with its scale."""

    def __init__(self, placement: Placement, shape: BackboneShape) -> None:
        super().__init__()
        both = placement.form in ("mixed", "bypass")
        forms = ("parallel", "sequential") if both else (placement.form,)
        self.parallel: nn.Module | None = None
        self.sequential: nn.Module | None = None
        self.constant = placement.scale if isinstance(placement.scale, float) else 1.0
        # A learned scale starts at 0 where the tuner does not: either way the fresh sum is OP(x) exactly.
        start = 1.0 if placement.tuner.starts_at_zero else 0.0
        for form, site in zip(forms, placement.sites(shape), strict=True):
            setattr(self, cast(str, form), placement.tuner.build(site))
            width = {"scalar": 1, "channel": site.out_dim}.get(str(placement.scale))
            if width is not None:
                self.register_parameter(f"{form}_scale", nn.Parameter(torch.full((width,), start)))
            elif placement.scale == GATE:
                self.register_module(f"{form}_gate", Gate(site.in_dim))
        self.mix = nn.Parameter(torch.full((1,), MIX_START)) if placement.form == "bypass" else None

    def gate(self, form: str) -> Gate | None:
        """The gate of "parallel" or "sequential", if it has one."""
        return cast(Gate | None, getattr(self, f"{form}_gate", None))

    def scale(self, form: str) -> Tensor | float:
        """The learned scale of "parallel" or "sequential", (1,) or (out_dim,), or the constant."""
        learned: Tensor | None = getattr(self, f"{form}_scale", None)
        return self.constant if learned is None else learned

    def forward(self, x: Tensor, y: Tensor, block: FrozenBlock) -> Tensor:
        """s1 U1(x) + s2 U2(y) for OP's input x and output y = OP(x)."""
        parts = [
            self._scaled(form, tuner, tokens, block)
            for form, tuner, tokens in (("parallel", self.parallel, x), ("sequential", self.sequential, y))
            if tuner is not None
        ]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def bypass(self, stream: Tensor, side: Tensor, block: FrozenBlock) -> Tensor:
        """λ (x + s1 U1(x)) + (1 - λ) (b + s2 U2(b)) for the frozen block's output x and the side stream b.

        Res-Tuning-Bypass (2310.19859); both (batch, tokens, dim).
        """
        mix = cast(Tensor, self.mix)
        horizontal = stream + self._scaled("parallel", cast(nn.Module, self.parallel), stream, block).to(stream.dtype)
        vertical = side + self._scaled("sequential", cast(nn.Module, self.sequential), side, block).to(side.dtype)
        return mix * horizontal + (1 - mix) * vertical

    def _scaled(self, form: str, tuner: nn.Module, tokens: Tensor, block: FrozenBlock) -> Tensor:
        out: Tensor = tuner(tokens, block)
        gate, scale = self.gate(form), self.scale(form)
        if gate is not None:
            return cast(Tensor, gate(tokens) * out)
        return out if isinstance(scale, float) and scale == 1.0 else scale * out
