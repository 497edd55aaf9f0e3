"""Tokens before a block, computed once for all trials: the frozen blocks before a design's first tuner.

Exact, because these blocks see no trained parameter and each training image has a fixed set of views.
"""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from utuning_search.backbones.registry import adapter_of
from utuning_search.training.out_of_memory import free, halve_to_fit

BATCH = 256
BUDGET = 2 << 30  # bytes of tokens a process keeps: two block boundaries of ViT-Ti at 96 px on 12,000 images
GPU_SHARE = 4  # on a GPU it is one part in so many of what is free before the first trial


class FeatureCache:
    """Tokens of some sets of images before each block of a frozen backbone, least recently used ones dropped.

    Args:
        backbone: In evaluation mode.
        sources: Images (images, channels, height, width) by name.
        autocast: A context for the forward pass.
        budget: Bytes to keep at most; what would not fit at all is computed afresh from the nearest kept boundary.
        prepare: Makes the backbone's input of a batch of the named source's images; None if they are that already.
    """

    def __init__(
        self,
        backbone: nn.Module,
        sources: dict[str, Tensor],
        autocast: Callable[[], AbstractContextManager[None]],
        budget: int = BUDGET,
        prepare: Callable[[str, Tensor], Tensor] | None = None,
    ) -> None:
        self._backbone, self._sources = adapter_of(backbone), sources
        self._autocast, self._budget = autocast, budget
        self._prepare = prepare or (lambda _, images: images)
        self._batch = BATCH
        self._kept: OrderedDict[tuple[str, int], Tensor] = OrderedDict()

    def tokens(self, source: str, boundary: int) -> Tensor:
        """Tokens (images, tokens, dim) before block index `boundary` (from 0); the depth is after the last block.

        Before index -1 they are the backbone's input itself, which is not kept.
        """
        if boundary < 0:
            return self._prepare(source, self._sources[source])
        key = (source, boundary)
        if key not in self._kept:
            self._keep(key, self._fitting(source, boundary))
        self._kept.move_to_end(key)
        return self._kept[key]

    @property
    def bytes(self) -> int:
        """Bytes kept now."""
        return sum(t.numel() * t.element_size() for t in self._kept.values())

    def _fitting(self, source: str, boundary: int) -> Tensor:
        """As `_compute`; where memory runs out, without what was kept, and then in smaller batches from then on."""
        try:
            return self._compute(source, boundary, self._batch)
        except torch.OutOfMemoryError:
            self._kept.clear()
        device = self._sources[source].device
        free(device)
        tokens, self._batch = halve_to_fit(lambda size: self._compute(source, boundary, size), self._batch, device)
        return tokens

    @torch.no_grad()
    def _compute(self, source: str, boundary: int, batch: int) -> Tensor:
        start = max((b for s, b in self._kept if s == source and b <= boundary), default=-1)
        tokens = self._sources[source] if start < 0 else self._kept[source, start]
        found = None
        # The same batches from any start, so that the result does not depend on what was kept.
        for first in range(0, len(tokens), batch):
            part = tokens[first : first + batch]
            with self._autocast():
                out = self._backbone.embed(self._prepare(source, part)) if start < 0 else part
                out = self._backbone.run(out, max(start, 0), boundary)
            if found is None:  # as a whole, for parts that are put together need twice the memory
                found = out.new_empty((len(tokens), *out.shape[1:]))
            found[first : first + batch] = out
        assert found is not None, "a split has images"
        return found

    def _keep(self, key: tuple[str, int], tokens: Tensor) -> None:
        self._kept[key] = tokens
        while self.bytes > self._budget and len(self._kept) > 1:
            self._kept.popitem(last=False)


def budget_on(device: str, sharers: int = 1) -> int:
    """Bytes of tokens that one of `sharers` processes on a device keeps; of a GPU, what is free there now decides."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0]) // GPU_SHARE // sharers
    return BUDGET
