"""Tokens and keys that tuners insert have no place in an image: forward passes by hand, with own few lines."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.designs.placement import Placement
from utuning_search.testing.backbones import pictures
from utuning_search.tuners import AdapterConfig, PrefixConfig, PromptConfig

from ..helpers import tuned
from .variants import every_family

Maker = Callable[[], nn.Module]
PROMPTS, ROWS = 3, 2


def projections(attn: Any, x: Tensor) -> list[Tensor]:
    """Queries, keys and values (batch, heads, tokens, head_dim) before they get a place."""
    if attn.qkv is None:
        parts = [attn.q_proj(x), attn.k_proj(x), attn.v_proj(x)]
    else:
        parts = [x @ w.T for w in attn.qkv.weight.chunk(3)]
        fused, apart = attn.qkv.bias, [getattr(attn, f"{n}_bias", None) for n in "qkv"]
        biases = apart if fused is None else fused.chunk(3)
        parts = [p if b is None else p + b for p, b in zip(parts, biases, strict=True)]
    width = parts[0].shape[-1] // attn.num_heads
    q, k, v = (p.unflatten(-1, (-1, width)).transpose(1, 2) for p in parts)
    q_norm, k_norm = (getattr(attn, n, nn.Identity()) for n in ("q_norm", "k_norm"))
    return [q_norm(q), k_norm(k), v]


def turned(model: Any, index: int, x: Tensor) -> Tensor:
    """The last tokens of x (batch, heads, tokens, head_dim), each pair of channels turned by its angle."""
    rope = getattr(model, "rope", None)
    if rope is None:
        return x
    sines, cosines = rope.get_embed(model.patch_embed.grid_size).chunk(2, dim=-1)
    if sines.ndim == 4:
        sines, cosines = sines[index], cosines[index]
    half = x.shape[-1] // 2
    pairs = [list(range(half)), list(range(half, 2 * half))] if model.blocks[index].attn.rotate_half else None
    first, second = pairs or (list(range(0, 2 * half, 2)), list(range(1, 2 * half, 2)))
    count = model.patch_embed.num_patches
    angles = torch.complex(cosines[..., first], sines[..., first])
    ours = torch.complex(x[:, :, -count:, first], x[:, :, -count:, second]) * angles
    out = x.clone()
    out[:, :, -count:, first], out[:, :, -count:, second] = ours.real, ours.imag
    return out


def biased(model: Any, attn: Any, logits: Tensor, prompts: int, rows: int) -> Tensor:
    """Products of queries and keys, with relative biases between the model's own tokens only."""
    at = model.num_prefix_tokens
    own = [i for i in range(logits.shape[2]) if not at <= i < at + prompts]
    for holder in (getattr(attn, "rel_pos", None), getattr(model, "shared_rel_pos", None)):
        if holder is not None:
            (bias,) = holder.get_bias()
            for a, i in enumerate(own):
                for b, j in enumerate(own):
                    logits[:, :, i, rows + j] += bias[:, a, b]
    for holder in (attn, getattr(model, "rel_pos_bias", None)):
        table = getattr(holder, "relative_position_bias_table", None)
        if table is not None:
            for a, i in enumerate(own):
                for b, j in enumerate(own):
                    logits[:, :, i, rows + j] += table[holder.relative_position_index[a, b]]
    return logits


def attend(model: Any, index: int, x: Tensor, prompts: int, keys: Tensor | None, values: Tensor | None) -> Tensor:
    """A block's attention of normalised tokens, `prompts` of them after the prefix, with rows before its keys."""
    attn = model.blocks[index].attn
    q, k, v = projections(attn, x)
    q, k = turned(model, index, q), turned(model, index, k)
    if keys is not None and values is not None:
        k, v = (torch.cat([r.expand(len(x), -1, -1, -1), t], dim=2) for r, t in ((keys, k), (values, v)))
    sharing = q.shape[1] // k.shape[1]
    k, v = (torch.stack([t] * sharing, dim=2).flatten(1, 2) for t in (k, v))
    logits = torch.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[-1] ** 0.5
    rows = 0 if keys is None else keys.shape[1]
    mixed = (biased(model, attn, logits, prompts, rows).softmax(-1) @ v).transpose(1, 2).flatten(2)
    return attn.proj(getattr(attn, "norm", nn.Identity())(mixed))


def by_hand(
    tuned_model: TunedModel, images: Tensor, prompts: list[Tensor], rows: list[tuple[Tensor, Tensor]]
) -> Tensor:
    model: Any = tuned_model.backbone
    at = model.num_prefix_tokens
    x = adapter_of(model).embed(images)
    for i, block in enumerate(model.blocks):
        count = len(prompts[i]) if prompts else 0
        if count:
            x = torch.cat([x[:, :at], prompts[i].expand(len(x), -1, -1), x[:, at:]], dim=1)
        last = "Post" in type(block).__name__  # norms
        out = attend(model, i, x if last else block.norm1(x), count, *(rows[i] if rows else (None, None)))
        x = x + (block.norm1(out) if last else scaled(block, 1, out))
        x = x + (block.norm2(block.mlp(x)) if last else scaled(block, 2, block.mlp(block.norm2(x))))
        x = torch.cat([x[:, :at], x[:, at + count :]], dim=1)
    return tuned_model.head(model.forward_head(model.norm(x), pre_logits=True))


def scaled(block: Any, number: int, x: Tensor) -> Tensor:
    """Through the layer scale, if there is one, under either of timm's names for it."""
    if hasattr(block, f"ls{number}"):
        return getattr(block, f"ls{number}")(x)
    gamma = getattr(block, f"gamma_{number}")
    return x if gamma is None else gamma * x


def named(model: TunedModel, name: str) -> list[Tensor]:
    """A tuner's parameter of that last name, block by block."""
    return [p for n, p in model.tuners.named_parameters() if n.rpartition(".")[2] == name]


@every_family
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@torch.no_grad()
def test_prompts_and_prefixes_have_no_place(make: Maker, fused: bool) -> None:
    backbone = make()
    if not fused:
        adapter_of(backbone).unfuse_attention()
    images = pictures(adapter_of(backbone)).double()
    deep, exact = Placement("block", PromptConfig(PROMPTS, "deep")), Placement("attention", PrefixConfig(ROWS, "exact"))
    for placements in ((deep,), (exact,), (deep, exact)):
        model = tuned(backbone, *placements, random=True, double=True)
        rows = list(zip(named(model, "keys"), named(model, "values"), strict=True))
        assert torch.allclose(model(images), by_hand(model, images, named(model, "tokens"), rows), atol=1e-10)


@every_family
@torch.no_grad()
def test_a_shallow_prompt_passes_bare_blocks(make: Maker) -> None:
    """It stays in a sequence that the model's own blocks know nothing of, whether tuners stand there or not."""
    prompt = Placement("block", PromptConfig(PROMPTS, "shallow"), blocks="first 1")
    idle = Placement("proj", AdapterConfig(1), blocks="last 1")
    alone, together = (tuned(make(), *p, double=True) for p in ((prompt,), (prompt, idle)))
    (tokens,) = named(alone, "tokens")
    named(together, "tokens")[0].copy_(tokens)
    together.head.load_state_dict(alone.head.state_dict())
    images = pictures(alone.adapter).double()
    assert torch.allclose(alone(images), together(images), atol=1e-12)
    assert not torch.allclose(alone(images), alone.head(alone.backbone(images)), atol=1e-6)


@every_family
@torch.no_grad()
def test_parallel_prefixes_see_the_queries_of_the_exact_ones(make: Maker) -> None:
    """Attn(Q, K_pre, V_pre) with the queries of the frozen attention, as they are turned by their places."""
    model = tuned(make(), Placement("attention", PrefixConfig(ROWS, "parallel"), blocks=(1,)), random=True, double=True)
    backbone: Any = model.backbone
    (keys,), (values,) = named(model, "keys"), named(model, "values")
    x = adapter_of(backbone).embed(pictures(model.adapter).double())
    block = backbone.blocks[0]
    q, _, _ = projections(block.attn, x if "Post" in type(block).__name__ else block.norm1(x))
    weights = torch.einsum("bhqd,hkd->bhqk", turned(backbone, 0, q), keys) / q.shape[-1] ** 0.5
    mixed = torch.einsum("bhqk,hkd->bhqd", weights.softmax(-1), values).transpose(1, 2).flatten(2)
    found = model.adapter.blocks[0].attend(x, keys, values)
    assert torch.allclose(found, mixed @ block.attn.proj.weight.T, atol=1e-10)


@every_family
@torch.no_grad()
def test_low_precision_and_training_mode_run(make: Maker) -> None:
    """Each dropout of the backbone is where timm has it, and half precision goes through biases and rotations."""
    model = tuned(make(), Placement("proj", AdapterConfig(1)))
    images = pictures(model.adapter)
    model.train()
    if (shared := getattr(model.backbone, "shared_rel_pos", None)) is not None:
        shared.eval()  # as in tuned models: what it drops all blocks would have to know
    torch.default_generator.manual_seed(11)
    expected = model.head(model.backbone(images))
    torch.default_generator.manual_seed(11)
    assert torch.equal(model(images), expected)
    prompt = Placement("block", PromptConfig(PROMPTS, "deep"))
    with torch.autocast("cpu", torch.bfloat16):
        longer = tuned(make(), prompt, Placement("attention", PrefixConfig(ROWS, "exact")))
        assert longer(images).dtype == torch.bfloat16
