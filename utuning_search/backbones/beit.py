"""timm's Beit (BEiT, BEiT v2): attention with biases by relative position, of each block or shared by all."""

from typing import Any, ClassVar, cast

import torch
from timm.layers import Mlp, SwiGLU
from timm.models.beit import Attention, Beit, Block, checkpoint_filter_fn
from torch import Tensor, nn

from utuning_search.backbones.biased_block import BiasedBlock
from utuning_search.backbones.timm_model import Kinds, TimmAdapter, check_blocks, check_pools


class BeitBlock(BiasedBlock):
    """A Block of a model, with the bias that all its blocks share, if it has one."""

    def _bare(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block(x, shared_rel_pos_bias=self._shared()))

    def _bare_attention(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block.attn(x, shared_rel_pos_bias=self._shared()))

    def _shared(self) -> Tensor | None:
        shared = self._model.rel_pos_bias
        return None if shared is None else cast(Tensor, shared())

    def _own(self) -> list[Tensor]:
        """(1, heads, tokens, tokens) of this block and (heads, tokens, tokens) of all."""
        attention, shared = self._block.attn, self._shared()
        table, index = attention.relative_position_bias_table, attention.relative_position_index
        own = [] if table is None else [table[index].permute(2, 0, 1).contiguous()[None]]
        return own if shared is None else [*own, shared]

    @property
    def _biased(self) -> bool:
        return self._block.attn.relative_position_bias_table is not None or self._model.rel_pos_bias is not None


class BeitAdapter(TimmAdapter):
    """Whatever timm builds of its Beit, and pools."""

    named: ClassVar[str] = "a timm Beit"
    attentions: ClassVar[Kinds] = (Attention,)

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return isinstance(model, Beit)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        check_pools(model, 'Create it with global_pool="token" or "avg".', where)
        rule = "a pre-norm Block with its Attention and Mlp"
        check_blocks(cast(Any, model).blocks, ((Block,), (Attention,), (Mlp, SwiGLU)), rule, where)

    def _block(self, index: int) -> BeitBlock:
        return BeitBlock(self.model, index)

    def _tokens(self, patches: Tensor) -> Tensor:
        model = self._timm
        tokens = torch.cat([model.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        return cast(Tensor, model.pos_drop(tokens if model.pos_embed is None else tokens + model.pos_embed))

    def _pooled(self, tokens: Tensor) -> Tensor:
        averaged = self._timm.global_pool == "avg"  # its forward pass has no step of that name
        return tokens[:, self._timm.num_prefix_tokens :].mean(dim=1) if averaged else tokens[:, 0]

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return checkpoint_filter_fn(state, cast(Beit, self.model))
