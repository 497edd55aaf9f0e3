"""Frozen timm vision transformers: load, freeze, check, and what sizes and preprocessing they imply."""

import copy
import math
import pickle
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import timm
import torch
from timm.data import resolve_model_data_config
from timm.layers import Attention, AttentionPoolLatent, AttentionPoolPrr, GluMlp, Mlp, PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from utuning_search.common.errors import BackboneError, InputError, nearest
from utuning_search.tuners import BackboneShape

GLYPH_VIT = "glyph_vit"
HEAD = ("head.", "head_dist.")

__all__ = [
    "GLYPH_VIT",
    "Preprocessing",
    "VisionTransformer",
    "check_supported",
    "embed",
    "freeze",
    "glyph_vit",
    "load_backbone",
    "pool",
    "preprocessing_of",
    "shape_of",
    "unfuse_attention",
]


@dataclass(frozen=True)
class Preprocessing:
    """How uint8 images become a backbone's input.

    Attributes:
        image_size: Height and width in pixels.
        channels: 1 or 3.
        mean: One a channel, of values in [0, 1].
        std: One a channel.
        interpolation: "bilinear", "bicubic" or "nearest".
    """

    image_size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (batch, channels, height, width) to normalised float32 of the same shape."""
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1)
        return (images.float() / 255 - mean) / std


def glyph_vit(num_classes: int = 0) -> VisionTransformer:
    """The architecture of the embedded backbone: 8x8 grey images, patch 2, dim 64, 6 blocks, 4 heads."""
    return VisionTransformer(
        img_size=8, patch_size=2, in_chans=1, num_classes=num_classes, embed_dim=64, depth=6, num_heads=4
    )


def load_backbone(name: str, checkpoint: Path | None = None, image_size: int | None = None) -> VisionTransformer:
    """A frozen backbone without head, in evaluation mode, in fp32 on the CPU.

    Args:
        name: `glyph_vit` (bundled), or a timm model whose class is VisionTransformer.
        checkpoint: A local .safetensors, .pth / .pt or .npz file with timm's names; None asks timm for its
            pretrained weights. Position embeddings are resampled to `image_size`; a head in it is dropped.
        image_size: Pixels; None takes the model's own.

    Raises:
        InputError: No such model or file.
        BackboneError: Not a plain VisionTransformer, or the checkpoint does not fit (names the tensors).
    """
    if name == GLYPH_VIT:
        if image_size not in (None, 8):
            raise InputError(f"backbone '{name}'", "image_size is 8", image_size, "Leave image_size out.")
        model: Any = glyph_vit()
        with resources.as_file(resources.files("utuning_search.backbones.embedded") / "glyph_vit.safetensors") as path:
            _load(model, checkpoint or path)
    elif not timm.is_model(name):
        known = (GLYPH_VIT, *timm.list_models("*vit*"))
        advice = nearest(name, known).split(" Known")[0]
        raise InputError("backbone", "name is a timm model or glyph_vit", f"'{name}'", advice)
    else:
        size: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
        try:
            model = timm.create_model(name, pretrained=checkpoint is None, num_classes=0, **size)
        except TypeError as error:  # the architecture does not know img_size
            raise BackboneError(f"backbone '{name}'", "the model is a timm VisionTransformer", error) from None
        except (RuntimeError, OSError) as error:
            todo = "Give a local file as checkpoint, or check the network."
            raise BackboneError(f"backbone '{name}'", "its pretrained weights can be fetched", error, todo) from None
        check_supported(model, name)
        _check_size(model, name)
        if checkpoint is not None:
            _load(model, checkpoint)
    return freeze(model)


def _check_size(model: VisionTransformer, name: str) -> None:
    """Refuse an image size that does not fall into patches; timm finds that out at the first image only."""
    patches = cast(Any, model.patch_embed)
    for size, patch in zip(patches.img_size or (), patches.patch_size, strict=False):
        if size % patch and not patches.dynamic_img_pad:
            below = size - size % patch
            todo = f"Take {below} or {below + patch}." if below else f"Take {patch}."
            raise InputError(f"backbone '{name}'", f"image_size is a multiple of its patches, {patch}", size, todo)


def freeze(model: VisionTransformer) -> VisionTransformer:
    """The same model in evaluation mode, none of its parameters trainable."""
    check_supported(model, type(model).__name__)
    return model.eval().requires_grad_(False)


def unfuse_attention(model: VisionTransformer) -> None:
    """Use plain matmuls in the attention of this one model.

    On CPUs the fused kernel's backward in bf16 is about four times slower than plain matmuls.
    """
    for module in model.modules():
        if isinstance(module, Attention):
            # `fused_attn` is timm's own switch; it is Final for TorchScript only.
            setattr(module, "fused_attn", False)  # noqa: B010


def check_supported(model: nn.Module, name: str) -> None:
    """Raise BackboneError unless tuners can be attached to `model`."""
    where = f"backbone '{name}'"
    if not isinstance(model, VisionTransformer):
        raise BackboneError(where, "the model is a timm VisionTransformer", type(model).__name__)
    if not model.global_pool:
        todo = 'Create it with global_pool="token" or "avg".'
        raise BackboneError(where, "the model pools its tokens", "no pooling", todo)
    for i, block in enumerate(model.blocks):
        attention, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
        # Their forward passes are followed step by step, so a subclass with another forward does not do.
        plain = all(
            any(isinstance(m, c) and type(m).forward is c.forward for c in classes)
            for m, classes in ((block, (Block,)), (attention, (Attention,)), (mlp, (Mlp, GluMlp)))
        )
        if not plain:
            kinds = f"{type(block).__name__} with {type(attention).__name__} and {type(mlp).__name__}"
            raise BackboneError(f"{where}, block {i + 1}", "a pre-norm Block with Attention and Mlp", kinds)


def shape_of(model: nn.Module) -> BackboneShape:
    """The numbers that closed-form sizes depend on."""
    vit = cast(Any, model)
    block = vit.blocks[0]
    return BackboneShape(
        dim=vit.embed_dim,
        depth=len(vit.blocks),
        num_heads=block.attn.num_heads,
        head_dim=block.attn.head_dim,
        hidden=block.mlp.fc1.out_features,
        hidden_in=block.mlp.fc2.in_features,
        parameters=sum(p.numel() for n, p in model.named_parameters() if not n.startswith(HEAD)),
        grid=tuple(vit.patch_embed.grid_size),
        prefix_tokens=vit.num_prefix_tokens,
        flops_outside=_flops_outside(vit),
        gated_attention=getattr(block.attn, "gate", None) is not None,
        scaled_ends=any(
            not isinstance(m, nn.Identity) for b in vit.blocks for m in (b.ls1, b.ls2, b.drop_path1, b.drop_path2)
        ),
        plain_norms=all(
            isinstance(m, nn.LayerNorm) and m.weight is not None and m.bias is not None
            for b in vit.blocks
            for m in (b.norm1, b.norm2)
        ),
    )


def _flops_outside(vit: Any) -> int | None:
    """FLOPs of one image in patch embedding and pooling; None where either is not one that we know."""
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


def preprocessing_of(model: VisionTransformer, name: str) -> Preprocessing:
    """Size, channels and normalisation from the model's own timm configuration."""
    size = cast(Any, model.patch_embed).img_size
    if name == GLYPH_VIT:
        return Preprocessing(8, 1, (0.5,), (0.5,), "bilinear")
    config = resolve_model_data_config(model)
    return Preprocessing(
        image_size=size[0],
        channels=model.in_chans,
        mean=tuple(config["mean"])[: model.in_chans],
        std=tuple(config["std"])[: model.in_chans],
        interpolation=config["interpolation"],
    )


def embed(model: VisionTransformer, images: Tensor) -> Tensor:
    """Everything before the first block: (batch, channels, height, width) to (batch, tokens, dim)."""
    x = model.patch_embed(images)
    x = model._pos_embed(x)
    tokens: Tensor = model.norm_pre(model.patch_drop(x))
    return tokens


def pool(model: VisionTransformer, tokens: Tensor) -> Tensor:
    """Everything after the last block but the head: (batch, tokens, dim) to (batch, dim)."""
    return model.forward_head(model.norm(tokens), pre_logits=True)


def _load(model: VisionTransformer, path: Path) -> None:
    where = f"checkpoint {path}"
    if not path.is_file():
        raise InputError(where, "the file exists", "no such file")
    try:
        state = _read(model, path)
    except Exception as error:
        todo = "Only .safetensors, Google's .npz and .pth files of plain tensors are read."
        # torch's message on pickles that run code advises to run it; ours does not.
        said = "" if isinstance(error, pickle.UnpicklingError) or not str(error) else f": {str(error).splitlines()[0]}"
        raise InputError(where, "the file is readable", type(error).__name__ + said, todo) from None
    own = model.state_dict()
    wrong = [f"{k} missing" for k in own.keys() - state.keys()]
    wrong += [f"{k} unexpected" for k in state.keys() - own.keys()]
    wrong += [
        f"{k} is {tuple(state[k].shape)}, not {tuple(own[k].shape)}"
        for k in own.keys() & state.keys()
        if state[k].shape != own[k].shape
    ]
    if wrong:
        listed = "; ".join(sorted(wrong)[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise BackboneError(where, f"its tensors fit {type(model).__name__} exactly", listed)
    model.load_state_dict(state)


def _read(model: VisionTransformer, path: Path) -> dict[str, Tensor]:
    """A checkpoint's tensors in fp32 under timm's names, position embedding resampled, head left out."""
    if path.suffix == ".npz":
        target = copy.deepcopy(model)  # timm writes as it reads: a file that breaks off must not leave half of it
        target.load_pretrained(str(path))
        return target.state_dict()
    if path.suffix == ".safetensors":
        state = safetensors.torch.load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise TypeError(f"a {type(state).__name__} instead of named tensors")
    tensors = checkpoint_filter_fn(state, model)
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"'{name}' is a {type(tensor).__name__}, not a tensor")
    floats = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    return {k: v for k, v in floats.items() if not k.startswith(HEAD)}
