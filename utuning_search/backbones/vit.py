"""timm's VisionTransformer: where it keeps its parts, and its forward passes followed step by step."""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from timm.layers import Attention, AttentionPoolLatent, AttentionPoolPrr, GluMlp, Mlp, PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from utuning_search.backbones.family import BackboneAdapter, BackboneBlock, BlockTuners, LinearPart
from utuning_search.common.errors import BackboneError, InputError
from utuning_search.tuners import LINEAR_OPERATIONS, OPERATIONS, QKV_PARTS, BackboneShape, Operation

# The linear map whose output is the operation's output, for the operations that end in one.
LAST_LINEAR: dict[Operation, str] = {
    **dict.fromkeys(("qkv", *QKV_PARTS), "attn.qkv"),
    **dict.fromkeys(("proj", "attention"), "attn.proj"),
    "fc1": "mlp.fc1",
    **dict.fromkeys(("fc2", "mlp"), "mlp.fc2"),
}


def linear_name(block: int, operation: Operation) -> str:
    """What the model calls the linear map at the end of an operation in a block (from 1)."""
    return f"blocks.{block - 1}.{LAST_LINEAR[operation]}"


class VisionTransformerBlock(BackboneBlock):
    """A pre-norm Block with Attention and Mlp or GluMlp."""

    def __init__(self, block: Block) -> None:
        self._block: Any = block  # nn.Module's own typing knows nothing of its attributes

    @property
    def softmax_scale(self) -> float:
        scale: float = self._block.attn.scale
        return scale

    def queries(self, x: Tensor) -> Tensor:
        attention = self._block.attn
        width, bias = self._heads_width, attention.qkv.bias
        q = F.linear(self._block.norm1(x), attention.qkv.weight[:width], None if bias is None else bias[:width])
        return cast(Tensor, attention.q_norm(self._split(q)))

    def keys_values(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        attention = self._block.attn
        width, bias = self._heads_width, attention.qkv.bias
        kv = F.linear(tokens, attention.qkv.weight[width:], None if bias is None else bias[width:])
        k, v = kv.split(width, dim=-1)
        return attention.k_norm(self._split(k)), self._split(v)

    def project(self, mixed: Tensor) -> Tensor:
        return F.linear(mixed, self._block.attn.proj.weight)

    def norm(self, operation: Operation) -> nn.Module:
        return cast(nn.Module, self._block.norm1 if operation in ("attention", "norm1") else self._block.norm2)

    def widths(self, operation: Operation) -> tuple[int, int]:
        if operation not in LINEAR_OPERATIONS:
            width: int = self._block.attn.qkv.in_features
            return width, width
        part = self.linear(operation)
        return part.module.in_features, part.rows.stop - part.rows.start

    def linear(self, operation: Operation) -> LinearPart:
        module: nn.Linear = self._block.get_submodule(LAST_LINEAR[operation])
        start, count = 0, module.out_features
        if operation in QKV_PARTS:
            count //= len(QKV_PARTS)
            start = QKV_PARTS.index(operation) * count
        return LinearPart(module, slice(start, start + count))

    def ends_in_linear(self, operation: Operation) -> bool:
        block = self._block
        last = {"attention": (block.ls1, block.drop_path1), "mlp": (block.ls2, block.drop_path2)}.get(operation, ())
        return all(isinstance(m, nn.Identity) for m in last)

    def __call__(self, x: Tensor) -> Tensor:
        return cast(Tensor, self._block(x))

    def run(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        y = x + tuners.add("attention", self, x, self._attention(x, tuners))
        return y + tuners.add("mlp", self, y, self._mlp(y, tuners))

    def _attention(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        block = self._block
        h = tuners.add("norm1", self, x, tuners.normalise("attention", block.norm1, x))
        rows = tuners.rows()
        whole = not rows and not tuners.touches("qkv", *QKV_PARTS, "proj")
        out = block.attn(h) if whole else self._attend(h, rows, tuners)
        return tuners.add("mhsa", self, h, block.drop_path1(block.ls1(out)))

    def _attend(self, x: Tensor, rows: list[tuple[Tensor, Tensor]], tuners: BlockTuners) -> Tensor:
        """timm's Attention.forward step by step, with tuners at its linear maps and rows in its softmax."""
        attn = self._block.attn
        batch, tokens, _ = x.shape
        gate = getattr(attn, "gate", None)
        opened = None if gate is None else gate(x).sigmoid()
        qkv = self._qkv(x, tuners)
        qkv = qkv.reshape(batch, tokens, 3, attn.num_heads, attn.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        q, k = attn.q_norm(q), attn.k_norm(k)
        for keys, values in rows:
            k = torch.cat([keys.to(k.dtype).expand(batch, -1, -1, -1), k], dim=2)
            v = torch.cat([values.to(v.dtype).expand(batch, -1, -1, -1), v], dim=2)
        if attn.fused_attn:
            drop = attn.attn_drop.p if attn.training else 0.0
            x = F.scaled_dot_product_attention(q, k, v, dropout_p=drop)
        else:
            weights = (q * attn.scale @ k.transpose(-2, -1)).softmax(dim=-1)
            x = attn.attn_drop(weights) @ v
        x = x.transpose(1, 2).reshape(batch, tokens, self._heads_width)
        norm = getattr(attn, "norm", None)
        x = x if norm is None else norm(x)
        x = x if opened is None else x * opened
        return cast(Tensor, attn.proj_drop(tuners.add("proj", self, x, attn.proj(x))))

    def _qkv(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        qkv = tuners.add("qkv", self, x, self._block.attn.qkv(x))
        if not tuners.touches(*QKV_PARTS):
            return qkv
        parts = qkv.chunk(3, dim=-1)
        return torch.cat([tuners.add(p, self, x, y) for p, y in zip(QKV_PARTS, parts, strict=True)], dim=-1)

    def _mlp(self, x: Tensor, tuners: BlockTuners) -> Tensor:
        block, mlp = self._block, self._block.mlp
        read = h = tuners.add("norm2", self, x, tuners.normalise("mlp", block.norm2, x))
        if tuners.touches("fc1", "fc2"):
            h = tuners.add("fc1", self, h, mlp.fc1(h))
            if isinstance(mlp, GluMlp):
                first, second = h.chunk(2, dim=-1)
                h = first * mlp.act(second) if mlp.gate_last else mlp.act(first) * second
            else:
                h = mlp.act(h)
            h = mlp.norm(mlp.drop1(h))
            h = mlp.drop2(tuners.add("fc2", self, h, mlp.fc2(h)))
        else:
            h = mlp(h)
        return tuners.add("ffn", self, read, block.drop_path2(block.ls2(h)))

    @property
    def _heads_width(self) -> int:
        width: int = self._block.attn.num_heads * self._block.attn.head_dim
        return width

    def _split(self, x: Tensor) -> Tensor:
        """(..., tokens, heads * head_dim) to (..., heads, tokens, head_dim)."""
        attention = self._block.attn
        split: Tensor = x.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(-3, -2)
        return split


class VisionTransformerAdapter(BackboneAdapter):
    """Whatever timm builds of its VisionTransformer with pre-norm blocks, and pools."""

    named: ClassVar[str] = "a timm VisionTransformer"
    head: ClassVar[tuple[str, ...]] = ("head.", "head_dist.")
    operations: ClassVar[tuple[Operation, ...]] = OPERATIONS

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._vit = cast(Any, model)  # nn.Module's own typing knows nothing of its attributes
        self.blocks: Sequence[BackboneBlock] = tuple(VisionTransformerBlock(b) for b in self._vit.blocks)

    @classmethod
    def recognises(cls, model: nn.Module) -> bool:
        return isinstance(model, VisionTransformer)

    @classmethod
    def check(cls, model: nn.Module, where: str) -> None:
        vit = cast(VisionTransformer, model)
        if not vit.global_pool:
            todo = 'Create it with global_pool="token" or "avg".'
            raise BackboneError(where, "the model pools its tokens", "no pooling", todo)
        for i, block in enumerate(vit.blocks.children()):
            attention, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
            # Their forward passes are followed step by step, so a subclass with another forward does not do.
            plain = all(
                any(isinstance(m, c) and type(m).forward is c.forward for c in classes)
                for m, classes in ((block, (Block,)), (attention, (Attention,)), (mlp, (Mlp, GluMlp)))
            )
            if not plain:
                kinds = f"{type(block).__name__} with {type(attention).__name__} and {type(mlp).__name__}"
                raise BackboneError(f"{where}, block {i + 1}", "a pre-norm Block with Attention and Mlp", kinds)

    @property
    def shape(self) -> BackboneShape:
        vit = self._vit
        block = vit.blocks[0]
        return BackboneShape(
            dim=vit.embed_dim,
            depth=len(vit.blocks),
            num_heads=block.attn.num_heads,
            head_dim=block.attn.head_dim,
            hidden=block.mlp.fc1.out_features,
            hidden_in=block.mlp.fc2.in_features,
            parameters=sum(p.numel() for n, p in vit.named_parameters() if not n.startswith(self.head)),
            grid=tuple(vit.patch_embed.grid_size),
            prefix_tokens=vit.num_prefix_tokens,
            flops_outside=self._flops_outside(),
            gated_attention=getattr(block.attn, "gate", None) is not None,
            scaled_ends=not all(b.ends_in_linear(o) for b in self.blocks for o in ("attention", "mlp")),
            plain_norms=all(
                isinstance(m, nn.LayerNorm) and m.weight is not None and m.bias is not None
                for b in vit.blocks
                for m in (b.norm1, b.norm2)
            ),
            plain_patches=self.ends()[0] is not None,
            plain_final=self.ends()[1] is not None,
        )

    def _flops_outside(self) -> int | None:
        """FLOPs of one image in patch embedding and pooling; None where either is not one that we know."""
        vit = self._vit
        embed, pooled = vit.patch_embed, vit.attn_pool
        plain = type(embed).forward is PatchEmbed.forward and isinstance(embed.proj, nn.Conv2d)
        if not plain or any(size % patch for size, patch in zip(embed.img_size, embed.patch_size, strict=True)):
            return None
        patches: int = math.prod(embed.grid_size)
        flops: int = 2 * patches * embed.proj.weight.numel()
        tokens: int = patches + (vit.num_prefix_tokens if vit.pool_include_prefix else 0)
        if type(pooled) is AttentionPoolLatent:
            # All its linear maps see the latent queries but `kv`, which sees the tokens.
            maps = {n: m.weight.numel() for n, m in pooled.named_modules() if isinstance(m, nn.Linear)}
            flops += sum(2 * weights * (tokens if n == "kv" else pooled.latent_len) for n, weights in maps.items())
            flops += 4 * pooled.latent_len * tokens * vit.embed_dim
        elif type(pooled) is AttentionPoolPrr:
            flops += 4 * tokens**2 * vit.embed_dim
        elif pooled is not None:
            return None
        return flops

    @property
    def num_features(self) -> int:
        features: int = self._vit.num_features
        return features

    @property
    def num_prefix_tokens(self) -> int:
        tokens: int = self._vit.num_prefix_tokens
        return tokens

    @property
    def image_size(self) -> int:
        size: int = self._vit.patch_embed.img_size[0]
        return size

    @property
    def channels(self) -> int:
        channels: int = self._vit.in_chans
        return channels

    def embed(self, images: Tensor) -> Tensor:
        vit = self._vit
        tokens: Tensor = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images))))
        return tokens

    def pool(self, tokens: Tensor) -> Tensor:
        features: Tensor = self._vit.forward_head(self._vit.norm(tokens), pre_logits=True)
        return features

    def embed_tuned(self, images: Tensor, tuners: BlockTuners) -> Tensor:
        vit = self._vit
        patches = vit.patch_embed(images)
        patches = tuners.add("patches", self.blocks[0], patches, patches)
        return cast(Tensor, vit.norm_pre(vit.patch_drop(vit._pos_embed(patches))))

    def pool_tuned(self, tokens: Tensor, tuners: BlockTuners) -> Tensor:
        vit = self._vit
        if not self._norm_after_pooling:
            normed = vit.norm(tokens)
            return cast(Tensor, vit.forward_head(tuners.add("final", self.blocks[0], tokens, normed), pre_logits=True))
        pooled = vit.pool(vit.norm(tokens))
        return cast(Tensor, vit.head_drop(tuners.add("final", self.blocks[0], pooled, vit.fc_norm(pooled))))

    @property
    def _norm_after_pooling(self) -> bool:
        """timm normalises what was pooled, rather than the tokens, where it averages them."""
        return not isinstance(self._vit.fc_norm, nn.Identity)

    def ends(self) -> tuple[nn.Module | None, nn.Module | None]:
        embed, norm = self._vit.patch_embed, self._vit.fc_norm if self._norm_after_pooling else self._vit.norm
        plain = isinstance(embed.norm, nn.Identity) and isinstance(embed.proj, nn.Conv2d)
        layer_norm = isinstance(norm, nn.LayerNorm) and norm.weight is not None and norm.bias is not None
        return embed.proj if plain and embed.proj.bias is not None else None, norm if layer_norm else None

    def unfuse_attention(self) -> None:
        for module in self.model.modules():
            if isinstance(module, Attention):
                # `fused_attn` is timm's own switch; it is Final for TorchScript only.
                setattr(module, "fused_attn", False)  # noqa: B010

    def check_image_size(self, where: str) -> None:
        patches = self._vit.patch_embed
        for size, patch in zip(patches.img_size or (), patches.patch_size, strict=False):
            if size % patch and not patches.dynamic_img_pad:  # timm finds that out at the first image only
                below = size - size % patch
                todo = f"Take {below} or {below + patch}." if below else f"Take {patch}."
                raise InputError(where, f"image_size is a multiple of its patches, {patch}", size, todo)

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return checkpoint_filter_fn(state, cast(VisionTransformer, self.model))

    def read_npz(self, path: Path) -> dict[str, Tensor]:
        target = copy.deepcopy(self._vit)  # timm writes as it reads: a file that breaks off must not leave half of it
        target.load_pretrained(str(path))
        return cast(dict[str, Tensor], target.state_dict())
