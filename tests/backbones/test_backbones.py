"""Backbones of many kinds carry tuners: zero starts are exact, and trained tuners compute their equations."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from timm.layers import Attention, GluMlp, Mlp, SwiGLUPacked
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import (
    Block,
    ParallelScalingBlock,
    ResPostBlock,
    VisionTransformer,
)
from torch import Tensor, nn

from utuning_search.backbones.merge import merge
from utuning_search.backbones.tuned_model import TunedModel, drop, insert
from utuning_search.backbones.vit import (
    check_supported,
    embed,
    freeze,
    load_backbone,
    pool,
    preprocessing_of,
    shape_of,
    unfuse_attention,
)
from utuning_search.common.errors import BackboneError, InputError
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

from ..helpers import CASES, CLASSES, DIM, HEADS, IMAGE, bare_logits, randomise, tiny_vit, tuned

Maker = Callable[..., VisionTransformer]
HEAD_DIM = DIM // HEADS


class _Gated(Attention):
    """Attention with a sigmoid gate on its output."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, gated=True, **settings)


class _WideHeads(Attention):
    """Attention whose heads together are wider than a token."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, attn_head_dim=12, **settings)


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "average": {"global_pool": "avg"},
    "average without class token": {"global_pool": "avg", "class_token": False},
    "average with prefix": {"global_pool": "avg", "pool_include_prefix": True},
    "max": {"global_pool": "max"},
    "average and max": {"global_pool": "avgmax"},
    "attention pooling": {"global_pool": "map"},
    "attention pooling without class token": {"global_pool": "map", "class_token": False},
    "registers": {"reg_tokens": 4},
    "registers and average": {"reg_tokens": 4, "global_pool": "avg", "class_token": False},
    "registers without position": {"reg_tokens": 4, "no_embed_class": True},
    "layer scale": {"init_values": 0.1},
    "stochastic depth": {"drop_path_rate": 0.3},
    "dropout": {"drop_rate": 0.1, "pos_drop_rate": 0.1, "proj_drop_rate": 0.1, "attn_drop_rate": 0.1},
    "qk norm": {"qk_norm": True},
    "scaled attention norm": {"scale_attn_norm": True},
    "scaled mlp norm": {"scale_mlp_norm": True},
    "gated attention": {"attn_layer": _Gated},
    "wide heads": {"attn_layer": _WideHeads},
    "no qkv bias": {"qkv_bias": False},
    "no output biases": {"proj_bias": False},
    "gated mlp": {"mlp_layer": GluMlp},
    "swiglu": {"mlp_layer": SwiGLUPacked},
    "swiglu, norm": {"mlp_layer": SwiGLUPacked, "scale_mlp_norm": True},
    "relu": {"act_layer": nn.ReLU},
    "pre-norm": {"pre_norm": True},
    "no final norm": {"final_norm": False},
    "norm after pooling": {"fc_norm": True},
    "no positions": {"pos_embed": "none"},
    "dynamic size": {"dynamic_img_size": True},
    "grey": {"in_chans": 1},
}
every_variant = pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())

# One placement for each operation, tuner reading and single form: all that can meet in one model.
EVERYTHING = tuple(
    {
        (p.operation, type(p.tuner), p.tuner.label, p.form): p
        for p in (c.placement for c in CASES)
        if p.scale in ("none", "scalar") and p.form not in ("mixed", "bypass")
    }.values()
)


def pictures(model: VisionTransformer, size: int = IMAGE) -> Tensor:
    return torch.randn(3, model.in_chans, size, size, generator=torch.Generator().manual_seed(3))


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


@every_variant
def test_shape_counts_the_backbone_without_head(settings: dict[str, Any]) -> None:
    bare, headed = tiny_vit(**settings), tiny_vit(**settings, num_classes=7)
    shape = shape_of(bare)
    assert shape == shape_of(headed)
    assert shape.parameters == sum(p.numel() for p in bare.parameters())
    block = bare.blocks[0]
    assert shape.widths("qkv") == (block.attn.qkv.in_features, block.attn.qkv.out_features)
    assert shape.widths("proj") == (block.attn.proj.in_features, block.attn.proj.out_features)
    assert shape.widths("fc1") == (block.mlp.fc1.in_features, block.mlp.fc1.out_features)
    assert shape.widths("fc2") == (block.mlp.fc2.in_features, block.mlp.fc2.out_features)
    assert shape.widths("attention") == shape.widths("mlp") == shape.widths("block") == (DIM, DIM)


def test_fused_and_unfused_attention_agree(make_vit: Maker) -> None:
    fused, plain = make_vit(qk_norm=True), make_vit(qk_norm=True)
    unfuse_attention(plain)
    one, two = (tuned(b, *EVERYTHING, random=True, double=True) for b in (fused, plain))
    two.load_tuner_state_dict(one.tuner_state_dict())
    with torch.no_grad():
        assert torch.allclose(one(pictures(fused).double()), two(pictures(fused).double()), atol=1e-10)


def test_unfusing_one_model_leaves_others(make_vit: Maker) -> None:
    first, second = make_vit(), make_vit()
    before = [b.attn.fused_attn for b in second.blocks]
    unfuse_attention(first)
    assert [b.attn.fused_attn for b in second.blocks] == before


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


# What cannot carry tuners


@pytest.mark.parametrize(
    ("model", "got"),
    [
        (lambda: timm.create_model("test_resnet", pretrained=False), "ResNet"),
        (lambda: nn.Linear(2, 2), "Linear"),
        (lambda: timm.create_model("test_mambaout", pretrained=False), "MambaOut"),
        (lambda: tiny_vit(block_fn=ParallelScalingBlock), "ParallelScalingBlock"),
        (lambda: tiny_vit(block_fn=ResPostBlock), "ResPostBlock"),
        (lambda: tiny_vit(attn_layer="diff"), "DiffAttention"),
        (lambda: tiny_vit(mlp_layer=_OtherMlp), "_OtherMlp"),
    ],
    ids=["resnet", "linear", "mambaout", "parallel block", "post-norm", "differential attention", "other mlp"],
)
def test_unsupported_models_are_refused(model: Callable[[], nn.Module], got: str) -> None:
    built = model()
    for refuse in (
        lambda: check_supported(built, "mine"),
        lambda: freeze(built),
        lambda: TunedModel(built, Design(), CLASSES),
    ):
        with pytest.raises(BackboneError, match=got):
            refuse()
    with pytest.raises(BackboneError, match=r"^backbone 'mine'"):
        check_supported(built, "mine")


class _OtherMlp(nn.Sequential):
    """An MLP without fc1 and fc2."""

    def __init__(self, in_features: int, **_: Any) -> None:
        super().__init__(nn.Linear(in_features, in_features))


class _PostNorm(Block):
    """A block that is a Block by inheritance only: what it computes differs."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        x = x + self.norm1(self.attn(x))
        return x + self.norm2(self.mlp(x))


def test_a_block_with_another_forward_is_refused_or_kept(make_vit: Maker) -> None:
    """A subclass that overrides forward must not silently be run as timm's block."""
    backbone = make_vit(block_fn=_PostNorm)
    images = pictures(backbone)
    try:
        model = tuned(backbone, Placement("mlp", AdapterConfig(1)))
    except BackboneError:
        return
    with torch.no_grad():
        assert torch.equal(model(images), model.head(backbone(images)))


def test_no_pooling_is_refused_or_gives_logits_an_image(make_vit: Maker) -> None:
    backbone = make_vit(global_pool="")
    try:
        model = tuned(backbone)
    except BackboneError:
        return
    assert model(pictures(backbone)).shape == (3, CLASSES)


def test_norm_tuner_needs_layer_norm(make_vit: Maker) -> None:
    """Said when the model is built or run, in the user's words."""
    backbone = make_vit(norm_layer="rmsnorm")
    with pytest.raises(BackboneError, match="LayerNorm"):
        tuned(backbone, Placement("mlp", NormConfig()))(pictures(backbone))


def test_freeze_sets_mode_and_flags(vit: VisionTransformer) -> None:
    frozen = freeze(vit.train())
    assert frozen is vit
    assert not any(p.requires_grad for p in vit.parameters())
    assert not any(m.training for m in vit.modules())


# Preprocessing


def test_preprocessing_of_a_registered_model() -> None:
    model = timm.create_model("test_vit", pretrained=False, num_classes=0, img_size=32)
    read = preprocessing_of(model, "test_vit")
    assert (read.image_size, read.channels, read.interpolation) == (32, 3, "bicubic")
    assert read.mean == read.std == (0.5, 0.5, 0.5)


def test_preprocessing_of_one_channel() -> None:
    model = timm.create_model("test_vit", pretrained=False, num_classes=0, img_size=32, in_chans=1)
    read = preprocessing_of(model, "test_vit")
    assert (read.channels, len(read.mean), len(read.std)) == (1, 1, 1)


def test_normalise_maps_the_pixel_range() -> None:
    model = timm.create_model("test_vit", pretrained=False, num_classes=0, img_size=32)
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2).expand(2, 3, 4, 2)
    normal = preprocessing_of(model, "test_vit").normalise(pixels)
    assert normal.dtype == torch.float32
    assert normal.shape == pixels.shape
    assert torch.equal(normal.unique(), torch.tensor([-1.0, 1.0]))


# Checkpoints


NAME = "test_vit"


@pytest.fixture(scope="module")
def source() -> VisionTransformer:
    """A registered model at 32 pixels with random weights and a head."""
    return randomise(timm.create_model(NAME, pretrained=False, num_classes=3, img_size=32), seed=4).eval()


@pytest.fixture
def state(source: VisionTransformer) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in source.state_dict().items()}


def save(state: Any, path: Path) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return path


def features(model: VisionTransformer, images: Tensor) -> Tensor:
    return model.forward_head(model.forward_features(images), pre_logits=True)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt", ".bin"])
@pytest.mark.parametrize("headed", [True, False], ids=["with head", "without head"])
def test_checkpoint_round_trip(
    suffix: str, headed: bool, source: VisionTransformer, state: dict[str, Tensor], tmp_path: Path
) -> None:
    if not headed:
        state = {k: v for k, v in state.items() if not k.startswith("head.")}
    loaded = load_backbone(NAME, save(state, tmp_path / f"weights{suffix}"), image_size=32)
    assert isinstance(loaded.head, nn.Identity)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), features(source, images))


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_checkpoint_of_a_training_run(key: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    """The weights may stand beside the epoch and the like."""
    path = save({key: state, "epoch": 3, "args": {"lr": 0.1}}, tmp_path / "run.pth")
    loaded = load_backbone(NAME, path, image_size=32)
    assert torch.equal(loaded.state_dict()["norm.weight"], state["norm.weight"])


def test_half_precision_checkpoint_is_loaded_in_fp32(state: dict[str, Tensor], tmp_path: Path) -> None:
    half = {k: v.half() for k, v in state.items()}
    loaded = load_backbone(NAME, save(half, tmp_path / "half.safetensors"), image_size=32)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert torch.equal(loaded.state_dict()["norm.weight"], half["norm.weight"].float())


def test_position_embeddings_are_resampled(state: dict[str, Tensor], tmp_path: Path) -> None:
    """A constant grid stays that constant, the class token's row stays what it is."""
    state["pos_embed"][:, 1:] = 0.25
    loaded = load_backbone(NAME, save(state, tmp_path / "weights.safetensors"), image_size=64)
    position = loaded.state_dict()["pos_embed"]
    assert position.shape == (1, 1 + 16, 64)
    assert torch.equal(position[:, 0], state["pos_embed"][:, 0])
    assert torch.allclose(position[:, 1:], torch.tensor(0.25), atol=1e-5)
    assert preprocessing_of(loaded, NAME).image_size == 64


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda s: s.pop("norm.weight"), r"norm\.weight missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "extra unexpected"),
        (lambda s: s.update({"norm.bias": torch.zeros(3)}), r"norm\.bias is \(3,\), not \(64,\)"),
        (lambda s: s.update({"pos_embed": torch.zeros(1, 5, 3)}), r"pos_embed is \(1, 5, 3\), not \(1, 5, 64\)"),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("blocks.5.")], r"blocks\.5\..* missing; .*and 7 more"),
    ],
    ids=["missing", "extra", "shape", "pos_embed", "many"],
)
def test_what_does_not_fit_is_named(
    spoil: Callable[[dict[str, Tensor]], Any], named: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    spoil(state)
    path = save(state, tmp_path / "weights.safetensors")
    with pytest.raises(BackboneError, match=named) as refused:
        load_backbone(NAME, path, image_size=32)
    assert refused.value.where == f"checkpoint {path}"


class _Code:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("this must never run",)


def test_pickle_with_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save({"norm.weight": _Code()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match=f"checkpoint {path}: the file is readable"):
        load_backbone(NAME, path, image_size=32)
    assert "never" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".npz"])
def test_missing_file_is_refused(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the file exists"):
        load_backbone(NAME, tmp_path / f"none{suffix}", image_size=32)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".npz"])
def test_garbage_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"noise{suffix}"
    path.write_bytes(b"\x07" * 100)
    with pytest.raises((InputError, BackboneError), match=f"checkpoint {path}: "):
        load_backbone(NAME, path, image_size=32)


@pytest.mark.parametrize(
    "content",
    [[torch.zeros(2)], torch.zeros(2), {}, {"epoch": 3}, {"state_dict": 3}, 5],
    ids=["list", "tensor", "empty", "no tensors", "not a state", "number"],
)
def test_a_file_that_holds_no_state_is_refused(content: object, tmp_path: Path) -> None:
    path = save(content, tmp_path / "other.pth")
    with pytest.raises((InputError, BackboneError), match=f"checkpoint {path}: "):
        load_backbone(NAME, path, image_size=32)


def test_state_with_an_entry_that_is_no_tensor_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = save({**state, "epoch": 3}, tmp_path / "mixed.pth")
    with pytest.raises((InputError, BackboneError), match="epoch"):
        load_backbone(NAME, path, image_size=32)


def jax_weights(state: dict[str, Tensor], depth: int, heads: int) -> dict[str, np.ndarray]:
    """timm names to those of Google's .npz files, whose matrices are (in, out)."""
    w = {k: v.numpy() for k, v in state.items()}
    found = {
        "embedding/kernel": w["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": w["patch_embed.proj.bias"],
        "cls": w["cls_token"],
        "Transformer/posembed_input/pos_embedding": w["pos_embed"],
        "Transformer/encoder_norm/scale": w["norm.weight"],
        "Transformer/encoder_norm/bias": w["norm.bias"],
    }
    for i in range(depth):
        ours, theirs = f"blocks.{i}", f"Transformer/encoderblock_{i}"
        for n, norm in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            found[f"{theirs}/{norm}/scale"] = w[f"{ours}.{n}.weight"]
            found[f"{theirs}/{norm}/bias"] = w[f"{ours}.{n}.bias"]
        mha = f"{theirs}/MultiHeadDotProductAttention_1"
        weights = np.split(w[f"{ours}.attn.qkv.weight"], 3)
        biases = np.split(w[f"{ours}.attn.qkv.bias"], 3)
        for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
            found[f"{mha}/{name}/kernel"] = weight.T.reshape(len(weight), heads, -1)
            found[f"{mha}/{name}/bias"] = bias.reshape(heads, -1)
        out = w[f"{ours}.attn.proj.weight"].T
        found[f"{mha}/out/kernel"] = out.reshape(heads, -1, out.shape[1])
        found[f"{mha}/out/bias"] = w[f"{ours}.attn.proj.bias"]
        for n, fc in enumerate(("fc1", "fc2")):
            found[f"{theirs}/MlpBlock_3/Dense_{n}/kernel"] = w[f"{ours}.mlp.{fc}.weight"].T
            found[f"{theirs}/MlpBlock_3/Dense_{n}/bias"] = w[f"{ours}.mlp.{fc}.bias"]
    return found


def test_google_npz_round_trip(source: VisionTransformer, state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, **jax_weights(state, depth=6, heads=2))
    loaded = load_backbone(NAME, path, image_size=32)
    assert not any(p.requires_grad for p in loaded.parameters())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), features(source, images))


@pytest.mark.parametrize("lost", ["cls", "Transformer/encoderblock_5/LayerNorm_0/scale", "embedding/kernel"])
def test_google_npz_that_does_not_fit_is_refused(lost: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    weights = jax_weights(state, depth=6, heads=2)
    del weights[lost]
    path = tmp_path / "weights.npz"
    np.savez(path, **weights)
    with pytest.raises((InputError, BackboneError), match=f"checkpoint {path}: "):
        load_backbone(NAME, path, image_size=32)


# Names


# What users bring, by its real name, made small: the kinds differ in patches, tokens, norms and layer scale.
SHRUNK = {"depth": 2, "embed_dim": 24, "num_heads": 2}
BROUGHT = {
    "vit_base_patch16_224.orig_in21k": 32,
    "deit_tiny_patch16_224": 32,
    "vit_small_patch14_dinov2.lvd142m": 28,
    "vit_small_patch14_reg4_dinov2": 28,
    "vit_base_patch32_clip_224.openai": 64,
}
create_model = timm.create_model


@pytest.fixture
def shrink(monkeypatch: pytest.MonkeyPatch) -> Callable[..., VisionTransformer]:
    """Registered models of two narrow blocks, without pretrained weights; `load_backbone` gets them too."""

    def create(name: str, pretrained: bool = False, **settings: Any) -> VisionTransformer:
        assert not pretrained, "a network is asked"
        return create_model(name, pretrained=False, **settings, **SHRUNK)

    monkeypatch.setattr(timm, "create_model", create)
    return create


@pytest.mark.parametrize("name", BROUGHT)
def test_backbones_that_users_bring_carry_tuners(
    name: str, shrink: Callable[..., VisionTransformer], tmp_path: Path
) -> None:
    """A checkpoint of twice the size with a head loads, and each token operation carries a tuner."""
    size = BROUGHT[name]
    given = randomise(shrink(name, num_classes=7, img_size=2 * size), seed=4)
    path = save(given.state_dict(), tmp_path / "weights.safetensors")
    model = load_backbone(name, path, image_size=size)
    assert shape_of(model).grid == (2, 2)
    kept = {k: v for k, v in given.state_dict().items() if not k.startswith("head.") and k != "pos_embed"}
    own = model.state_dict()
    assert kept.keys() == own.keys() - {"pos_embed"}
    assert all(torch.equal(own[k], v) for k, v in kept.items())
    images = preprocessing_of(model, name).normalise(torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8))
    placements = [Placement(operation, AdapterConfig(2), "parallel") for operation in TOKEN_OPERATIONS]
    placements += [Placement("qkv", LoraConfig(2)), Placement("attention", PrefixConfig(2, reading="exact"), "inside")]
    placements += [Placement("block", PromptConfig(2, reading="deep"), "inside")]
    untouched = tuned(model)
    wanted = untouched(images)
    assert torch.equal(wanted, bare_logits(untouched, images))
    for placement in placements:
        fresh = tuned(model, placement, random=True)
        logits = fresh(images)
        assert logits.shape == (2, CLASSES)
        assert logits.isfinite().all()
        fresh.head.load_state_dict(untouched.head.state_dict())
        assert not torch.allclose(fresh(images), wanted), f"{placement} does nothing"


def test_checkpoints_of_meta_load(shrink: Callable[..., VisionTransformer], tmp_path: Path) -> None:
    """DINOv2 as its authors publish it, with a mask token and register tokens of other names."""
    for name in ("vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"):
        given = randomise(shrink(name, num_classes=0, img_size=28), seed=4)
        state = {**given.state_dict(), "mask_token": torch.zeros(1, 24)}
        if "reg_token" in state:
            state["register_tokens"] = state.pop("reg_token")
            # Theirs adds a row of the position embedding to the class token; timm's class token has it already.
            state["pos_embed"] = torch.cat([torch.zeros(1, 1, 24), state["pos_embed"]], dim=1)
        loaded = load_backbone(name, save(state, tmp_path / f"{name}.pth"), image_size=28)
        own = loaded.state_dict()
        assert all(torch.equal(own[k], v) for k, v in given.state_dict().items())


def test_checkpoints_of_openai_load(shrink: Callable[..., VisionTransformer], tmp_path: Path) -> None:
    """CLIP's image tower under its authors' names."""
    name = "vit_base_patch32_clip_224.openai"
    given = randomise(shrink(name, num_classes=0, img_size=64), seed=4)
    renamed = {
        "cls_token": "class_embedding",
        "patch_embed.proj": "conv1",
        "pos_embed": "positional_embedding",
        "norm_pre": "ln_pre",
        "blocks.": "transformer.resblocks.",
        "attn.qkv.": "attn.in_proj_",
        "attn.proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        ".norm1": ".ln_1",
        ".norm2": ".ln_2",
        "norm.": "ln_post.",
    }
    state = {"visual.proj": torch.zeros(24, 7)}
    for key, value in given.state_dict().items():
        theirs = key
        for old, new in renamed.items():
            theirs = theirs.replace(old, new)
        state[f"visual.{theirs}"] = value[0] if key == "pos_embed" else value[0, 0] if key == "cls_token" else value
    loaded = load_backbone(name, save(state, tmp_path / "clip.safetensors"), image_size=64)
    own = loaded.state_dict()
    assert all(torch.equal(own[k], v) for k, v in given.state_dict().items())


def test_google_npz_is_resampled(state: dict[str, Tensor], tmp_path: Path) -> None:
    state["pos_embed"][:, 1:] = 0.25
    np.savez(tmp_path / "weights.npz", **jax_weights(state, depth=6, heads=2))
    position = load_backbone(NAME, tmp_path / "weights.npz", image_size=64).state_dict()["pos_embed"]
    assert position.shape == (1, 1 + 16, 64)
    assert torch.equal(position[:, 0], state["pos_embed"][:, 0])
    assert torch.allclose(position[:, 1:], torch.tensor(0.25), atol=1e-5)


@pytest.mark.parametrize(("size", "advice"), [(40, "Take 32 or 48"), (8, "Take 16")])
def test_a_size_that_does_not_fall_into_patches_is_refused(size: int, advice: str) -> None:
    with pytest.raises(InputError, match=rf"image_size is a multiple of its patches, 16; got {size}\. {advice}"):
        load_backbone(NAME, Path("never-read.pth"), image_size=size)


def test_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"got 'vit_bas_patch16_224'\. Did you mean 'vit_base_patch16_224'"):
        load_backbone("vit_bas_patch16_224")


def test_unknown_weights_of_a_known_model_are_refused() -> None:
    with pytest.raises(BackboneError, match="its pretrained weights can be fetched"):
        load_backbone("test_vit.no_such_weights")


@pytest.mark.parametrize("size", [None, 64])
def test_other_architectures_are_refused_by_name(size: int | None, tmp_path: Path) -> None:
    path = save({"x": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(BackboneError, match="a timm VisionTransformer; got ResNet"):
        load_backbone("test_resnet", path, image_size=size)


def test_the_bundled_backbone_has_one_size() -> None:
    with pytest.raises(InputError, match="image_size is 8; got 16"):
        load_backbone("glyph_vit", image_size=16)


def test_mlp_kinds_are_what_the_variants_say() -> None:
    """The variants above build what their names promise in this timm."""
    kinds = {name: type(tiny_vit(**VARIANTS[name]).blocks[0].mlp) for name in ("plain", "gated mlp", "swiglu")}
    assert kinds == {"plain": Mlp, "gated mlp": GluMlp, "swiglu": GluMlp}
