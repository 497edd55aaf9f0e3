"""Published methods, written from their papers' equations over the modules of a timm ViT: images to pooled features.

Nothing here comes from the package. An original is a function of (vit, theta, images): the frozen backbone, the trained
tensors by name, and images (batch, channels, height, width); it returns features (batch, dim), to which the tests apply
the head. Most are functions of one block, tokens (batch, tokens, dim) to the same, made whole by `blockwise`.

A tuner's tensors keep the names that they have in a tuned model, so that `p["added.mlp.adapter.parallel.up.weight"]`
is W_up. Where a paper writes its parameters in another way, a translation of the tests renames or reshapes them first.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

Values = Mapping[str, Tensor]
Original = Callable[[Any, Values, Tensor], Tensor]
BlockOriginal = Callable[[Any, Values, Tensor], Tensor]

Q, K, V = range(3)


# The ViT


def under(theta: Values, name: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `name` and a dot, by the rest of their names."""
    return {k.removeprefix(f"{name}."): v for k, v in theta.items() if k.startswith(f"{name}.")}


def tokens_of(vit: Any, images: Tensor) -> Tensor:
    """What the first block reads."""
    tokens: Tensor = vit.norm_pre(vit._pos_embed(vit.patch_embed(images)))
    return tokens


def read(vit: Any, x: Tensor) -> Tensor:
    """timm's own pooling of the tokens after the last block."""
    features: Tensor = vit.forward_head(vit.norm(x))
    return features


def blockwise(block_original: BlockOriginal) -> Original:
    """The whole model of a method that changes each block alike."""

    def original(vit: Any, theta: Values, images: Tensor) -> Tensor:
        x = tokens_of(vit, images)
        for number, block in enumerate(vit.blocks, 1):
            x = block_original(block, under(theta, f"tuners.block_{number}"), x)
        return read(vit, x)

    return original


def attention(block: Any, x: Tensor) -> Tensor:
    """The attention branch: norm1, MHSA, layer scale; without its residual."""
    out: Tensor = block.ls1(block.attn(block.norm1(x)))
    return out


def mlp(block: Any, x: Tensor) -> Tensor:
    """The MLP branch: norm2, MLP, layer scale; without its residual."""
    out: Tensor = block.ls2(block.mlp(block.norm2(x)))
    return out


def project(block: Any, part: int, h: Tensor) -> Tensor:
    """The frozen queries, keys or values of tokens h, not yet split into heads."""
    qkv = block.attn.qkv
    return F.linear(h, qkv.weight.chunk(3)[part], qkv.bias.chunk(3)[part])


def split(block: Any, part: int, z: Tensor) -> Tensor:
    """(..., tokens, dim) to (..., heads, tokens, head_dim), with timm's norm of queries or keys where it has one."""
    z = z.reshape(*z.shape[:-1], block.attn.num_heads, -1).transpose(-3, -2)
    if part == V:
        return z
    normed: Tensor = (block.attn.q_norm if part == Q else block.attn.k_norm)(z)
    return normed


def rows(block: Any, z: Tensor) -> Tensor:
    """Prefix rows (length, dim) as (heads, length, head_dim)."""
    return z.reshape(len(z), block.attn.num_heads, -1).transpose(0, 1)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(Q Kᵀ / sqrt(d)) V, heads joined again: (batch, tokens, dim)."""
    weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    return (weights @ v).transpose(-3, -2).flatten(-2)


def attend(block: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The rest of MHSA for queries, keys and values (batch, tokens, dim)."""
    mixed = softmax_attention(split(block, Q, q), split(block, K, k), split(block, V, v))
    out: Tensor = block.ls1(block.attn.proj(mixed))
    return out


def adapter(u: Values, x: Tensor, act: Callable[[Tensor], Tensor] = F.gelu) -> Tensor:
    """W_up act(W_down x + b_down) + b_up."""
    h = act(x @ u["down.weight"].T + u["down.bias"])
    return h @ u["up.weight"].T + u["up.bias"]


def lora(u: Values, x: Tensor) -> Tensor:
    """B A x, alpha = rank."""
    return x @ (u["b"] @ u["a"]).T


# Methods that train parameters of the backbone itself


def own_parameters(vit: Any, theta: Values, images: Tensor) -> Tensor:
    """BitFit and LN-tuning: timm's own forward pass, with some of the backbone's own parameters trained."""
    trained = {name: tensor for name, tensor in theta.items() if not name.startswith("head.")}
    features: Tensor = functional_call(vit, trained, (images,))
    return features


# Scale and shift


def ssf(block: Any, p: Values, x: Tensor) -> Tensor:
    """SSF (2210.08823), equation 4: y = γ ⊙ x + β after each operation of a block; γ starts at one."""

    def ssf_ada(operation: str, z: Tensor) -> Tensor:
        return p[f"{operation}.scale"] * z + p[f"{operation}.shift"]

    h = ssf_ada("norm1", block.norm1(x))
    q, k, v = ssf_ada("qkv", block.attn.qkv(h)).chunk(3, dim=-1)
    mixed = softmax_attention(split(block, Q, q), split(block, K, k), split(block, V, v))
    x = x + block.ls1(ssf_ada("proj", block.attn.proj(mixed)))
    h = ssf_ada("norm2", block.norm2(x))
    h = block.mlp.act(ssf_ada("fc1", block.mlp.fc1(h)))
    return x + block.ls2(ssf_ada("fc2", block.mlp.fc2(h)))


# Adapters


def houlsby(block: Any, p: Values, x: Tensor) -> Tensor:
    """Houlsby et al. (1902.00751), figure 2: after each sub-layer, before its residual, with a skip of its own."""
    y = attention(block, x)
    x = x + (y + adapter(under(p, "added.attention.adapter.sequential"), y))
    y = mlp(block, x)
    return x + (y + adapter(under(p, "added.mlp.adapter.sequential"), y))


def pfeiffer(block: Any, p: Values, x: Tensor) -> Tensor:
    """Pfeiffer et al. (2005.00247): one adapter a block, after the MLP and its residual; ReLU."""
    x = x + attention(block, x)
    x = x + mlp(block, x)
    return x + adapter(under(p, "added.block.adapter.sequential"), x, F.relu)


def mlp_adapter(block: Any, p: Values, x: Tensor) -> Tensor:
    """The adapter of U-Tuning's tables (2303.00690): after the MLP only, before its residual."""
    x = x + attention(block, x)
    y = mlp(block, x)
    return x + y + adapter(under(p, "added.mlp.adapter.sequential"), y)


def adapter_plus(block: Any, p: Values, x: Tensor) -> Tensor:
    """Adapter+ (2406.06820): Post-Adapter with a channel-wise learned scale, no norm."""
    x = x + attention(block, x)
    x = x + mlp(block, x)
    return x + p["added.block.adapter.sequential_scale"] * adapter(under(p, "added.block.adapter.sequential"), x)


def adaptformer(block: Any, p: Values, x: Tensor) -> Tensor:
    """AdaptFormer (2205.13535), equations 3 and 4: s ReLU(x W_down) W_up beside norm2 and MLP; s = 0.1."""
    x = x + attention(block, x)
    return x + mlp(block, x) + 0.1 * adapter(under(p, "added.mlp.adapter.parallel"), x, F.relu)


def parallel_adapter(block: Any, p: Values, x: Tensor) -> Tensor:
    """He et al. (2110.04366), table 1: h + 4 ReLU(x W_down) W_up, h the output of norm2 and FFN, x its input.

    Their code for pre-norm blocks (mBART) reads before the norm.
    """
    x = x + attention(block, x)
    return x + mlp(block, x) + 4 * adapter(under(p, "added.mlp.adapter.parallel"), x, F.relu)


def scedit(block: Any, p: Values, x: Tensor) -> Tensor:
    """SCEdit's tuner (2312.11392) on the residual: skip' = x + U(x), to which attention is added."""
    skip = x + adapter(under(p, "added.attention.adapter.parallel"), x)
    x = skip + attention(block, x)
    return x + mlp(block, x)


def convpass(block: Any, p: Values, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Convpass (2207.07039): beside MHSA and MLP, each reads the normed tokens; scale 1."""

    def quick_gelu(z: Tensor) -> Tensor:
        return z * torch.sigmoid(1.702 * z)

    def conv(u: Values, image: Tensor) -> Tensor:
        groups = image.shape[1] // u["conv.weight"].shape[1]
        return F.conv2d(image, u["conv.weight"], u["conv.bias"], padding=1, groups=groups)

    def bypass(u: Values, h: Tensor) -> Tensor:
        h = quick_gelu(h @ u["down.weight"].T + u["down.bias"])
        first = h.shape[1] - grid[0] * grid[1]
        # Class and register tokens: each is an image of one pixel.
        parts = [conv(u, h[:, i, :, None, None])[:, None, :, 0, 0] for i in range(first)]
        image = h[:, first:].transpose(1, 2).reshape(len(h), -1, *grid)
        parts.append(conv(u, image).flatten(2).transpose(1, 2))
        return quick_gelu(torch.cat(parts, dim=1)) @ u["up.weight"].T + u["up.bias"]

    x = x + attention(block, x) + bypass(under(p, "added.mhsa.conv.parallel"), block.norm1(x))
    return x + mlp(block, x) + bypass(under(p, "added.ffn.conv.parallel"), block.norm2(x))


def whole_convpass(vit: Any, theta: Values, images: Tensor) -> Tensor:
    """Convpass on the backbone's own grid of patches."""
    grid = vit.patch_embed.grid_size
    return blockwise(lambda block, p, x: convpass(block, p, x, grid))(vit, theta, images)


# Low rank


def lora_q_v(block: Any, p: Values, x: Tensor) -> Tensor:
    """LoRA (2106.09685), equation 3, at the query and value projections."""
    h = block.norm1(x)
    q = project(block, Q, h) + lora(under(p, "added.q.lora.parallel"), h)
    v = project(block, V, h) + lora(under(p, "added.v.lora.parallel"), h)
    x = x + attend(block, q, project(block, K, h), v)
    return x + mlp(block, x)


def fact_tt(vit: Any, theta: Values, images: Tensor) -> Tensor:
    """FacT-TT (2212.03145): each d x d block of a weight is W + V Σ U, U and V shared by the whole model.

    `theta` has U (rank, d), V (d, rank), and for each linear map its Σ (outputs, inputs, rank, rank).
    """
    weights = {}
    for name, sigma in under(theta, "sigma").items():
        change = torch.cat([torch.cat([theta["v"] @ s @ theta["u"] for s in line], dim=1) for line in sigma])
        weights[name] = vit.get_parameter(name) + change
    features: Tensor = functional_call(vit, weights, (images,))
    return features


def mlae(block: Any, p: Values, x: Tensor, kept: Mapping[str, Tensor], dropout: float) -> Tensor:
    """MLAE (2405.18897): LoRA as rank-1 experts b aᵀ, some left out, the rest scaled by 1 / (1 - p).

    Args:
        kept: Numbers of the experts that are left, by operation.
        dropout: p.
    """

    def experts(operation: str, z: Tensor) -> Tensor:
        u = under(p, f"added.{operation}.experts.parallel")
        some = {"a": u["a"][kept[operation]], "b": u["b"][:, kept[operation]]}
        return lora(some, z) / (1 - dropout)

    h = block.norm1(x)
    q, k, v = (block.attn.qkv(h) + experts("qkv", h)).chunk(3, dim=-1)
    mixed = softmax_attention(split(block, Q, q), split(block, K, k), split(block, V, v))
    x = x + block.ls1(block.attn.proj(mixed) + experts("proj", mixed))
    return x + mlp(block, x)


# Prefix and prompt


def prefix_concatenated(block: Any, p: Values, x: Tensor) -> Tensor:
    """Prefix tuning (2101.00190): prefix rows (length, dim) before the keys and values, one softmax over all."""
    h = block.norm1(x)
    q, k, v = (split(block, part, project(block, part, h)) for part in (Q, K, V))
    k = torch.cat([rows(block, p["inside.attention.prefix.keys"]).expand(len(x), -1, -1, -1), k], dim=-2)
    v = torch.cat([rows(block, p["inside.attention.prefix.values"]).expand(len(x), -1, -1, -1), v], dim=-2)
    x = x + block.ls1(block.attn.proj(softmax_attention(q, k, v)))
    return x + mlp(block, x)


def prefix_identity(block: Any, p: Values, x: Tensor) -> Tensor:
    """He et al. (2110.04366), equation 7: (1 - λ) Attn(Q, K, V) + λ Attn(Q, K_p, V_p).

    λ (batch, tokens, heads) is the softmax mass that falls on the prefix.
    """
    h = block.norm1(x)
    q, k, v = (split(block, part, project(block, part, h)) for part in (Q, K, V))
    prefix_k, prefix_v = (
        rows(block, p["inside.attention.prefix.keys"]),
        rows(block, p["inside.attention.prefix.values"]),
    )
    root = math.sqrt(q.shape[-1])
    on_prefix = (q @ prefix_k.transpose(-2, -1) / root).exp().sum(dim=-1)
    on_tokens = (q @ k.transpose(-2, -1) / root).exp().sum(dim=-1)
    mass = (on_prefix / (on_prefix + on_tokens)).transpose(1, 2)
    mass = mass.repeat_interleave(q.shape[-1], dim=-1)  # each head's λ on its own channels
    mixed = (1 - mass) * softmax_attention(q, k, v) + mass * softmax_attention(q, prefix_k, prefix_v)
    x = x + block.ls1(block.attn.proj(mixed))
    return x + mlp(block, x)


def mam(block: Any, p: Values, x: Tensor) -> Tensor:
    """The MAM adapter (2110.04366, section 4.6): prefix tuning at attention, the scaled parallel adapter at the FFN."""
    h = block.norm1(x)
    q, k, v = (split(block, part, project(block, part, h)) for part in (Q, K, V))
    k = torch.cat([rows(block, p["inside.attention.prefix.keys"]).expand(len(x), -1, -1, -1), k], dim=-2)
    v = torch.cat([rows(block, p["inside.attention.prefix.values"]).expand(len(x), -1, -1, -1), v], dim=-2)
    x = x + block.ls1(block.attn.proj(softmax_attention(q, k, v)))
    return x + mlp(block, x) + 4 * adapter(under(p, "added.mlp.adapter.parallel"), x, F.relu)


def read_among_prompts(vit: Any, x: Tensor, prompts: int) -> Tensor:
    """Features where `prompts` prompts follow the backbone's prefix tokens: the class token, or the mean of patches."""
    x = vit.norm(x)
    pooled = x[:, 0] if vit.global_pool == "token" else x[:, vit.num_prefix_tokens + prompts :].mean(dim=1)
    features: Tensor = vit.fc_norm(pooled)
    return features


def vpt_shallow(vit: Any, theta: Values, images: Tensor) -> Tensor:
    """VPT-shallow (2203.12119), equations 4 to 6: [x_1, Z_1, E_1] = L_1([x_0, P, E_0]), then the blocks as they are."""
    x, n = tokens_of(vit, images), vit.num_prefix_tokens
    prompts = theta["tuners.block_1.inside.block.prompt.tokens"]
    x = torch.cat([x[:, :n], prompts.expand(len(x), -1, -1), x[:, n:]], dim=1)
    for block in vit.blocks:
        x = block(x)
    return read_among_prompts(vit, x, len(prompts))


def vpt_deep(vit: Any, theta: Values, images: Tensor) -> Tensor:
    """VPT-deep (2203.12119), equation 7: [x_i, _, E_i] = L_i([x_i-1, P_i-1, E_i-1]), fresh prompts in each block."""
    x, n, left = tokens_of(vit, images), vit.num_prefix_tokens, 0
    for number, block in enumerate(vit.blocks, 1):
        prompts = theta[f"tuners.block_{number}.inside.block.prompt.tokens"]
        x = block(torch.cat([x[:, :n], prompts.expand(len(x), -1, -1), x[:, n + left :]], dim=1))
        left = len(prompts)
    return read_among_prompts(vit, x, left)


# U-Tuning, Res-Tuning, UniPELT


def parallel_tuner(block: Any, p: Values, operation: str, x: Tensor) -> Tensor:
    """U(x) of whichever of U-Tuning's three tuners (2303.00690, section 3.2) the operation has, with its scale."""
    kind = next(k for k in ("adapter", "prefix", "prompt") if any(name.startswith(f"{operation}.{k}") for name in p))
    u = under(p, f"{operation}.{kind}.parallel")
    if kind == "adapter":
        out = adapter(u, x)
    else:
        if kind == "prefix":
            # The softmax over a single row is 1 whatever its key.
            k, v = rows(block, u.get("keys", torch.zeros_like(u["values"]))), rows(block, u["values"])
        else:
            k, v = (split(block, part, project(block, part, u["tokens"])) for part in (K, V))
        q = split(block, Q, project(block, Q, block.norm1(x)))
        out = softmax_attention(q, k, v) @ block.attn.proj.weight.T
    return p.get(f"{operation}.{kind}.parallel_scale", torch.ones(())) * out


def u_tuning(block: Any, p: Values, x: Tensor) -> Tensor:
    """x' = OP(x) + s U(x) (2303.00690, equation 8) at any of MHA, FFN and the block, which read x before the norm."""
    p = under(p, "added")
    placed = {name.split(".")[0] for name in p}
    y = x + attention(block, x)
    y = y + parallel_tuner(block, p, "attention", x) if "attention" in placed else y
    z = y + mlp(block, y)
    z = z + parallel_tuner(block, p, "mlp", y) if "mlp" in placed else z
    return z + parallel_tuner(block, p, "block", x) if "block" in placed else z


def unipelt(block: Any, p: Values, x: Tensor) -> Tensor:
    """UniPELT (2110.07577, section 3): LoRA at q and v, a prefix and an adapter, each under a gate σ(w·t + b) of what
    it reads, averaged over the tokens.

    The prefix's gate is a factor of its keys and of its values, which then join the softmax. The adapter is Pfeiffer's.
    """

    def gate(name: str, t: Tensor) -> Tensor:
        per_token = torch.sigmoid((t * p[f"{name}.weight"]).sum(dim=-1) + p[f"{name}.bias"])
        return per_token.mean(dim=1)[:, None, None]

    h = block.norm1(x)
    q = project(block, Q, h) + gate("added.q.lora.parallel_gate", h) * lora(under(p, "added.q.lora.parallel"), h)
    v = project(block, V, h) + gate("added.v.lora.parallel_gate", h) * lora(under(p, "added.v.lora.parallel"), h)
    k, v = split(block, K, project(block, K, h)), split(block, V, v)
    open_ = gate("inside.attention.prefix.gate", h)[..., None]
    keys, values = (open_ * rows(block, p[f"inside.attention.prefix.{name}"]) for name in ("keys", "values"))
    mixed = softmax_attention(split(block, Q, q), torch.cat([keys, k], dim=-2), torch.cat([values, v], dim=-2))
    x = x + block.ls1(block.attn.proj(mixed))
    y = x + mlp(block, x)
    added = adapter(under(p, "added.block.adapter.sequential"), y, F.relu)
    return y + gate("added.block.adapter.sequential_gate", y) * added


def res_tuning_bypass(vit: Any, theta: Values, images: Tensor) -> Tensor:
    """Res-Tuning-Bypass (2310.19859), equation 6, on the activations x of the backbone, which are detached first:

    x_b^l = λ (x^l + U_h(x^l)) + (1 - λ) (x_b^{l-1} + U_v(x_b^{l-1})), x_b^0 = x^0.
    Before the first tuned block there is no side stream yet: x_b = x. A later block without tuners leaves it as it is.
    """
    with torch.no_grad():
        stream = [tokens_of(vit, images)]
        for block in vit.blocks:
            stream.append(block(stream[-1]))
    tuners = {n: under(theta, f"tuners.block_{n}.added.block.adapter") for n in range(1, len(stream))}
    tuned = {n: u for n, u in tuners.items() if u}
    side = stream[min(tuned) - 1]
    for number, u in tuned.items():
        x = stream[number]
        horizontal = x + adapter(under(u, "parallel"), x)
        vertical = side + adapter(under(u, "sequential"), side)
        side = u["mix"] * horizontal + (1 - u["mix"]) * vertical
    return read(vit, side)


def linear_probe(vit: Any, theta: Values, images: Tensor) -> Tensor:
    """timm's own forward pass; the head alone is trained."""
    del theta
    features: Tensor = vit(images)
    return features
