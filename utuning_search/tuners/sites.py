"""The widths that sizes depend on: of a backbone, and of the place where one tuner module works."""

from dataclasses import dataclass
from typing import Any

from utuning_search.tuners.operations import QKV_PARTS, Operation


@dataclass(frozen=True)
class BackboneShape:
    """The numbers of a ViT that sizes depend on.

    Attributes:
        dim: Width of a token.
        depth: Number of blocks.
        num_heads: Attention heads.
        head_dim: Width of a head.
        hidden: Output width of `fc1`.
        hidden_in: Input width of `fc2`; less than `hidden` in gated MLPs.
        parameters: All parameters of the backbone without a head.
        grid: Patches along the height and the width of an image.
        prefix_tokens: Tokens before the patches (class, registers); None in shapes that older studies stored.
        flops_outside: FLOPs of one image before the first block and after the last, without a head; None where they
            have no closed form here.
        gated_attention: Whether a linear map of the attention's input gates its output.
        scaled_ends: Whether layer scale or stochastic depth comes after the last linear map of attention and MLP.
        plain_norms: Whether norm1 and norm2 are LayerNorms with weight and bias.
        plain_patches: Whether the patch embedding ends in a convolution with a bias.
        plain_final: Whether the last norm is a LayerNorm with weight and bias.
    """

    dim: int
    depth: int
    num_heads: int
    head_dim: int
    hidden: int
    hidden_in: int
    parameters: int
    grid: tuple[int, int] = (0, 0)
    prefix_tokens: int | None = None
    flops_outside: int | None = None
    gated_attention: bool = False
    scaled_ends: bool = False
    plain_norms: bool = True
    plain_patches: bool = True
    plain_final: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))  # a storage gives it back as a list

    def to_dict(self) -> dict[str, Any]:
        """Fields and values as TOML and JSON hold them; what is None is left out."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(self).items() if v is not None}

    def widths(self, operation: Operation) -> tuple[int, int]:
        """(input width, output width) of an operation."""
        heads = self.num_heads * self.head_dim
        linear = {
            "qkv": (self.dim, 3 * heads),
            **dict.fromkeys(QKV_PARTS, (self.dim, heads)),
            "proj": (heads, self.dim),
            "fc1": (self.dim, self.hidden),
            "fc2": (self.hidden_in, self.dim),
        }
        return linear.get(operation, (self.dim, self.dim))


@dataclass(frozen=True)
class Site:
    """Where one tuner module works: it maps (batch, tokens, in_dim) to (batch, tokens, out_dim).

    `operation` is where in a block, for tuners to which it matters. The last grid[0] * grid[1] tokens are an image's
    patches, row by row; class, register and prompt tokens come before them.
    """

    in_dim: int
    out_dim: int
    num_heads: int
    head_dim: int
    grid: tuple[int, int] = (0, 0)
    operation: Operation | None = None
