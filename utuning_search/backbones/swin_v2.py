"""timm's SwinTransformerV2: norms come after attention and MLP, and the attention is one of cosines."""

import math
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from timm.models.swin_transformer_v2 import (
    SwinTransformerV2,
    SwinTransformerV2Block,
    WindowAttention,
    checkpoint_filter_fn,
)
from torch import Tensor, nn

from utuning_search.backbones.staged_model import all_blocks
from utuning_search.backbones.timm_block import PostNormBlock
from utuning_search.backbones.timm_model import with_split_biases
from utuning_search.backbones.windows import WindowAdapter, WindowBlock, check_windows, masked_softmax, renamed

HOTTEST = math.log(100)  # of the logarithm of the scale of cosines


class SwinV2Block(PostNormBlock, WindowBlock):
    """A SwinTransformerV2Block."""

    @property
    def softmax_scale(self) -> float:
        return 1.0  # each head has its own, which the queries bring with them

    def queries(self, x: Tensor) -> Tensor:
        linear = self.linear("q")
        return F.normalize(self._query_heads(F.linear(x, linear.weight(), linear.bias())), dim=-1) * self._hotness()

    def keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        k, v = super().keys_values(tokens)
        return F.normalize(k, dim=-1), v

    def _hotness(self) -> Tensor:
        """Of each head, (heads, 1, 1)."""
        return cast(Tensor, self._block.attn.logit_scale.clamp(max=HOTTEST).exp())

    def _flops_of_places(self) -> int:
        attention = self._block.attn
        places = math.prod(2 * side - 1 for side in attention.window_size)
        maps = [m for m in attention.cpb_mlp if isinstance(m, nn.Linear)]
        return int(2 * places * sum(m.weight.numel() for m in maps))

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        attn = self._block.attn
        cosines = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        table = attn.cpb_mlp(attn.relative_coords_table).view(-1, attn.num_heads)
        tokens = q.shape[2]
        biases = table[attn.relative_position_index.view(-1)].view(tokens, tokens, -1).permute(2, 0, 1).contiguous()
        logits = cosines * self._hotness() + (16 * torch.sigmoid(biases)).unsqueeze(0)
        return cast(Tensor, attn.attn_drop(masked_softmax(logits, mask)) @ v)


class SwinV2Adapter(WindowAdapter):
    """Whatever timm builds of its SwinTransformerV2, and pools."""

    named: ClassVar[str] = "a timm SwinTransformerV2"
    post_norm: ClassVar[bool] = True

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return isinstance(model, SwinTransformerV2)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        kinds = ((SwinTransformerV2Block,), (WindowAttention,), (Mlp,))
        check_windows(model, kinds, "a SwinTransformerV2Block with its WindowAttention and Mlp", where)

    def _block(self, block: nn.Module, grid: tuple[int, int]) -> SwinV2Block:
        return SwinV2Block(block, grid)

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return renamed(checkpoint_filter_fn, state, self.model)

    def plain_state(self) -> dict[str, Tensor]:
        # Cosines change where all keys get one bias.
        return with_split_biases(self.model, all_blocks(self._timm.layers), lambda _: False)
