"""The widths that sizes depend on: of a backbone, and of the place where one tuner module works."""

from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any

from utuning_search.common.errors import InputError
from utuning_search.tuners.operations import Operation


@dataclass(frozen=True)
class Stage:
    """Blocks of one width and grid, one after another.

    Attributes:
        blocks: How many.
        dim: Width of a token.
        num_heads: Attention heads; 0 where its blocks have no attention.
        head_dim: Width of a head.
        hidden: Output width of `fc1`.
        hidden_in: Input width of `fc2`.
        grid: Patches along the height and the width of an image.
        attended: Tokens that the attention sees, with what fills up its windows; 0 where it is the grid's.
        flops: Of one frozen block on one image; None where they have no closed form here.
        dim_in: Width of the tokens that `norm1` and the maps to queries, keys and values read, in a block whose
            attention gives wider ones; 0 where it is `dim`.
        read: How many these are, where the attention gives fewer; 0 where they are as many.
        kv_heads: Heads of keys and values, where several heads of queries share one; 0 where they are as many.
    """

    blocks: int
    dim: int
    num_heads: int
    head_dim: int
    hidden: int
    hidden_in: int
    grid: tuple[int, int]
    attended: int = 0
    flops: int | None = None
    dim_in: int = 0
    read: int = 0
    kv_heads: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))


@dataclass(frozen=True)
class BackboneShape:
    """The numbers of a backbone that sizes depend on, and what of its blocks decides which tuners it can carry.

    Where blocks differ in width or grid, or queries share keys, `stages` tells them, and the numbers of a block are
    those of the last one.

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
        stages: Blocks of one width and grid, in order; empty where all blocks are alike.
        lacks: Operations that its blocks have not.
        attends: Whether tuners can attend to rows of their own with its frozen queries and projections.
        joins: Whether tokens, keys and values of tuners can join its attention.
        post_norm: Whether norms come after attention and MLP, before the residual is added.
        features: Width of what the head reads; None where it is `dim`.
        softmaxes: Of a head; two where attention is their difference.
        stage: Which of the stages it is, from 1, in what `at` gives; 0 for a whole backbone.
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
    stages: tuple[Stage, ...] = ()
    lacks: tuple[str, ...] = ()
    attends: bool = True
    joins: bool = True
    post_norm: bool = False
    features: int | None = None
    softmaxes: int = 1
    stage: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", tuple(self.grid))  # a storage gives it back as a list
        # An export's table gives stages back as tables.
        stages = tuple(s if isinstance(s, Stage) else Stage(**s) for s in self.stages)
        object.__setattr__(self, "stages", stages)
        object.__setattr__(self, "lacks", tuple(self.lacks))
        if stages and sum(s.blocks for s in stages) != self.depth:
            got = " + ".join(str(s.blocks) for s in stages)
            raise InputError("shape of a backbone", f"its stages have {self.depth} blocks together", got)

    @property
    def num_features(self) -> int:
        """Width of what the head reads."""
        return self.dim if self.features is None else self.features

    @property
    def fills_up(self) -> bool:
        """Whether zeros that fill up windows come between norm1 and the attention, in some block."""
        return any(stage.attended > stage.grid[0] * stage.grid[1] for stage in self.stages)

    @property
    def widens(self) -> bool:
        """Whether the attention of some block gives wider or fewer tokens than it reads, and a shortcut reads norm1."""
        return any(stage.dim_in or stage.read for stage in self.stages)

    @property
    def one_norm(self) -> bool:
        """Whether attention and MLP read one norm, which is norm1."""
        return "norm2" in self.lacks and not {"norm1", "fc1"} & set(self.lacks)

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values; fewer than those of queries where these share them."""
        return (self.stages[-1].kv_heads if self.stages else 0) or self.num_heads

    def at(self, block: int) -> "BackboneShape":
        """As if all its blocks were like one of them (from 1)."""
        return _at(self, block) if self.stages and not self.stage else self

    def blocks(self) -> tuple["BackboneShape", ...]:
        """`at` each of its blocks."""
        return tuple(self.at(block) for block in range(1, self.depth + 1))

    def to_dict(self) -> dict[str, Any]:
        """Fields and values as TOML and JSON hold them.

        What is None is left out, and so is what came later where it says nothing, as in older studies.
        """
        said = {k: v for k, v in vars(self).items() if v is not None and (k not in LATER or v != LATER[k])}
        return {k: _plain(v) for k, v in said.items()}

    def widths(self, operation: Operation) -> tuple[int, int]:
        """(input width, output width) of an operation."""
        heads, shared, read = self.num_heads * self.head_dim, self.kv_heads * self.head_dim, self.dim
        if self.stage:  # of one of its blocks
            read = self.stages[0].dim_in or read
        linear = {
            "norm1": (read, read),
            "qkv": (read, heads + 2 * shared),
            "q": (read, heads),
            "k": (read, shared),
            "v": (read, shared),
            "proj": (heads, self.dim),
            "fc1": (self.dim, self.hidden),
            "fc2": (self.hidden_in, self.dim),
        }
        return linear.get(operation, (self.dim, self.dim))


FIRST = "stages"  # of what came later
NAMES = tuple(field.name for field in fields(BackboneShape))
LATER = {f.name: f.default for f in fields(BackboneShape) if f.name in NAMES[NAMES.index(FIRST) :]}


@lru_cache(maxsize=4096)
def _at(shape: BackboneShape, block: int) -> BackboneShape:
    last = 0
    for number, stage in enumerate(shape.stages, start=1):
        last += stage.blocks
        if block <= last:
            return replace(
                shape,
                dim=stage.dim,
                num_heads=stage.num_heads,
                head_dim=stage.head_dim,
                hidden=stage.hidden,
                hidden_in=stage.hidden_in,
                grid=stage.grid,
                stages=(replace(stage, blocks=shape.depth),),
                stage=number,
            )
    raise InputError("shape of a backbone", f"its blocks are 1 to {shape.depth}", block)


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    if not isinstance(value, Stage):
        return value
    later = ("dim_in", "read", "kv_heads")
    said = {k: v for k, v in asdict(value).items() if v is not None and (v or k not in later)}
    return said | {"grid": list(value.grid)}


@dataclass(frozen=True)
class Site:
    """Where one tuner module works: it maps (batch, tokens, in_dim) to (batch, tokens, out_dim).

    `operation` is where in a block, for tuners to which it matters. The last grid[0] * grid[1] tokens are an image's
    patches, row by row; class, register and prompt tokens come before them. `stage` is that of the block, from 1; it is
    0 where all blocks are alike. `kv_heads`, of keys and values, are as many as `num_heads` where nothing is said.
    """

    in_dim: int
    out_dim: int
    num_heads: int
    head_dim: int
    grid: tuple[int, int] = (0, 0)
    operation: Operation | None = None
    stage: int = 0
    kv_heads: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "kv_heads", self.kv_heads or self.num_heads)
