"""What a run takes besides its backbone, said before it begins: decoded images on disk, tokens in memory."""

import math
from dataclasses import dataclass

from utuning_search.training.context import SearchContext
from utuning_search.training.feature_cache import BUDGET
from utuning_search.training.task import Task

MIB = 1 << 20
FLOAT = 4  # bytes of a token's number


@dataclass(frozen=True)
class Needs:
    """Bytes.

    Attributes:
        images: Of decoded images, which all workers share; 0 where each has its own in memory.
        tokens: Of the tokens of frozen blocks that a worker on the CPU keeps, at most.
    """

    images: int
    tokens: int

    def __str__(self) -> str:
        disk = f"decoded images {_shown(self.images)} on disk, shared by all workers; " if self.images else ""
        return f"Needs {disk}tokens of frozen blocks up to {_shown(self.tokens)} of memory a worker"


def needs_of(task: Task, context: SearchContext) -> Needs:
    """What a search on a loaded task takes."""
    data, shape = context.data, context.shape
    splits = (data.proxy, data.validation)
    images = sum(split.images.nbytes for split in splits if split.file)
    count = task.data.views * len(data.proxy.labels) + len(data.validation.labels)
    widest = max((math.prod(at.grid) + (shape.prefix_tokens or 0)) * at.dim for at in shape.blocks())
    once = count * widest * FLOAT  # before one block; those of one training are in use together
    return Needs(images, max(once, min(BUDGET, (shape.depth + 1) * once)))


def _shown(size: int) -> str:
    return f"{size / (1 << 30):,.1f} GiB" if size >= 1 << 30 else f"{max(size / MIB, 0.1):,.1f} MiB"
