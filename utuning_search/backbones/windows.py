"""What timm's Swin families share: attention in windows of a grid, which are shifted in every other block.

Tuners get an image's tokens row by row; those at the linear maps of the attention get them window by window, with the
zeros that fill up windows at the edge, as the maps themselves do. Tokens and keys of tuners have no window to join.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import window_partition, window_reverse
from torch import Tensor, nn

from utuning_search.backbones.family import BlockTuners
from utuning_search.backbones.staged_model import (
    StagedAdapter,
    StagedBlock,
    Step,
    all_blocks,
    conv_flops,
    is_layer_norm,
)
from utuning_search.backbones.timm_block import TimmBlock
from utuning_search.backbones.timm_model import Kinds, check_blocks, check_patches, check_pools, check_square
from utuning_search.tuners import Stage

Filter = Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]]
HEAD = "head.fc.weight"


class WindowBlock(TimmBlock, StagedBlock):
    """A block of timm's Swin families, and the grid that it sees."""

    def __init__(self, block: nn.Module, grid: tuple[int, int]) -> None:
        super().__init__(block)
        self._grid = grid

    def stage(self) -> Stage:
        attention, window = self._block.attn, self._block.window_size
        filled = math.prod(-(-side // w) * w for side, w in zip(self._grid, window, strict=True))
        maps = {o: math.prod(self.widths(o)) for o in ("qkv", "proj", "fc1", "fc2")}
        inner = attention.proj.in_features
        flops = 2 * filled * (maps["qkv"] + maps["proj"]) + 4 * filled * math.prod(window) * inner
        return Stage(
            blocks=1,
            dim=attention.proj.out_features,
            num_heads=attention.num_heads,
            head_dim=inner // attention.num_heads,
            hidden=self.widths("fc1")[1],
            hidden_in=self.widths("fc2")[0],
            grid=self._grid,
            attended=filled,
            flops=flops + 2 * math.prod(self._grid) * (maps["fc1"] + maps["fc2"]) + self._flops_of_places(),
        )

    def norms(self) -> tuple[nn.Module, nn.Module]:
        return self._block.norm1, self._block.norm2

    def _bare(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block(x.unflatten(1, self._grid)).flatten(1, 2))

    def _bare_attention(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block._attn(x.unflatten(1, self._grid)).flatten(1, 2))

    def _is_longer(self, x: Tensor) -> bool:
        del x
        return False

    def _ends(self, number: Literal[1, 2]) -> tuple[Any, nn.Module]:
        return None, self._block.drop_path1 if number == 1 else self._block.drop_path2

    def _attend(self, x: Tensor, rows: list[tuple[Tensor, Tensor]], tuners: BlockTuners) -> Tensor:
        """timm's own forward pass step by step: shifted, filled up, cut into windows, attended to, and back."""
        del rows  # no keys join
        block, attn, (height, width) = self._block, self._block.attn, self._grid
        shift, window = block.shift_size, block.window_size
        image = x.unflatten(1, self._grid)
        image = torch.roll(image, (-shift[0], -shift[1]), dims=(1, 2)) if any(shift) else image
        image = F.pad(image, (0, 0, 0, -width % window[1], 0, -height % window[0]))
        filled = image.shape[1:3]
        mask = block.get_attn_mask(image) if getattr(block, "dynamic_mask", False) else block.attn_mask
        tokens = window_partition(image, window).reshape(x.shape[0], math.prod(filled), -1)
        qkv = self._qkv(tokens, tuners).reshape(-1, math.prod(window), 3, attn.num_heads, self._head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = self._mix(q, k, v, mask)
        mixed = mixed.transpose(1, 2).flatten(2).reshape(x.shape[0], math.prod(filled), -1)
        out = attn.proj_drop(tuners.add("proj", self, mixed, attn.proj(mixed)))
        image = window_reverse(out.reshape(-1, *window, out.shape[-1]), window, *filled)
        image = image[:, :height, :width].contiguous()
        image = torch.roll(image, shift, dims=(1, 2)) if any(shift) else image
        return image.flatten(1, 2)

    def _flops_of_places(self) -> int:
        """FLOPs of making the biases by relative position."""
        return 0

    @abstractmethod
    def _mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Softmax attention in windows: each (batch * windows, heads, tokens, head_dim), and so is what it gives.

        Args:
            q: Queries.
            k: Keys.
            v: Values.
            mask: (windows, tokens, tokens), or None where windows are not shifted.
        """

    @property
    def _head_dim(self) -> int:
        attention = self._block.attn
        width: int = attention.proj.in_features // attention.num_heads
        return width


def masked_softmax(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Of (batch * windows, heads, tokens, tokens), with a mask for each window of an image."""
    if mask is not None:
        logits = (logits.unflatten(0, (-1, len(mask))) + mask[None, :, None]).flatten(0, 1)
    return logits.softmax(dim=-1)


class WindowAdapter(StagedAdapter):
    """A model of timm's Swin families, which pools."""

    def _stages(self) -> Iterator[Step]:
        for stage in self._timm.layers:
            between = None if isinstance(stage.downsample, nn.Identity) else stage.downsample
            grid = tuple(stage.blocks[0].input_resolution)
            yield Step(between, tuple(stage.blocks), grid, tuple(stage.input_resolution))

    @property
    def num_features(self) -> int:
        head = self._timm.head
        features: int = head.in_features * head.global_pool.feat_mult()
        return features

    @property
    def image_size(self) -> int:
        size: int = self._timm.patch_embed.img_size[0]
        return size

    def _patches(self, images: Tensor) -> Tensor:
        return cast(Tensor, self._timm.patch_embed(images).flatten(1, 2))

    def _between(self, module: nn.Module, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        return cast(Tensor, module(tokens.unflatten(1, grid)).flatten(1, 2))

    def pool(self, tokens: Tensor) -> Tensor:
        return self._head(self._timm.norm(tokens))

    def pool_tuned(self, tokens: Tensor, tuners: BlockTuners) -> Tensor:
        return self._head(tuners.add("final", self.blocks[0], tokens, self._timm.norm(tokens)))

    def _head(self, normed: Tensor) -> Tensor:
        image = normed.unflatten(1, self._steps[-1].grid)
        return cast(Tensor, self._timm.forward_head(image, pre_logits=True))

    def ends(self) -> tuple[nn.Module | None, nn.Module | None]:
        ends = self._timm.patch_embed.norm, self._timm.norm
        return ends[0] if is_layer_norm(ends[0]) else None, ends[1] if is_layer_norm(ends[1]) else None

    def _flops_outside(self) -> int:
        merges = [(cast(nn.Linear, s.module.reduction), s.grid) for s in self._steps if s.module is not None]
        flops = sum(2 * math.prod(grid) * m.weight.numel() for m, grid in merges)
        embed = self._timm.patch_embed
        return flops + conv_flops(embed.proj, embed.grid_size)

    def check_image_size(self, where: str) -> None:
        check_patches(self._timm.patch_embed, where)


def check_windows(model: nn.Module, kinds: tuple[Kinds, Kinds, Kinds], rule: str, where: str) -> None:
    """Raise BackboneError, from `where`, unless a model pools square images and its blocks are of known kinds."""
    swin = cast(Any, model)
    check_pools(swin, 'Create it with global_pool="avg".', where)
    check_blocks(all_blocks(swin.layers), kinds, rule, where)
    check_square(swin.patch_embed.img_size, where)


def renamed(filtered: Filter, state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """A checkpoint's tensors as timm's filter of the family has them.

    Before 1.0.31 timm takes what has no head for one of the original authors, whose stages end with what timm's begin
    with; so timm's own ones are shown a head.
    """
    if HEAD in state or "layers.0.downsample.reduction.weight" in state:
        return filtered(state, model)
    found = filtered({**state, HEAD: torch.empty(0)}, model)
    return {name: tensor for name, tensor in found.items() if name != HEAD}
