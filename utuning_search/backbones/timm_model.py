"""What several families of timm's vision transformers have in common around their blocks."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, ClassVar, cast

from timm.layers import AttentionPoolLatent, AttentionPoolPrr, PatchEmbed
from torch import Tensor, nn

from utuning_search.backbones.family import BackboneAdapter, BlockTuners
from utuning_search.backbones.timm_block import PostNormBlock, TimmBlock
from utuning_search.common.errors import BackboneError, InputError
from utuning_search.tuners import (
    OPERATIONS,
    BackboneShape,
    Operation,
    Stage,
)

Kinds = tuple[type[nn.Module], ...]


class TimmAdapter(BackboneAdapter):
    """A model with `patch_embed`, `blocks`, `norm` and `forward_head`, whose blocks are `TimmBlock`s.

    Attributes:
        attentions: Kinds of the blocks' attention.
    """

    head: ClassVar[tuple[str, ...]] = ("head.",)
    operations: ClassVar[tuple[Operation, ...]] = OPERATIONS
    attentions: ClassVar[Kinds]
    blocks: tuple[TimmBlock, ...]

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._timm = cast(Any, model)  # nn.Module's own typing knows nothing of its attributes
        self.blocks = tuple(self._block(i) for i in range(len(self._timm.blocks)))

    @abstractmethod
    def _block(self, index: int) -> TimmBlock:
        """The adapter of the model's block of that index, from 0."""

    @abstractmethod
    def _tokens(self, patches: Tensor) -> Tensor:
        """Patches as `patch_embed` gives them, with places and the tokens before them: (batch, tokens, dim)."""

    @property
    def shape(self) -> BackboneShape:
        model, first = self._timm, self.blocks[0]
        shape = BackboneShape(
            dim=model.embed_dim,
            depth=len(self.blocks),
            num_heads=first.attn.num_heads,
            head_dim=first.head_dim,
            hidden=first.widths("fc1")[1],
            hidden_in=first.widths("fc2")[0],
            parameters=sum(p.numel() for n, p in model.named_parameters() if not n.startswith(self.head)),
            grid=self._grid,
            prefix_tokens=model.num_prefix_tokens,
            flops_outside=self._flops_outside(),
            gated_attention=getattr(first.attn, "gate", None) is not None,
            scaled_ends=not all(b.ends_in_linear(o) for b in self.blocks for o in ("attention", "mlp")),
            plain_norms=all(_is_plain(norm) for block in self.blocks for norm in block.norms()),
            plain_patches=self.ends()[0] is not None,
            plain_final=self.ends()[1] is not None,
            post_norm=isinstance(first, PostNormBlock),
            features=None if self.num_features == model.embed_dim else self.num_features,
            lacks=tuple(o for o in OPERATIONS if o not in self.operations),
            softmaxes=first.softmaxes,
        )
        return replace(shape, stages=self._stages(shape))

    def _stages(self, shape: BackboneShape) -> tuple[Stage, ...]:
        """Blocks with as many heads of keys one after another, where some have fewer than of queries; else none."""
        heads = [block.kv_heads for block in self.blocks]
        if set(heads) == {shape.num_heads}:
            return ()
        alike = {name: getattr(shape, name) for name in ("dim", "num_heads", "head_dim", "hidden", "hidden_in", "grid")}
        return tuple(
            Stage(blocks=len(list(blocks)), kv_heads=count if count < shape.num_heads else 0, **alike)
            for count, blocks in groupby(heads)
        )

    @property
    def _grid(self) -> tuple[int, int]:
        """Patches along the height and the width of an image."""
        rows, columns = self._timm.patch_embed.grid_size
        return rows, columns

    def _flops_outside(self) -> int | None:
        """FLOPs of one image before the first block and after the last; None where they have no closed form here."""
        embedding, pooling = flops_of_patches(self._timm.patch_embed), flops_of_pool(self._timm, self._pooled_tokens())
        return None if embedding is None or pooling is None else embedding + pooling

    def _pooled_tokens(self) -> int:
        """How many tokens attention pooling sees, where the model has one."""
        return math.prod(self._grid) + self.num_prefix_tokens

    @property
    def num_features(self) -> int:
        features: int = self._timm.num_features
        return features

    @property
    def num_prefix_tokens(self) -> int:
        tokens: int = self._timm.num_prefix_tokens
        return tokens

    @property
    def image_size(self) -> int:
        size: int = self._timm.patch_embed.img_size[0]
        return size

    @property
    def channels(self) -> int:
        channels: int = self._timm.in_chans
        return channels

    def embed(self, images: Tensor) -> Tensor:
        return self._tokens(self._timm.patch_embed(images))

    def pool(self, tokens: Tensor) -> Tensor:
        features: Tensor = self._timm.forward_head(self._timm.norm(tokens), pre_logits=True)
        return features

    def embed_tuned(self, images: Tensor, tuners: BlockTuners) -> Tensor:
        patches = self._timm.patch_embed(images)
        return self._tokens(tuners.add("patches", self.blocks[0], patches, patches))

    def pool_tuned(self, tokens: Tensor, tuners: BlockTuners) -> Tensor:
        model, first = self._timm, self.blocks[0]
        if not self._norm_after_pooling:
            normed = model.norm(tokens)
            return cast(Tensor, model.forward_head(tuners.add("final", first, tokens, normed), pre_logits=True))
        pooled = self._pooled(model.norm(tokens))
        return cast(Tensor, model.head_drop(tuners.add("final", first, pooled, model.fc_norm(pooled))))

    def _pooled(self, tokens: Tensor) -> Tensor:
        """(batch, tokens, dim) to (batch, num_features), before the norm that may follow."""
        return cast(Tensor, self._timm.pool(tokens))

    @property
    def _norm_after_pooling(self) -> bool:
        """timm normalises what was pooled, rather than the tokens, where it averages them."""
        return not isinstance(self._timm.fc_norm, nn.Identity)

    def ends(self) -> tuple[nn.Module | None, nn.Module | None]:
        embed = self._timm.patch_embed
        unnormed = isinstance(getattr(embed, "norm", None), nn.Identity)  # hybrids have none, and end in another module
        plain = unnormed and isinstance(embed.proj, nn.Conv2d)
        return embed.proj if plain and embed.proj.bias is not None else None, self._plain_final()

    def _plain_final(self) -> nn.Module | None:
        """The last norm, if it is a LayerNorm with weight and bias."""
        norm = self._timm.fc_norm if self._norm_after_pooling else self._timm.norm
        return norm if _is_plain(norm) else None

    def unfuse_attention(self) -> None:
        for module in self.model.modules():
            if isinstance(module, self.attentions):
                # `fused_attn` is timm's own switch; it is Final for TorchScript only.
                setattr(module, "fused_attn", False)  # noqa: B010

    def check_image_size(self, where: str) -> None:
        published = (getattr(self.model, "pretrained_cfg", None) or {}).get("input_size", ())
        if tuple(published[1:]) != tuple(self._timm.patch_embed.img_size or ()):  # it was trained on what it cuts off
            check_patches(self._timm.patch_embed, where)

    def plain_state(self) -> dict[str, Tensor]:
        """As `BackboneAdapter.plain_state`; keys have no bias in these models, whatever a merge gave them."""
        return with_split_biases(self.model, self._timm.blocks, self._ignores_key_bias)

    def _ignores_key_bias(self, block: Any) -> bool:
        """Whether one bias of all keys changes nothing: it shifts each query's products alike."""
        return isinstance(getattr(block.attn, "k_norm", nn.Identity()), nn.Identity)


def _is_plain(norm: nn.Module) -> bool:
    """Whether it is a LayerNorm with weight and bias."""
    return isinstance(norm, nn.LayerNorm) and norm.weight is not None and norm.bias is not None


def with_split_biases(
    model: nn.Module, blocks: Iterable[Any], ignores_key_bias: Callable[[Any], bool]
) -> dict[str, Tensor]:
    """A model's tensors, with biases of `qkv` split where a fresh model keeps them beside it, and none for keys.

    Raises:
        BackboneError: Keys have a bias that counts.
    """
    state = dict(model.state_dict())
    names = {id(module): name for name, module in model.named_modules()}
    for i, block in enumerate(blocks):
        if not hasattr(block.attn, "k_bias"):
            continue  # its keys may have one
        above = f"{names[id(block)]}.attn."
        keys = state.pop(f"{above}k_proj.bias", None)
        if (whole := state.pop(f"{above}qkv.bias", None)) is not None:
            state[f"{above}q_bias"], keys, state[f"{above}v_bias"] = whole.chunk(3)
        if keys is not None and keys.any() and not ignores_key_bias(block):
            rule = "keys get no bias: it has no place in timm's own attention, which turns keys by their places"
            todo = "Export it with --format onnx or torch."
            raise BackboneError(f"{type(model).__name__}, block {i + 1}", rule, "one", todo)
    return state


def check_pools(model: Any, todo: str, where: str) -> None:
    """Raise BackboneError, from `where`, where a model gives tokens instead of features."""
    if not model.global_pool:
        raise BackboneError(where, "the model pools its tokens", "no pooling", todo)


def check_blocks(blocks: Iterable[nn.Module], kinds: tuple[Kinds, Kinds, Kinds], rule: str, where: str) -> None:
    """Raise BackboneError, from `where`, unless blocks, attentions and MLPs are of known kinds, which are followed step
    by step, so a subclass with another forward does not do.
    """
    for i, block in enumerate(blocks):
        attention, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
        parts = zip((block, attention, mlp), kinds, strict=True)
        if not all(any(isinstance(m, c) and type(m).forward is c.forward for c in known) for m, known in parts):
            got = f"{type(block).__name__} with {type(attention).__name__} and {type(mlp).__name__}"
            raise BackboneError(f"{where}, block {i + 1}", rule, got)


def check_square(size: Sequence[int], where: str) -> None:
    """Raise BackboneError, from `where`, where images of a model are not square."""
    height, width = size
    if height != width:
        raise BackboneError(where, "images are square", f"{height}x{width}", "Set image_size.")


def check_patches(patches: Any, where: str, img_size: Sequence[int] | None = None) -> None:
    """Raise InputError, from `where`, where a size, by default a patch embedding's own, does not fall into patches."""
    padded = getattr(patches, "dynamic_img_pad", False)
    for size, patch in zip(img_size or patches.img_size or (), patches.patch_size, strict=False):
        if size % patch and not padded:  # timm finds that out at the first image only
            below = size - size % patch
            todo = f"Take {below} or {below + patch}." if below else f"Take {patch}."
            raise InputError(where, f"image_size is a multiple of its patches, {patch}", size, todo)


def flops_of_patches(embed: Any) -> int | None:
    """FLOPs of the patch embedding on one image; None where it is not one that we know."""
    plain = type(embed).forward is PatchEmbed.forward and isinstance(embed.proj, nn.Conv2d)
    if not plain or any(size % patch for size, patch in zip(embed.img_size, embed.patch_size, strict=True)):
        return None
    return int(2 * math.prod(embed.grid_size) * embed.proj.weight.numel())


def flops_of_pool(model: Any, pooled_tokens: int) -> int | None:
    """FLOPs of attention pooling, 0 where there is none; None where it is not one that we know.

    Args:
        model: Of timm.
        pooled_tokens: That it sees.
    """
    pooled = getattr(model, "attn_pool", None)
    if pooled is None:
        return 0
    if type(pooled) is AttentionPoolLatent:
        # All its linear maps see the latent queries but `kv`, which sees the tokens.
        maps = {n: m.weight.numel() for n, m in pooled.named_modules() if isinstance(m, nn.Linear)}
        flops = sum(2 * count * (pooled_tokens if n == "kv" else pooled.latent_len) for n, count in maps.items())
        return int(flops + 4 * pooled.latent_len * pooled_tokens * model.embed_dim)
    if type(pooled) is AttentionPoolPrr:
        return int(4 * pooled_tokens**2 * model.embed_dim)
    return None
