"""Blocks some of whose attentions give wider or fewer tokens than they read, and whose shortcut does the same.

There `attention` stands between the residual stream that its output joins, which is what the shortcut gives, and that
output: so a tuner at it has one width and one grid. `norm1` feeds the shortcut too. The whole block and the attention
without its norm read other tokens than they give, and are no operations of these families.
"""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from utuning_search.backbones.family import BlockTuners
from utuning_search.backbones.staged_model import StagedAdapter, StagedBlock
from utuning_search.backbones.timm_block import TimmBlock
from utuning_search.tuners import LINEAR_OPERATIONS, OPERATIONS, Operation

LACKS: tuple[Operation, ...] = ("block", "mhsa")


class WideningBlock(TimmBlock, StagedBlock):
    """A block with norm1, attn, norm2 and mlp, which may widen its tokens.

    Tuners get tokens row by row; those inside attention and MLP get them in the order of `_arranged`.
    """

    @abstractmethod
    def _shortcut(self, x: Tensor, h: Tensor) -> Tensor:
        """The residual stream that the attention's output joins.

        Args:
            x: What the block reads, (batch, tokens, width).
            h: The same after norm1.
        """

    def _arranged(self, x: Tensor) -> Tensor:
        """Tokens that the block reads, row by row, in the model's own order."""
        return x

    def _arranged_after(self, x: Tensor) -> Tensor:
        """Tokens that the attention gives, row by row, in the model's own order."""
        return x

    def _in_rows(self, x: Tensor) -> Tensor:
        """Tokens that the attention gives, in the model's own order, row by row."""
        return x

    def widths(self, operation: Operation) -> tuple[int, int]:
        if operation in LINEAR_OPERATIONS:
            return self.linear(operation).widths
        width: int = self._block.dim if operation == "norm1" else self._block.dim_out
        return width, width

    def norms(self) -> tuple[nn.Module, nn.Module]:
        return self._block.norm1, self._block.norm2

    def _is_longer(self, x: Tensor) -> bool:
        del x
        return False

    def run(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        h = tuners.add("norm1", self, x, tuners.normalise("attention", self._block.norm1, x))
        out = self._end(1, self._in_rows(self._through_attention(self._arranged(h), tuners)))
        stream = self._shortcut(x, h)
        y = stream + tuners.add("attention", self, stream, out)
        h = tuners.add("norm2", self, y, tuners.normalise("mlp", self._block.norm2, y))
        out = self._end(2, self._in_rows(self._hidden(self._arranged_after(h), tuners)))
        return y + tuners.add("mlp", self, y, tuners.add("ffn", self, h, out))


class WideningAdapter(StagedAdapter):
    """A model of such blocks."""

    lacks: ClassVar[tuple[Operation, ...]] = LACKS
    lacks_because: ClassVar[str] = "in some blocks they give wider or fewer tokens than they read"
    operations: ClassVar[tuple[Operation, ...]] = tuple(o for o in OPERATIONS if o not in LACKS)
    attends: ClassVar[bool] = False

    def _between(self, module: nn.Module, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        raise TypeError(f"no {type(module).__name__} stands between its stages, for {len(tokens)} images of {grid}")
