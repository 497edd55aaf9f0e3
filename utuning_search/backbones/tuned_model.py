"""Attach a design to a frozen backbone: x' = OP(x) + s U(x), without touching the backbone.

The backbone's modules are called, never replaced, wrapped, hooked or patched; so many designs can share one
backbone at once, and after `detach` it is what it was, bit for bit.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from utuning_search.backbones.family import BackboneBlock
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.tuned_block import TunedBlock, drop, insert
from utuning_search.common.errors import BackboneError
from utuning_search.designs.design import Design
from utuning_search.designs.legality import check_carries
from utuning_search.tuners import BackboneShape, Operation, Tuner

HEAD_STD = 0.02
BLOCK, SHARED, OUTSIDE = "block_", "shared", "outside"
IMAGES = -1  # stands for a block before the first one, for what comes before the patch embedding


class TunedModel(nn.Module):
    """A frozen backbone, the tuners of a design and a linear head: images to logits.

    Args:
        backbone: A model of a family in `registry.FAMILIES`; it is frozen, and shared rather than copied.
        design: Resolved for the backbone's depth here.
        num_classes: Width of the head.

    Attributes:
        adapter: Around `backbone`; in a deep copy around the copied one.

    Raises:
        BackboneError: The backbone cannot carry tuners, or has not the operations of the design.
    """

    backbone: nn.Module

    def __init__(self, backbone: nn.Module, design: Design, num_classes: int) -> None:
        super().__init__()
        self.adapter = adapter_of(backbone)
        self.backbone = backbone
        shape = self.adapter.shape
        self.design = design.resolve(shape.depth)
        self._check_operations(shape)
        self._was_trainable = {n: p.requires_grad for n, p in backbone.named_parameters()}
        self._was_training = {n: m.training for n, m in backbone.named_modules()}
        backbone.requires_grad_(False)
        self.depth = shape.depth
        self.tuners = nn.ModuleDict()
        for block in range(1, shape.depth + 1):
            here = [p for p in self.design.placements if block in p.block_numbers() and not p.is_outside]
            if here:
                self.tuners[f"{BLOCK}{block}"] = TunedBlock(here, shape, block)
        outside = [p for p in self.design.placements if p.is_outside]
        if outside:
            self.tuners[OUTSIDE] = TunedBlock(outside, shape)
        self._share(shape)
        self.head = nn.Linear(self.adapter.num_features, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=HEAD_STD)
        nn.init.zeros_(self.head.bias)

    @property
    def first_tuned_block(self) -> int:
        """Blocks before this index (from 0) are bare; the depth where none is tuned, -1 where the patches are."""
        if self._tunes("patches"):
            return IMAGES
        numbers = [int(name.removeprefix(BLOCK)) for name in self.tuners if name.startswith(BLOCK)]
        return min(numbers) - 1 if numbers else self.depth

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (batch, channels, height, width) to logits (batch, num_classes)."""
        return self.forward_from(images, IMAGES)

    def forward_from(self, tokens: Tensor, start: int, blocks: Sequence[BackboneBlock] | None = None) -> Tensor:
        """Tokens (batch, tokens, dim) before block index `start` (from 0) to logits; see `first_tuned_block`.

        Where that block is the first of a stage, they are those of the stage before. Before index -1 they are images
        (batch, channels, height, width). `blocks` stand in for those of the adapter; see `quick_block`.
        """
        return cast(Tensor, self.head(self._features_from(tokens, start, blocks)))

    @property
    def streams(self) -> list[int]:
        """The block indices before which a bypass reads the frozen stream: see `forward_beside`."""
        tuned = [i for i in range(self.depth) if f"{BLOCK}{i + 1}" in self.tuners]
        return [self.first_tuned_block, *(i + 1 for i in tuned)]

    def forward_beside(self, streams: Tensor) -> Tensor:
        """Logits of a bypass, without its backbone.

        Args:
            streams: Frozen tokens (batch, boundaries, tokens, dim) before each block index of `streams`.
        """
        side, *others = streams.unbind(dim=1)
        for i, stream in zip(self.streams[1:], others, strict=True):
            side = cast(TunedBlock, self.tuners[f"{BLOCK}{i}"]).bypass(self.adapter.blocks[i - 1], stream, side)
        return cast(Tensor, self.head(self.adapter.pool(side)))

    def features(self, images: Tensor) -> Tensor:
        """Normalised images (batch, channels, height, width) to what the head reads, (batch, features)."""
        return self._features_from(images, IMAGES)

    def _features_from(self, tokens: Tensor, start: int, blocks: Sequence[BackboneBlock] | None = None) -> Tensor:
        blocks = self.adapter.blocks if blocks is None else blocks
        if start == IMAGES:
            tokens, start = self._embed(tokens), 0
        if self.design.is_bypass:
            return self.adapter.pool(self._bypass(tokens, start, blocks))
        position = self.adapter.num_prefix_tokens  # after class and register tokens: index 0 stays what it is
        entered = 0
        for i in range(start, self.depth):
            block, name = blocks[i], f"{BLOCK}{i + 1}"
            tokens = self.adapter.enter(i, tokens)
            if name in self.tuners:
                tuned = cast(TunedBlock, self.tuners[name])
                staying = tuned.tokens(staying=True)
                tokens = tuned(block, insert(tokens, staying, position), position)
                entered += sum(map(len, staying))
            else:
                tokens = block(tokens)
        return self._pool(drop(tokens, entered, position))

    def _tunes(self, operation: Operation) -> bool:
        """Whether something stands at an operation outside the blocks."""
        return OUTSIDE in self.tuners and cast(TunedBlock, self.tuners[OUTSIDE]).touches(operation)

    def _embed(self, images: Tensor) -> Tensor:
        if self._tunes("patches"):
            return self.adapter.embed_tuned(images, cast(TunedBlock, self.tuners[OUTSIDE]))
        return self.adapter.embed(images)

    def _pool(self, tokens: Tensor) -> Tensor:
        if self._tunes("final"):
            return self.adapter.pool_tuned(tokens, cast(TunedBlock, self.tuners[OUTSIDE]))
        return self.adapter.pool(tokens)

    def _bypass(self, tokens: Tensor, start: int, blocks: Sequence[BackboneBlock]) -> Tensor:
        """The side stream after the last block; nothing is back-propagated through the backbone.

        The side stream leaves the frozen one before the first block of the design.
        """
        stream = side = tokens.detach()
        for i in range(start, self.depth):
            name, block = f"{BLOCK}{i + 1}", blocks[i]
            with torch.no_grad():  # no activation of a frozen block is kept
                stream = block(self.adapter.enter(i, stream))
            side = side[:, : stream.shape[1]]  # a stand-in may leave out what is not read
            if name in self.tuners:
                side = cast(TunedBlock, self.tuners[name]).bypass(block, stream, side)
            elif i < self.first_tuned_block:
                side = stream
        return side

    def _check_operations(self, shape: BackboneShape) -> None:
        where = f"backbone '{type(self.backbone).__name__}'"
        for placement in self.design.placements:
            if placement.operation not in self.adapter.operations:
                rule = f"{self.adapter.named} has the operation of each placement"
                raise BackboneError(where, rule, f"'{placement.operation}'")
        check_carries(self.design, shape, where)

    def _share(self, shape: BackboneShape) -> None:
        """Build what tuners of equal config and width share, and hand it to each of them."""
        shared = nn.ModuleDict()
        for placement in self.design.placements:
            blocks = dict.fromkeys(placement.at(shape, b) for b in placement.block_numbers())
            for site in (site for at in blocks for site in placement.sites(at)):
                name = placement.tuner.shared_name(site)
                if name is not None and name not in shared:
                    shared[name] = placement.tuner.build_shared(site)
        if not len(shared):
            return
        for name in [n for n in self.tuners if n.startswith(BLOCK)]:
            for module in cast(TunedBlock, self.tuners[name]).modules_placed():
                wanted = cast(Tuner, module).shares
                if wanted is not None:
                    cast(Tuner, module).connect(shared[wanted])
        self.tuners[SHARED] = shared

    def parameters_trained(self) -> list[nn.Parameter]:
        """The parameters that an optimizer gets: tuners first, then the head."""
        return [*self.tuners.parameters(), *self.head.parameters()]

    def tuner_state_dict(self) -> dict[str, Tensor]:
        """Tuners and head only, detached; what an export stores."""
        return {k: v.detach().clone() for k, v in self.state_dict().items() if not k.startswith("backbone.")}

    def load_tuner_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load what `tuner_state_dict` gave; every tensor has to be there and fit."""
        own = {k: v for k, v in self.state_dict().items() if not k.startswith("backbone.")}
        wrong = sorted(own.keys() ^ state.keys()) or [k for k in own if own[k].shape != state[k].shape]
        if wrong:
            raise BackboneError("tuner weights", "they fit the design exactly", ", ".join(wrong[:5]))
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])

    def detach(self) -> nn.Module:
        """The backbone as it was before, trainable flags and training mode included."""
        for name, parameter in self.backbone.named_parameters():
            # A merged copy may have a bias where the backbone had none.
            parameter.requires_grad_(self._was_trainable.get(name, False))
        for name, module in self.backbone.named_modules():
            module.training = self._was_training[name]
        return self.backbone
