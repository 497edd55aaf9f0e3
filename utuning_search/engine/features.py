"""Tokens before a block, computed once for all trials: the frozen blocks before a design's first tuner.

Exact, because these blocks see no trained parameter and each training image has a fixed set of views.
"""

from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from utuning_search import backbone as vit

BATCH = 256
BUDGET = 2 << 30  # bytes of tokens a process keeps: two block boundaries of ViT-Ti at 96 px on 12,000 images


class FeatureCache:
    """Tokens of some sets of images before each block of a frozen backbone, least recently used ones dropped.

    Args:
        backbone: In evaluation mode.
        sources: Normalised images (images, channels, height, width) by name.
        autocast: A context for the forward pass.
        budget: Bytes to keep at most; what would not fit at all is computed afresh from the nearest kept boundary.
    """

    def __init__(
        self,
        backbone: vit.VisionTransformer,
        sources: dict[str, Tensor],
        autocast: Callable[[], AbstractContextManager[None]],
        budget: int = BUDGET,
    ) -> None:
        self._backbone, self._sources, self._autocast, self._budget = backbone, sources, autocast, budget
        self._kept: OrderedDict[tuple[str, int], Tensor] = OrderedDict()

    def tokens(self, source: str, boundary: int) -> Tensor:
        """Tokens (images, tokens, dim) before block index `boundary` (from 0); the depth is after the last block."""
        key = (source, boundary)
        if key not in self._kept:
            self._keep(key, self._compute(source, boundary))
        self._kept.move_to_end(key)
        return self._kept[key]

    @property
    def bytes(self) -> int:
        """Bytes kept now."""
        return sum(t.numel() * t.element_size() for t in self._kept.values())

    @torch.no_grad()
    def _compute(self, source: str, boundary: int) -> Tensor:
        start = max((b for s, b in self._kept if s == source and b <= boundary), default=-1)
        tokens = self._sources[source] if start < 0 else self._kept[source, start]
        parts = []
        # The same batches from any start, so that the result does not depend on what was kept.
        for part in tokens.split(BATCH):
            with self._autocast():
                out = vit.embed(self._backbone, part) if start < 0 else part
                for block in self._backbone.blocks[max(start, 0) : boundary]:
                    out = block(out)
            parts.append(out)
        return torch.cat(parts)

    def _keep(self, key: tuple[str, int], tokens: Tensor) -> None:
        self._kept[key] = tokens
        while self.bytes > self._budget and len(self._kept) > 1:
            self._kept.popitem(last=False)
