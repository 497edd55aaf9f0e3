"""More published methods, written from their papers' equations like those of `originals.py`: tuners of weights, of
normed tokens, and with what all blocks share.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .originals import (
    K,
    Original,
    Q,
    V,
    Values,
    adapter,
    attention,
    lora,
    mlp,
    project,
    read,
    read_among_prompts,
    rows,
    softmax_attention,
    split,
    tokens_of,
    under,
)

Map = Callable[[str, Tensor], Tensor]


def with_shared(block_original: Callable[[Any, Values, Tensor], Tensor]) -> Original:
    """The whole model of a method that changes each block alike; `p` has what all blocks share under "shared"."""

    def original(vit: Any, theta: Values, images: Tensor) -> Tensor:
        shared = {f"shared.{k}": v for k, v in under(theta, "tuners.shared").items()}
        x = tokens_of(vit, images)
        for number, block in enumerate(vit.blocks, 1):
            x = block_original(block, {**shared, **under(theta, f"tuners.block_{number}")}, x)
        return read(vit, x)

    return original


def frozen(block: Any, name: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of q, k, v, proj, fc1 or fc2."""
    if name in ("q", "k", "v"):
        qkv, part = block.attn.qkv, ("q", "k", "v").index(name)
        return qkv.weight.chunk(3)[part], qkv.bias.chunk(3)[part]
    linear = block.attn.proj if name == "proj" else getattr(block.mlp, name)
    return linear.weight, linear.bias


def step(block: Any, x: Tensor, run: Map, normed: Map = lambda _, h: h) -> Tensor:
    """A block whose six maps are `run(name, input)`, and whose normed tokens become `normed("norm1" or "norm2", h)`."""
    h = normed("norm1", block.norm1(x))
    q, k, v = (split(block, part, run(name, h)) for part, name in ((Q, "q"), (K, "k"), (V, "v")))
    x = x + block.ls1(run("proj", softmax_attention(q, k, v)))
    h = normed("norm2", block.norm2(x))
    return x + block.ls2(run("fc2", block.mlp.act(run("fc1", h))))


def as_it_is(block: Any) -> Map:
    return lambda name, z: F.linear(z, *frozen(block, name))


# Outside the blocks


def with_ends(block_original: Callable[[Any, Values, Tensor], Tensor]) -> Original:
    """The whole model, with scale and shift of the patches before positions are added, and behind the last norm.

    Whichever stands in theta: SSF's scale, or its difference from one; what is not there scales nothing.
    """

    def original(vit: Any, theta: Values, images: Tensor) -> Tensor:
        def ada(operation: str, z: Tensor) -> Tensor:
            u = under(theta, f"tuners.outside.{operation}")
            if u:
                return u["scale"] * z + u["shift"]
            u = under(theta, f"tuners.outside.added.{operation}.scale_shift.sequential")
            return (1 + u["gamma"]) * z + u["beta"] if u else z

        x = vit.norm_pre(vit._pos_embed(ada("patches", vit.patch_embed(images))))
        for number, block in enumerate(vit.blocks, 1):
            x = block_original(block, under(theta, f"tuners.block_{number}"), x)
        if isinstance(vit.fc_norm, torch.nn.Identity):
            features: Tensor = vit.pool(ada("final", vit.norm(x)))
            return features
        return ada("final", vit.fc_norm(vit.pool(x)))

    return original


def ln_tuning(block: Any, p: Values, x: Tensor) -> Tensor:
    """LN-tuning (2211.08682): weights and biases of both norms are trained, here as changes of them."""

    def normed(norm: Any, u: Values, z: Tensor) -> Tensor:
        return F.layer_norm(z, z.shape[-1:], norm.weight + u["weight"], norm.bias + u["bias"], norm.eps)

    x = x + block.ls1(block.attn(normed(block.norm1, under(p, "inside.attention.norm"), x)))
    return x + block.ls2(block.mlp(normed(block.norm2, under(p, "inside.mlp.norm"), x)))


# Weights that are changed as a whole


def dora(block: Any, p: Values, x: Tensor) -> Tensor:
    """DoRA (2402.09353), equations 5 and 11: W' = m (W + B A) / ‖W + B A‖, the norm a constant for gradients."""

    def run(name: str, z: Tensor) -> Tensor:
        weight, bias = frozen(block, name)
        u = under(p, f"added.{name}.dora.parallel")
        if u:
            turned = weight + u["b"] @ u["a"]
            lengths = torch.tensor([row.square().sum().sqrt() for row in turned.detach()])
            m = weight.square().sum(dim=1).sqrt() + u["magnitude"]
            weight = torch.diag(m / lengths) @ turned
        return F.linear(z, weight, bias)

    return step(block, x, run)


def rlrr(block: Any, p: Values, x: Tensor) -> Tensor:
    """RLRR (2403.19067), equation 7: W' = W + diag(s_left) W diag(s_right), shifted; scale and shift behind norms."""

    def run(name: str, z: Tensor) -> Tensor:
        weight, bias = frozen(block, name)
        u = under(p, f"added.{name}.rescale.parallel")
        weight = weight + torch.diag(u["rows"][:, 0]) @ weight @ torch.diag(u["columns"])
        return F.linear(z, weight, bias + p.get(f"added.{name}.bias.parallel.bias", torch.zeros(())))

    def normed(name: str, h: Tensor) -> Tensor:
        u = under(p, f"added.{name}.scale_shift.sequential")
        return (1 + u["gamma"]) * h + u["beta"]

    return step(block, x, run, normed)


def ia3(block: Any, p: Values, x: Tensor) -> Tensor:
    """(IA)³ (2205.05638), section 3.3: l_k ⊙ K, l_v ⊙ V, and l_ff ⊙ the hidden activations of the MLP."""

    def run(name: str, z: Tensor) -> Tensor:
        if name == "fc2":
            z = z * (1 + p["added.fc2.rescale.parallel.columns"])
        y = F.linear(z, *frozen(block, name))
        return y * (1 + p[f"added.{name}.scale_shift.sequential.gamma"]) if name in ("k", "v") else y

    return step(block, x, run)


def oft(block: Any, p: Values, x: Tensor) -> Tensor:
    """OFT (2306.07280), section 3.4: z = (R W)ᵀ x, R = diag(R_1 ... R_r), each (I + Q)^-1 (I - Q), Q skew-symmetric.

    The paper's W is (inputs, outputs). Inputs beyond the last whole part stay.
    """

    def rotation(angles: Tensor, size: int) -> Tensor:
        skew = torch.zeros(size, size)
        at = iter(angles)
        for i in range(size):
            for j in range(i + 1, size):
                angle = next(at)
                place = torch.zeros(size, size)
                place[i, j], place[j, i] = 1.0, -1.0
                skew = skew + angle * place
        return torch.linalg.inv(torch.eye(size) + skew) @ (torch.eye(size) - skew)

    def run(name: str, z: Tensor) -> Tensor:
        weight, bias = frozen(block, name)
        angles = p.get(f"added.{name}.oft.parallel.angles")
        if angles is not None:
            size = round((1 + math.sqrt(1 + 8 * angles.shape[1])) / 2)
            turn = torch.block_diag(
                *(rotation(a, size) for a in angles), torch.eye(weight.shape[1] - len(angles) * size)
            )
            weight = (turn @ weight.T).T
        return F.linear(z, weight, bias)

    return step(block, x, run)


# Changes that are added to weights


def vera(block: Any, p: Values, x: Tensor, pairs: dict[str, tuple[Tensor, Tensor]]) -> Tensor:
    """VeRA (2310.11454), equation 2: W + diag(b) B diag(d) A, with the frozen (A, B) by the name of the map."""

    def run(name: str, z: Tensor) -> Tensor:
        weight, bias = frozen(block, name)
        u = under(p, f"added.{name}.vera.parallel")
        if u:
            a, b = pairs[name]
            weight = weight + torch.diag(u["b"]) @ b @ torch.diag(u["d"]) @ a
        return F.linear(z, weight, bias)

    return step(block, x, run)


def kronecker_sum(rules: Tensor, u: Values, outputs: int, inputs: int) -> Tensor:
    """Σ_i A_i ⊗ (s_i t_i), cut to a weight's shape."""
    whole = sum(torch.kron(a, s @ t) for a, s, t in zip(rules, u["s"], u["t"], strict=True))
    assert isinstance(whole, Tensor)
    return whole[:outputs, :inputs]


def kadaptation(block: Any, p: Values, x: Tensor) -> Tensor:
    """KAdaptation (2203.16329): ΔW = Σ_i A_i ⊗ (u_i v_iᵀ), the A_i shared by all layers; q and v."""
    (rules,) = [v for k, v in p.items() if k.startswith("shared.kronecker")]

    def run(name: str, z: Tensor) -> Tensor:
        weight, bias = frozen(block, name)
        u = under(p, f"added.{name}.kronecker.parallel.sum")
        return F.linear(z, weight + kronecker_sum(rules, u, *weight.shape) if u else weight, bias)

    return step(block, x, run)


def consolidator(block: Any, p: Values, x: Tensor) -> Tensor:
    """Consolidator (2305.00603), section 3.2: a grouped map of reordered channels beside each map, with a bias.

    Reordering deals the channels out to the groups in turn: with groups of w, group k of the new order is channels
    k w ... of the list of every w-th channel from the first, then from the second, and so on.
    """

    def grouped(u: Tensor, z: Tensor, outputs: int) -> Tensor:
        groups, per_output, width = u.shape
        z = torch.cat([z, torch.zeros(*z.shape[:-1], groups * width - z.shape[-1])], dim=-1)
        order = [group * width + i for i in range(width) for group in range(groups)]
        parts = [z[..., order[k * width : (k + 1) * width]] @ u[k].T for k in range(groups)]
        assert parts[0].shape[-1] == per_output
        return torch.cat(parts, dim=-1)[..., :outputs]

    def beside(name: str, linear: Any, z: Tensor) -> Tensor:
        y = linear(z)
        change = grouped(p[f"added.{name}.grouped.parallel.weight"], z, y.shape[-1])
        return y + change + p[f"added.{name}.bias.parallel.bias"]

    h = block.norm1(x)
    q, k, v = beside("qkv", block.attn.qkv, h).chunk(3, dim=-1)
    mixed = softmax_attention(split(block, Q, q), split(block, K, k), split(block, V, v))
    x = x + block.ls1(beside("proj", block.attn.proj, mixed))
    h = block.mlp.act(beside("fc1", block.mlp.fc1, block.norm2(x)))
    return x + block.ls2(beside("fc2", block.mlp.fc2, h))


def hydra(block: Any, p: Values, x: Tensor) -> Tensor:
    """Hydra (2309.06922), equation 6: W x + B A x + D C W x, at the projection and at the MLP's second map."""

    def run(name: str, z: Tensor) -> Tensor:
        y = F.linear(z, *frozen(block, name))
        if name not in ("proj", "fc2"):
            return y
        own = under(p, f"added.{name}.lora")
        return y + lora(under(own, "parallel"), z) + lora(under(own, "sequential"), y)

    return step(block, x, run)


def adapter_bias(block: Any, p: Values, x: Tensor) -> Tensor:
    """AdapterBias (2205.00305), equation 2: a shift v α behind the MLP's second map, α a number a token.

    α is a linear map of what that map reads, as in the published code.
    """

    def run(name: str, z: Tensor) -> Tensor:
        y = F.linear(z, *frozen(block, name))
        if name != "fc2":
            return y
        u = under(p, "added.fc2.lora.parallel")
        alpha = (z * u["a"][0]).sum(dim=-1, keepdim=True)
        return y + alpha * u["b"][:, 0]

    return step(block, x, run)


# Behind norms


def repadapter(block: Any, p: Values, x: Tensor) -> Tensor:
    """RepAdapter (2302.08106), equations 4 to 6: h + φ_u(φ_d(h)) before attention and MLP, φ_u in groups."""

    def normed(name: str, h: Tensor) -> Tensor:
        u = under(p, f"added.{name}.repadapter.sequential")
        parts = (h @ u["down.weight"].T + u["down.bias"]).chunk(len(u["up"]), dim=-1)
        return h + torch.cat([z @ w.T for z, w in zip(parts, u["up"], strict=True)], dim=-1) + u["bias"]

    return step(block, x, as_it_is(block), normed)


def arc(block: Any, p: Values, x: Tensor) -> Tensor:
    """ARC (2310.06234), equation 7: h + W diag(c) Wᵀ h + b before attention and MLP, each with one W of all layers."""

    def normed(name: str, h: Tensor) -> Tensor:
        (w,) = [v.T for k, v in p.items() if k.startswith("shared.arc") and name in k]
        u = under(p, f"added.{name}.arc.sequential")
        return h + h @ w @ torch.diag(u["c"]) @ w.T + u["bias"]

    return step(block, x, as_it_is(block), normed)


def sas(block: Any, p: Values, x: Tensor) -> Tensor:
    """SaS (2504.03450), as read here: h + B A h + B_l A_l h, [A_l, B_l] a linear map of the layer's embedding."""
    (name_of_a,) = [k for k in p if k.startswith("shared.sas") and k.endswith(".a")]
    shared = under(p, name_of_a.removesuffix(".a"))

    def normed(name: str, h: Tensor) -> Tensor:
        z = p[f"added.{name}.sas.sequential.z"]
        a_l, b_l = (torch.einsum("ije,e->ij", shared[n], z) for n in ("to_a", "to_b"))
        return h + h @ (shared["b"] @ shared["a"]).T + h @ (b_l @ a_l).T

    return step(block, x, as_it_is(block), normed)


# Adapters and prompts


def g_adapter(graph: str, joined: bool) -> Original:
    """G-Adapter (2305.10329), equation 7, after the MLP: W_up act(S W_down x), S = D^-1/2 (A + I) D^-1/2.

    A is that of the patch grid with 4 or 8 neighbours, other tokens joined to all or none; or of the 8 nearest.
    """

    def near(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """A of one image's tokens (tokens, dim)."""
        count = len(tokens)
        a = torch.zeros(count, count)
        if graph == "nearest":
            unit = tokens / tokens.norm(dim=1, keepdim=True)
            for i in range(count):
                order = sorted((j for j in range(count) if j != i), key=lambda j: -float(unit[i] @ unit[j]))
                for j in order[:8]:
                    a[i, j] = a[j, i] = 1.0
            return a
        first = count - grid[0] * grid[1]
        for i in range(count):
            for j in range(count):
                if i == j:
                    continue
                if min(i, j) < first:
                    a[i, j] = float(joined)
                    continue
                rows_apart, columns_apart = (
                    abs(m - n) for m, n in zip(divmod(i - first, grid[1]), divmod(j - first, grid[1]), strict=True)
                )
                apart = max(rows_apart, columns_apart) if graph == "grid8" else rows_apart + columns_apart
                a[i, j] = float(apart == 1)
        return a

    def original(vit: Any, theta: Values, images: Tensor) -> Tensor:
        x = tokens_of(vit, images)
        for number, block in enumerate(vit.blocks, 1):
            u = under(theta, f"tuners.block_{number}.added.mlp.graph.sequential")
            x = x + attention(block, x)
            y = mlp(block, x)
            out = []
            for image in y:
                a = near(image.detach(), vit.patch_embed.grid_size) + torch.eye(len(image))
                root = torch.diag(a.sum(dim=1) ** -0.5)
                h = F.gelu(root @ a @ root @ (image @ u["down.weight"].T + u["down.bias"]))
                out.append(h @ u["up.weight"].T + u["up.bias"])
            x = x + y + torch.stack(out)
        return read(vit, x)

    return original


def compacter(block: Any, p: Values, x: Tensor) -> Tensor:
    """Compacter (2106.04647), equations 4 and 5: adapters behind both sub-layers, their maps sums of A_i ⊗ s_i t_i."""
    (rules,) = [v for k, v in p.items() if k.startswith("shared.compacter")]

    def behind(operation: str, y: Tensor) -> Tensor:
        u = under(p, f"added.{operation}.compacter.sequential")
        width, rank = y.shape[-1], len(u["down_bias"])
        h = F.gelu(y @ kronecker_sum(rules, under(u, "down"), rank, width).T + u["down_bias"])
        return y + h @ kronecker_sum(rules, under(u, "up"), width, rank).T + u["up_bias"]

    x = x + behind("attention", attention(block, x))
    return x + behind("mlp", mlp(block, x))


def aim(block: Any, p: Values, x: Tensor) -> Tensor:
    """AIM (2302.03024), sections 3.2 and 3.4: an adapter behind attention, and another beside the MLP, times 0.5."""
    y = attention(block, x)
    x = x + y + adapter(under(p, "added.attention.adapter.sequential"), y)
    return x + mlp(block, x) + 0.5 * adapter(under(p, "added.ffn.adapter.parallel"), block.norm2(x))


def e2vpt(vit: Any, theta: Values, images: Tensor) -> Tensor:
    """E²VPT (2307.13770), equations 3 and 4: VPT-deep's prompts, and rows before the keys and values of each block."""
    x, n, left = tokens_of(vit, images), vit.num_prefix_tokens, 0
    for number, block in enumerate(vit.blocks, 1):
        p = under(theta, f"tuners.block_{number}.inside")
        prompts = p["block.prompt.tokens"]
        x = torch.cat([x[:, :n], prompts.expand(len(x), -1, -1), x[:, n + left :]], dim=1)
        h = block.norm1(x)
        q, k, v = (split(block, part, project(block, part, h)) for part in (Q, K, V))
        k, v = (
            torch.cat([rows(block, p[f"attention.prefix.{name}"]).expand(len(x), -1, -1, -1), own], dim=-2)
            for name, own in (("keys", k), ("values", v))
        )
        x = x + block.ls1(block.attn.proj(softmax_attention(q, k, v)))
        x = x + mlp(block, x)
        left = len(prompts)
    return read_among_prompts(vit, x, left)
