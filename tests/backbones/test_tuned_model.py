"""Backbones of many kinds carry tuners: zero starts are exact, and trained tuners compute their equations."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import (
    VisionTransformer,
)
from torch import Tensor, nn

from utuning_search.backbones.merge import merge
from utuning_search.backbones.tuned_block import drop, insert
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import BackboneError
from utuning_search.designs.design import Design, Placement
from utuning_search.tuners import (
    OPERATIONS,
    TOKEN_OPERATIONS,
    AdapterConfig,
    LoraConfig,
    NormConfig,
    PrefixConfig,
    PromptConfig,
)

from ..helpers import (
    CASES,
    CLASSES,
    DIM,
    HEADS,
    bare_logits,
    embed,
    pool,
    randomise,
    shape_of,
    tiny_vit,
    tuned,
    unfuse_attention,
)
from .variants import VARIANTS, every_variant, pictures

Maker = Callable[..., VisionTransformer]
HEAD_DIM = DIM // HEADS


# One placement for each operation, tuner reading and single form: all that can meet in one model.
EVERYTHING = tuple(
    {
        (p.operation, type(p.tuner), p.tuner.label, p.form): p
        for p in (c.placement for c in CASES)
        if p.scale in ("none", "scalar") and p.form not in ("mixed", "bypass")
    }.values()
)


@every_variant
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_zero_starts_are_exact(settings: dict[str, Any], fused: bool) -> None:
    backbone = tiny_vit(**settings)
    if not fused:
        unfuse_attention(backbone)
    assert {b.attn.fused_attn for b in backbone.blocks} == {fused}
    images = pictures(backbone)
    zero = [p for p in EVERYTHING if Design((p,)).starts_as_backbone]
    assert {p.operation for p in zero} == set(OPERATIONS)
    with torch.no_grad():
        # At linear operations the block is run step by step, at tokens' ones by timm's own attention and MLP.
        tokens = [p for p in zero if p.operation in TOKEN_OPERATIONS]
        for placements in (zero, tokens):
            model = tuned(backbone, *placements)
            assert torch.equal(model(images), model.head(backbone(images)))
            assert torch.equal(bare_logits(model, images), model.head(backbone(images)))


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("name", ["dropout", "stochastic depth"])
def test_training_mode_drops_what_the_backbone_drops(name: str, fused: bool) -> None:
    """Equal random numbers, equal logits: every dropout of the backbone is where timm has it."""
    backbone = tiny_vit(**VARIANTS[name])
    if not fused:
        unfuse_attention(backbone)
    images = pictures(backbone)
    zero = [p for p in EVERYTHING if Design((p,)).starts_as_backbone]
    model = tuned(backbone, *zero).train()
    with torch.no_grad():
        torch.default_generator.manual_seed(11)
        expected = model.head(backbone(images))
        torch.default_generator.manual_seed(11)
        assert torch.equal(model(images), expected)
        assert not torch.equal(model(images), expected)


@every_variant
def test_everything_at_once_trains_and_merges(settings: dict[str, Any]) -> None:
    """Shapes fit wherever a tuner is legal, sizes are exact, and folding keeps the function."""
    backbone = tiny_vit(**settings)
    model = tuned(backbone, *EVERYTHING, random=True)
    assert sum(p.numel() for p in model.tuners.parameters()) == model.design.num_parameters(shape_of(backbone))
    images = pictures(backbone)
    logits = model(images)
    assert logits.shape == (3, CLASSES)
    assert logits.isfinite().all()
    logits.square().sum().backward()
    assert all(p.grad is not None for p in model.parameters_trained())
    assert all(p.grad is None for p in backbone.parameters())
    foldable = [Placement(o, LoraConfig(2), f) for o in ("qkv", "proj", "fc1", "fc2") for f in ("parallel", "mixed")]
    norms = [Placement(o, NormConfig()) for o in ("attention", "mlp")]
    model = tuned(backbone.double(), *foldable, *norms, random=True, double=True)
    with torch.no_grad():
        merged = merge(model)
        assert len(merged.tuners) == 0
        assert torch.allclose(merged(images.double()), model(images.double()), rtol=0, atol=1e-9)


def test_fused_and_unfused_attention_agree(make_vit: Maker) -> None:
    fused, plain = make_vit(qk_norm=True), make_vit(qk_norm=True)
    unfuse_attention(plain)
    one, two = (tuned(b, *EVERYTHING, random=True, double=True) for b in (fused, plain))
    two.load_tuner_state_dict(one.tuner_state_dict())
    with torch.no_grad():
        assert torch.allclose(one(pictures(fused).double()), two(pictures(fused).double()), atol=1e-10)


def test_dynamic_size_takes_other_sizes(make_vit: Maker) -> None:
    backbone = make_vit(dynamic_img_size=True)
    model = tuned(backbone, Placement("attention", AdapterConfig(2)))
    with torch.no_grad():
        for size in (8, 12, 16):
            images = pictures(backbone, size)
            assert torch.equal(model(images), model.head(backbone(images)))


def test_distilled_model_is_supported() -> None:
    backbone = VisionTransformerDistilled(
        img_size=8, patch_size=2, embed_dim=DIM, depth=2, num_heads=HEADS, num_classes=0
    )
    randomise(backbone, seed=1).eval()
    model = tuned(backbone, Placement("attention", AdapterConfig(2)), Placement("block", PromptConfig(2, "deep")))
    images = pictures(backbone)
    with torch.no_grad():
        tokens = backbone.norm(by_hand(model, images, deep=2))
        assert torch.allclose(model(images), model.head((tokens[:, 0] + tokens[:, 1]) / 2), atol=1e-5)


# Independent references


def split_heads(x: Tensor) -> Tensor:
    """(batch, tokens, dim) to (batch, heads, tokens, head_dim)."""
    return x.reshape(x.shape[0], x.shape[1], HEADS, HEAD_DIM).transpose(1, 2)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Own few lines: (batch, heads, tokens, head_dim) to (batch, tokens, dim)."""
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(HEAD_DIM)
    mixed = torch.einsum("bhqk,bhkd->bhqd", scores.softmax(-1), v)
    return mixed.transpose(1, 2).flatten(2)


def project(block: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v of a block's attention for normalised tokens x."""
    q, k, v = (split_heads(part) for part in block.attn.qkv(x).chunk(3, dim=-1))
    return q, k, v


def plain_block(block: Any, x: Tensor, attention: Callable[[Any, Tensor], Tensor]) -> Tensor:
    """A pre-norm block whose attention, residual stream in and delta out, is replaced."""
    x = x + attention(block, x)
    return x + block.mlp(block.norm2(x))


def run(model: TunedModel, images: Tensor, attention: Callable[[Any, Tensor], Tensor]) -> Tensor:
    tokens = embed(model.backbone, images)
    for block in model.backbone.blocks:
        tokens = plain_block(block, tokens, attention)
    return model.head(pool(model.backbone, tokens))


def parts(model: TunedModel, name: str) -> dict[int, Tensor]:
    """The tuner parameter of that last name in each block, by id of the frozen block."""
    found = [p for n, p in model.tuners.named_parameters() if n.rsplit(".", 1)[-1] == name]
    return {id(b): p for b, p in zip(model.backbone.blocks, found, strict=True)}


@pytest.fixture
def exact_prefix(make_vit: Maker) -> TunedModel:
    return tuned(make_vit(), Placement("attention", PrefixConfig(3, "exact")), random=True, double=True)


def test_exact_prefix_joins_keys_and_values(exact_prefix: TunedModel, images: Tensor) -> None:
    keys, values = parts(exact_prefix, "keys"), parts(exact_prefix, "values")

    def attention(block: Any, x: Tensor) -> Tensor:
        q, k, v = project(block, block.norm1(x))
        k = torch.cat([k, keys[id(block)].expand(len(x), -1, -1, -1)], dim=2)
        v = torch.cat([v, values[id(block)].expand(len(x), -1, -1, -1)], dim=2)
        return block.attn.proj(softmax_attention(q, k, v))

    with torch.no_grad():
        expected = run(exact_prefix, images.double(), attention)
        assert torch.allclose(exact_prefix(images.double()), expected, atol=1e-10)


def test_exact_prefix_is_the_lambda_identity(exact_prefix: TunedModel, images: Tensor) -> None:
    """(1-λ) Attn(Q, K, V) + λ Attn(Q, K_pre, V_pre), λ the softmax mass on the prefix, per query and head."""
    keys, values = parts(exact_prefix, "keys"), parts(exact_prefix, "values")

    def attention(block: Any, x: Tensor) -> Tensor:
        q, k, v = project(block, block.norm1(x))
        own = torch.exp(q @ k.transpose(-2, -1) / math.sqrt(HEAD_DIM))
        pre = torch.exp(q @ keys[id(block)].transpose(-2, -1) / math.sqrt(HEAD_DIM))
        mass = pre.sum(-1, keepdim=True) / (own.sum(-1, keepdim=True) + pre.sum(-1, keepdim=True))
        one = own / own.sum(-1, keepdim=True) @ v
        two = pre / pre.sum(-1, keepdim=True) @ values[id(block)]
        return block.attn.proj(((1 - mass) * one + mass * two).transpose(1, 2).flatten(2))

    with torch.no_grad():
        expected = run(exact_prefix, images.double(), attention)
        assert torch.allclose(exact_prefix(images.double()), expected, atol=1e-10)


def own_attention(block: Any, x: Tensor) -> Tensor:
    return block.attn.proj(softmax_attention(*project(block, block.norm1(x))))


def test_parallel_prefix_adds_a_separate_attention(make_vit: Maker, images: Tensor) -> None:
    """Attn(Q, K, V) W_o + s Attn(Q, K_pre, V_pre) W_o, at attention, with a learned scale."""
    placement = Placement("attention", PrefixConfig(3, "parallel"), "parallel", "channel")
    model = tuned(make_vit(), placement, random=True, double=True)
    keys, values, scale = (parts(model, name) for name in ("keys", "values", "parallel_scale"))

    def attention(block: Any, x: Tensor) -> Tensor:
        q, _, _ = project(block, block.norm1(x))
        k, v = (rows[id(block)].expand(len(x), -1, -1, -1) for rows in (keys, values))
        return own_attention(block, x) + scale[id(block)] * (softmax_attention(q, k, v) @ block.attn.proj.weight.T)

    with torch.no_grad():
        assert torch.allclose(model(images.double()), run(model, images.double(), attention), atol=1e-10)


def test_parallel_prompt_uses_the_frozen_projections(make_vit: Maker, images: Tensor) -> None:
    """K_pro = x_pro W_k and V_pro = x_pro W_v with the frozen W; the prompt's own rows are dropped."""
    model = tuned(make_vit(), Placement("attention", PromptConfig(3, "parallel"), scale=0.5), random=True, double=True)
    tokens = parts(model, "tokens")

    def attention(block: Any, x: Tensor) -> Tensor:
        q, _, _ = project(block, block.norm1(x))
        _, k, v = project(block, tokens[id(block)].expand(len(x), -1, -1))
        return own_attention(block, x) + 0.5 * softmax_attention(q, k, v) @ block.attn.proj.weight.T

    with torch.no_grad():
        assert torch.allclose(model(images.double()), run(model, images.double(), attention), atol=1e-10)


def by_hand(model: TunedModel, images: Tensor, deep: int = 0) -> Tensor:
    """Tokens after the blocks, run on sequences that `deep` prompts a block join after the prefix tokens."""
    at = model.backbone.num_prefix_tokens
    tokens = embed(model.backbone, images)
    prompts = parts(model, "tokens")
    for block in model.backbone.blocks:
        extra = prompts[id(block)].expand(len(images), -1, -1)
        tokens = block(torch.cat([tokens[:, :at], extra, tokens[:, at:]], dim=1))
        tokens = torch.cat([tokens[:, :at], tokens[:, at + deep :]], dim=1)
    return tokens


POOLED: dict[str, dict[str, Any]] = {
    k: VARIANTS[k] for k in ("plain", "average", "average without class token", "registers", "registers and average")
}


@pytest.mark.parametrize("settings", POOLED.values(), ids=POOLED.keys())
def test_vpt_deep_is_the_longer_sequence_block_by_block(settings: dict[str, Any]) -> None:
    model = tuned(tiny_vit(**settings), Placement("block", PromptConfig(3, "deep")), random=True)
    images = pictures(model.backbone)
    with torch.no_grad():
        expected = model.head(pool(model.backbone, by_hand(model, images, deep=3)))
        assert torch.allclose(model(images), expected, atol=1e-5)


@pytest.mark.parametrize("settings", POOLED.values(), ids=POOLED.keys())
@pytest.mark.parametrize("block", [1, 2])
def test_vpt_shallow_is_the_longer_sequence_to_the_end(settings: dict[str, Any], block: int) -> None:
    placement = Placement("block", PromptConfig(3, "shallow"), blocks=(block,))
    model = tuned(tiny_vit(**settings), placement, random=True)
    backbone, images = model.backbone, pictures(model.backbone)
    at = backbone.num_prefix_tokens
    (prompt,) = model.tuners.parameters()
    with torch.no_grad():
        tokens = backbone.blocks[: block - 1](embed(backbone, images))
        tokens = torch.cat([tokens[:, :at], prompt.expand(len(images), -1, -1), tokens[:, at:]], dim=1)
        tokens = backbone.norm(backbone.blocks[block - 1 :](tokens))
        own = torch.cat([tokens[:, :at], tokens[:, at + 3 :]], dim=1)
        pooled = tokens[:, 0] if backbone.global_pool == "token" else own[:, at:].mean(1)
        assert torch.allclose(model(images), model.head(backbone.fc_norm(pooled)), atol=1e-5)


def test_shallow_prompts_of_several_blocks_all_stay(make_vit: Maker) -> None:
    shallow = PromptConfig(2, "shallow")
    placements = [Placement("block", shallow, blocks=(b,)) for b in (1, 2)]
    model = tuned(make_vit(), *placements, random=True)
    backbone, images = model.backbone, pictures(model.backbone)
    first, second = (p.expand(len(images), -1, -1) for p in model.tuners.parameters())
    with torch.no_grad():
        tokens = embed(backbone, images)
        tokens = backbone.blocks[0](torch.cat([tokens[:, :1], first, tokens[:, 1:]], dim=1))
        tokens = backbone.blocks[1](torch.cat([tokens[:, :1], second, tokens[:, 1:]], dim=1))
        assert torch.allclose(model(images), model.head(backbone.norm(tokens)[:, 0]), atol=1e-5)


def test_deep_and_shallow_prompts_together(make_vit: Maker) -> None:
    """Deep prompts leave after their block and the shallow ones do not, whichever stands first."""
    model = tuned(
        make_vit(global_pool="avg"),
        Placement("block", PromptConfig(2, "shallow"), blocks="first 1"),
        Placement("block", PromptConfig(1, "deep"), blocks="first 1"),
        random=True,
    )
    backbone, images = model.backbone, pictures(model.backbone)
    deep, shallow = sorted((p for p in model.tuners.parameters()), key=len)
    with torch.no_grad():
        tokens = embed(backbone, images)
        rows = [r.expand(len(images), -1, -1) for r in (deep, shallow)]
        tokens = backbone.blocks[0](torch.cat([tokens[:, :1], *rows, tokens[:, 1:]], dim=1))
        tokens = backbone.blocks[1](torch.cat([tokens[:, :1], tokens[:, 2:]], dim=1))
        pooled = backbone.fc_norm(tokens[:, 3:].mean(1))
        assert torch.allclose(model(images), model.head(pooled), atol=1e-5)


def test_attention_pooling_sees_only_the_backbones_tokens(make_vit: Maker) -> None:
    model = tuned(make_vit(global_pool="map"), Placement("block", PromptConfig(3, "deep")), random=True)
    seen: list[int] = []
    model.backbone.attn_pool.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    with torch.no_grad():
        images = pictures(model.backbone)
        model.backbone(images)
        model(images)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("form", ["parallel", "sequential", "mixed"])
@pytest.mark.parametrize("operation", ["attention", "mlp", "block", "qkv", "proj", "fc1", "fc2"])
def test_adapter_follows_the_equation(operation: str, form: str, make_vit: Maker) -> None:
    """x' = OP(x) + s1 U1(x) + s2 U2(OP(x)), with OP(x) of the residual stream before the norm."""
    placement = Placement(operation, AdapterConfig(3), form, "channel", blocks=(1,))
    backbone = make_vit(depth=1)
    model = tuned(backbone, placement, random=True, double=True)
    (placed,) = model.tuners["block_1"].at(operation)
    block, tokens = backbone.blocks[0], embed(backbone, pictures(backbone).double())

    def adapter(module: Any, x: Tensor) -> Tensor:
        return nn.functional.gelu(x @ module.down.weight.T + module.down.bias) @ module.up.weight.T + module.up.bias

    def at(name: str, op: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        y = out = op(x)
        if name == operation and form in ("parallel", "mixed"):
            out = out + placed.parallel_scale * adapter(placed.parallel, x)
        if name == operation and form in ("sequential", "mixed"):
            out = out + placed.sequential_scale * adapter(placed.sequential, y)
        return out

    def attention(x: Tensor) -> Tensor:
        q, k, v = (split_heads(t) for t in at("qkv", block.attn.qkv, block.norm1(x)).chunk(3, dim=-1))
        return at("proj", block.attn.proj, softmax_attention(q, k, v))

    def mlp(x: Tensor) -> Tensor:
        return at("fc2", block.mlp.fc2, nn.functional.gelu(at("fc1", block.mlp.fc1, block.norm2(x))))

    def whole(x: Tensor) -> Tensor:
        x = x + at("attention", attention, x)
        return x + at("mlp", mlp, x)

    with torch.no_grad():
        expected = model.head(pool(backbone, at("block", whole, tokens)))
        assert torch.allclose(model(pictures(backbone).double()), expected, atol=1e-10)


def test_insert_and_drop_are_inverse() -> None:
    x = torch.randn(2, 5, 3)
    extras = [torch.zeros(1, 3), torch.ones(2, 3)]
    longer = insert(x, extras, 1)
    assert longer.shape == (2, 8, 3)
    assert torch.equal(longer[:, 0], x[:, 0])
    assert torch.equal(longer[:, 1:4], torch.cat(extras).expand(2, -1, -1))
    assert torch.equal(drop(longer, 3, 1), x)
    assert insert(x, [], 1) is x
    assert drop(x, 0, 1) is x


def test_detach_restores_the_mode_of_the_backbone(vit: VisionTransformer) -> None:
    """Training a tuned model puts its frozen backbone in training mode; the caller's copy was not."""
    model = TunedModel(vit, Design((Placement("mlp", AdapterConfig(1)),)), CLASSES).train()
    assert not any(m.training for m in model.detach().modules())


def test_norm_tuner_needs_layer_norm(make_vit: Maker) -> None:
    """Said when the model is built or run, in the user's words."""
    backbone = make_vit(norm_layer="rmsnorm")
    with pytest.raises(BackboneError, match="LayerNorm"):
        tuned(backbone, Placement("mlp", NormConfig()))(pictures(backbone))
