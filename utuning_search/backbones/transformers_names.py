"""Tensors of Hugging Face transformers' vision models under timm's names, joined where timm joins them.

Read are ViT, DINOv2 with or without registers, DINOv3 ViT, and the vision towers of CLIP, SigLIP and SigLIP 2: as they
are published, and as transformers 5 calls them in memory. What a checkpoint has besides, such as a text tower, is left
out.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

# Weights of the patch embedding, by whose name the rest is found.
ANCHORS = (
    "embeddings.patch_embeddings.projection.weight",  # ViT, DINOv2
    "embeddings.patch_embedding.weight",  # CLIP, SigLIP
    "embeddings.patch_embeddings.weight",  # DINOv3
)
BLOCK = re.compile(r"(?:encoder\.|model\.)?layers?\.(\d+)\.(.+)\.(\w+)")
OUTSIDE = {
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "embeddings.patch_embedding": "patch_embed.proj",
    "embeddings.patch_embeddings": "patch_embed.proj",
    "pre_layrnorm": "norm_pre",  # their spelling
    "layernorm": "norm",
    "post_layernorm": "norm",
    "norm": "norm",
    "head.attention.out_proj": "attn_pool.proj",
    "head.layernorm": "attn_pool.norm",
    "head.mlp.fc1": "attn_pool.mlp.fc1",
    "head.mlp.fc2": "attn_pool.mlp.fc2",
}
TOKENS = {
    "embeddings.cls_token": "cls_token",
    "embeddings.class_embedding": "cls_token",
    "embeddings.register_tokens": "reg_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.position_embedding.weight": "pos_embed",
    "head.probe": "attn_pool.latent",
}
INSIDE = {
    "layernorm_before": "norm1",
    "layer_norm1": "norm1",
    "layernorm_after": "norm2",
    "layer_norm2": "norm2",
    "attention.attention.query": "attn.q",
    "attention.attention.key": "attn.k",
    "attention.attention.value": "attn.v",
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    "self_attn.out_proj": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "mlp.weights_in": "mlp.fc1",
    "mlp.weights_out": "mlp.fc2",
    "mlp.gate_proj": "mlp.fc1_g",
    "mlp.up_proj": "mlp.fc1_x",
    "mlp.down_proj": "mlp.fc2",
    **{f"{a}.{p}_proj": f"attn.{p}" for a in ("attention", "self_attn") for p in "qkv"},
}
# Of a model without a prefix of its own: heads, and what only pretraining needs.
LEFT_OUT = re.compile(
    r"(.*\.)?(embeddings\.mask_token|embeddings\.position_ids|rope_embeddings\..*)|"
    r"(pooler|classifier|decoder|visual_projection)\..*"
)


def timm_names(state: Mapping[Any, Any], own: Mapping[str, Tensor]) -> dict[Any, Any]:
    """A checkpoint's table of tensors under timm's names, if it is one of transformers; else as it is.

    Args:
        state: As it was read; any prefix may stand before all names of the vision model.
        own: The tensors of the model that it is for.
    """
    found = [(key, anchor) for key in state for anchor in ANCHORS if _is_behind(key, anchor)]
    if len(found) != 1:
        return dict(state)
    key, anchor = found[0]
    prefix = key.removesuffix(anchor)
    theirs = {k.removeprefix(prefix): v for k, v in state.items() if isinstance(k, str) and k.startswith(prefix)}
    eva = "blocks.0.gamma_1" in own
    named = {_renamed(k, eva): v for k, v in theirs.items() if not LEFT_OUT.fullmatch(k)}
    _fit_tokens(named)
    _fit_patches(named, own)
    _split_pooling(named)
    for name in [n for n in named if n.endswith((".attn.q.weight", ".mlp.fc1_x.weight"))]:
        before, _, part = name.removesuffix(".weight").rpartition(".")
        _join_qkv(named, before, own) if part == "q" else _join_gate(named, before, own)
    return named


def _is_behind(key: object, anchor: str) -> bool:
    return isinstance(key, str) and (key == anchor or key.endswith(f".{anchor}"))


def _renamed(key: str, eva: bool) -> str:
    """timm's name for one of theirs, in Eva or VisionTransformer; what is not known stays, and does not fit then."""
    if key in TOKENS:
        return TOKENS[key]
    inside = BLOCK.fullmatch(key)
    if inside is None:
        before, dot, leaf = key.rpartition(".")
        return f"{OUTSIDE.get(before, before)}{dot}{leaf}"
    number, part, leaf = inside.groups()
    if leaf == "lambda1":  # of a layer scale, whose names end in 1 or 2
        return f"blocks.{number}.gamma_{part[-1]}" if eva else f"blocks.{number}.ls{part[-1]}.gamma"
    return f"blocks.{number}.{INSIDE.get(part, part)}.{leaf}"


def _fit_tokens(named: dict[str, Any]) -> None:
    """Tokens and positions with a batch's axis; beside registers timm has the class token's position in the token."""
    if "cls_token" in named:
        named["cls_token"] = named["cls_token"].reshape(1, 1, -1)
    if "pos_embed" in named and named["pos_embed"].ndim == 2:
        named["pos_embed"] = named["pos_embed"][None]
    registers = named.get("reg_token")
    if registers is None:
        return
    if "pos_embed" in named:
        named["cls_token"] = named["cls_token"].float() + named["pos_embed"][:, :1].float()
        named["pos_embed"] = named["pos_embed"][:, 1:]
    if not registers.numel():
        del named["reg_token"]


def _fit_patches(named: dict[str, Any], own: Mapping[str, Tensor]) -> None:
    """SigLIP 2's linear map of patches as a convolution: its inputs are ordered by row, column and channel."""
    weight, ours = named["patch_embed.proj.weight"], own.get("patch_embed.proj.weight")
    if weight.ndim == 2 and ours is not None and ours.ndim == 4:
        channels = ours.shape[1]
        side = math.isqrt(weight.shape[1] // channels)
        named["patch_embed.proj.weight"] = weight.reshape(-1, side, side, channels).permute(0, 3, 1, 2).contiguous()


def _split_pooling(named: dict[str, Any]) -> None:
    """The query of SigLIP's pooling apart from its keys and values."""
    for leaf in ("weight", "bias"):
        joined = named.pop(f"head.attention.in_proj_{leaf}", None)
        if joined is not None:
            named[f"attn_pool.q.{leaf}"], keys, values = joined.chunk(3)
            named[f"attn_pool.kv.{leaf}"] = torch.cat([keys, values])


def _join_qkv(named: dict[str, Any], before: str, own: Mapping[str, Tensor]) -> None:
    """Queries, keys and values as one map; Eva keeps the biases of queries and values alone."""
    named[f"{before}.qkv.weight"] = torch.cat([named.pop(f"{before}.{p}.weight") for p in "qkv"])
    biases = {p: named.pop(f"{before}.{p}.bias") for p in "qkv" if f"{before}.{p}.bias" in named}
    if f"{before}.q_bias" in own and "k" not in biases:
        named.update({f"{before}.{p}_bias": bias for p, bias in biases.items()})
    elif len(biases) == 3:
        named[f"{before}.qkv.bias"] = torch.cat(list(biases.values()))
    else:
        named.update({f"{before}.{p}.bias": bias for p, bias in biases.items()})


def _join_gate(named: dict[str, Any], before: str, own: Mapping[str, Tensor]) -> None:
    """A gated MLP as timm's of that model has it: gate and value in one map, the gate first, or apart."""
    if f"{before}.fc1_g.weight" in own:
        return
    for leaf in ("weight", "bias"):
        parts = [named.pop(f"{before}.fc1_{p}.{leaf}") for p in "gx" if f"{before}.fc1_{p}.{leaf}" in named]
        if parts:  # one alone is DINOv3's name for a map without a gate
            named[f"{before}.fc1.{leaf}"] = torch.cat(parts)
