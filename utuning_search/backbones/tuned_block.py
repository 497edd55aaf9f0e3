"""The tuners of one block, and how they join its operations: x' = OP(x) + s U(x).

Where several placements meet at one operation, tuners inside change OP first; then each parallel tuner reads
OP's input, each sequential one OP's output, and all are added. The order of placements never matters. Operations
nest: what is added at a linear map, a norm, `mhsa` or `ffn` is part of the `attention` or `mlp` around it.
"""

from typing import cast

import torch
from torch import Tensor, nn

from utuning_search.backbones.family import BackboneBlock, BlockTuners
from utuning_search.backbones.placed_tuner import PlacedTuner
from utuning_search.designs.placement import Placement
from utuning_search.tuners import BackboneShape, FrozenBlock, InsideTuner, Operation


class TunedBlock(nn.Module, BlockTuners):
    """All tuners of one block (from 1); the frozen block itself is passed to each call."""

    def __init__(self, placements: list[Placement], shape: BackboneShape, block: int = 1) -> None:
        super().__init__()
        self.added = nn.ModuleDict()
        self.inside = nn.ModuleDict()
        self.names: dict[Placement, str] = {}  # of each placement's module, in its operation's group
        for placement in placements:
            home = self.inside if placement.form == "inside" else self.added
            if placement.operation not in home:
                home[placement.operation] = nn.ModuleDict()
            group = cast(nn.ModuleDict, home[placement.operation])
            name, count = placement.tuner.kind, 2
            while name in group:
                name, count = f"{placement.tuner.kind}_{count}", count + 1
            self.names[placement] = name
            at = placement.at(shape, block)
            if placement.form == "inside":
                (site,) = placement.sites(at)
                group[name] = placement.tuner.build(site)
            else:
                group[name] = PlacedTuner(placement, at)

    def at(self, operation: Operation) -> list[PlacedTuner]:
        return [cast(PlacedTuner, m) for m in _group(self.added, operation)]

    def within(self, operation: Operation) -> list[InsideTuner]:
        return [cast(InsideTuner, m) for m in _group(self.inside, operation)]

    def tokens(self, *, staying: bool) -> list[Tensor]:
        """Tokens (length, dim) that enter at this block, and stay to the last one or leave after this one."""
        found = [(t.stays, t.extra_tokens()) for t in self.within("block")]
        return [extra for stays, extra in found if extra is not None and stays is staying]

    def modules_placed(self) -> list[nn.Module]:
        """Every tuner module that is added, without its scale."""
        placed = [cast(PlacedTuner, t) for group in self.added.values() for t in cast(nn.ModuleDict, group).values()]
        return [m for t in placed for m in (t.parallel, t.sequential) if m is not None]

    def bypass(self, block: FrozenBlock, stream: Tensor, side: Tensor) -> Tensor:
        """The side stream after this block, from the frozen block's output and the side stream before it."""
        for tuner in self.at("block"):
            side = tuner.bypass(stream, side, block)
        return side

    def forward(self, block: BackboneBlock, x: Tensor, position: int) -> Tensor:
        """The tuned block: (batch, tokens, dim) to the same; visiting tokens sit at `position` meanwhile."""
        visitors = self.tokens(staying=False)
        y = drop(block.run(insert(x, visitors, position), self), sum(map(len, visitors)), position)
        if y.shape[1] < x.shape[1]:  # a stand-in that computes only the first ones, see `quick_block`
            x = x[:, : y.shape[1]]
        return self.add("block", block, x, y)

    def touches(self, *operations: Operation) -> bool:
        return any(self.at(operation) for operation in operations)

    def add(self, operation: Operation, block: FrozenBlock, x: Tensor, y: Tensor) -> Tensor:
        deltas = [tuner(x, y, block) for tuner in self.at(operation)]
        out = y
        for delta in deltas:  # every tuner has read y = OP(x) itself by now, not a sum
            out = out + delta.to(y.dtype)
        return out

    def normalise(self, operation: Operation, norm: nn.Module, x: Tensor) -> Tensor:
        for tuner in self.within(operation):
            if type(tuner).normalise is not InsideTuner.normalise:
                return tuner.normalise(norm, x)
        return cast(Tensor, norm(x))

    def rows(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [kv for kv in (t.extra_keys_values(x) for t in self.within("attention")) if kv is not None]


def _group(home: nn.ModuleDict, operation: Operation) -> list[nn.Module]:
    return list(cast(nn.ModuleDict, home[operation]).values()) if operation in home else []


def insert(x: Tensor, extras: list[Tensor], position: int) -> Tensor:
    """x (batch, tokens, dim) with extra tokens (length, dim) before index `position`."""
    if not extras:
        return x
    rows = [e.to(x.dtype).expand(x.shape[0], -1, -1) for e in extras]
    return torch.cat([x[:, :position], *rows, x[:, position:]], dim=1)


def drop(x: Tensor, count: int, position: int) -> Tensor:
    """x (batch, tokens, dim) without `count` tokens from index `position`."""
    return x if count == 0 else torch.cat([x[:, :position], x[:, position + count :]], dim=1)
