"""timm's SwinTransformer: pre-norm blocks whose attention has biases by relative position in a window."""

from typing import ClassVar, cast

import torch.nn.functional as F
from timm.layers import Mlp
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock, WindowAttention, checkpoint_filter_fn
from torch import Tensor, nn

from utuning_search.backbones.windows import WindowAdapter, WindowBlock, check_windows, masked_softmax, renamed


class SwinBlock(WindowBlock):
    """A SwinTransformerBlock."""

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        attn = self._block.attn
        biases = attn._get_rel_pos_bias()
        if attn.fused_attn:
            if mask is not None:
                whole = mask[None, :, None].expand(q.shape[0] // mask.shape[0], -1, attn.num_heads, -1, -1)
                biases = biases + whole.reshape(-1, *whole.shape[2:])
            drop = attn.attn_drop.p if attn.training else 0.0
            return F.scaled_dot_product_attention(q, k, v, attn_mask=biases, dropout_p=drop)
        return cast(Tensor, attn.attn_drop(masked_softmax(q * attn.scale @ k.transpose(-2, -1) + biases, mask)) @ v)


class SwinAdapter(WindowAdapter):
    """Whatever timm builds of its SwinTransformer, and pools."""

    named: ClassVar[str] = "a timm SwinTransformer"

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return isinstance(model, SwinTransformer)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        kinds = ((SwinTransformerBlock,), (WindowAttention,), (Mlp,))
        check_windows(model, kinds, "a SwinTransformerBlock with its WindowAttention and Mlp", where)

    def _block(self, block: nn.Module, grid: tuple[int, int]) -> SwinBlock:
        return SwinBlock(block, grid)

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return renamed(checkpoint_filter_fn, state, self.model)
