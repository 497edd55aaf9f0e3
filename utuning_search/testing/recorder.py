"""What passes the operations of a block, for contracts and tests of families."""

from torch import Tensor, nn

from utuning_search.backbones.family import BlockTuners
from utuning_search.tuners import FrozenBlock, Operation


class Recorder(BlockTuners):
    """Adds nothing, and keeps what passed each operation; `steps` asks for no operation to be run as a whole."""

    def __init__(self, *, steps: bool) -> None:
        self.steps = steps
        self.seen: dict[Operation, tuple[Tensor, Tensor]] = {}
        self.order: list[str] = []
        self.blocks: set[int] = set()

    def touches(self, *operations: Operation) -> bool:
        return self.steps and bool(operations)

    def add(self, operation: Operation, block: FrozenBlock, x: Tensor, y: Tensor) -> Tensor:
        self.seen[operation] = x, y
        self.order.append(operation)
        self.blocks.add(id(block))
        return y

    def normalise(self, operation: Operation, norm: nn.Module, x: Tensor) -> Tensor:
        self.order.append(f"norm of {operation}")
        normalised: Tensor = norm(x)
        return normalised

    def rows(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        del x
        return []
