"""Backbones by name: weights from many kinds of files, what does not fit is named, and how images are prepared."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from utuning_search.backbones.checkpoint import weights_digest
from utuning_search.backbones.loading import freeze, load_backbone, load_digested, preprocessing_of
from utuning_search.backbones.supported import check_supported
from utuning_search.common.errors import BackboneError, InputError
from utuning_search.designs.design import Placement
from utuning_search.tuners import TOKEN_OPERATIONS, AdapterConfig, LoraConfig, PrefixConfig, PromptConfig

from ..helpers import CLASSES, bare_logits, randomise, shape_of, tuned


def test_freeze_sets_mode_and_flags(vit: VisionTransformer) -> None:
    frozen = freeze(vit.train())
    assert frozen is vit
    assert not any(p.requires_grad for p in vit.parameters())
    assert not any(m.training for m in vit.modules())


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
        (
            lambda s: [s.pop(k) for k in list(s) if k.startswith("blocks.5.")],
            r"blocks\.5\..* missing; and 9 more missing",
        ),
        (
            lambda s: s.update({f"old.{k}": s.pop(k) for k in ("norm.bias", "cls_token")}),
            r"norm\.bias missing; old\.cls",
        ),
        (
            lambda s: [s.update({k[:-6]: s.pop(k)}) for k in list(s) if ".attn.qkv.weight" in k],
            r"more missing; blocks\.0\.attn\.qkv\. unexp",
        ),
    ],
    ids=[
        "missing",
        "extra",
        "shape",
        "pos_embed",
        "many",
        "both",
        "several-of-both",
    ],
)
def test_what_does_not_fit_is_named(
    spoil: Callable[[dict[str, Tensor]], Any], named: str, state: dict[str, Tensor], tmp_path: Path
) -> None:
    spoil(state)
    path = save(state, tmp_path / "weights.safetensors")
    with pytest.raises(BackboneError, match=named) as refused:
        load_backbone(NAME, path, image_size=32)
    assert refused.value.where == f"checkpoint {path}"


def resized(state: dict[str, Tensor], name: str, by: float) -> dict[str, Tensor]:
    """With one number of one tensor changed."""
    changed = {k: v.clone() for k, v in state.items()}
    changed[name].view(-1)[-1] += by
    return changed


def digest(state: Any, path: Path, image_size: int | None = 32) -> str:
    return load_digested(NAME, save(state, path), image_size)[1]


def test_a_digest_is_of_what_was_read(state: dict[str, Tensor], tmp_path: Path) -> None:
    """Resampled to another size, which machines round differently, it is the same; of other weights another one."""
    path = tmp_path / "weights.safetensors"
    whole = {k: v for k, v in state.items() if not k.startswith("head.")}
    own = digest(state, path)
    assert own == weights_digest(load_backbone(NAME, path, image_size=32).state_dict())
    assert [digest(state, path, size) for size in (64, 96, None)] == [own] * 3
    assert digest(whole, tmp_path / "whole.pth") == own, "a head counts"
    assert digest({"state_dict": state, "epoch": 3}, tmp_path / "run.pth") == own
    assert digest({f"module.{k}": v for k, v in state.items()}, path) == own
    others = {
        digest(resized(state, name, 1e-3), path, 64) for name in ("pos_embed", "cls_token", "blocks.5.mlp.fc2.bias")
    }
    assert len({own, *others}) == 4


def test_a_digest_of_a_google_npz_is_of_what_was_read(state: dict[str, Tensor], tmp_path: Path) -> None:
    found = []
    for i, changed in enumerate((state, state, resized(state, "pos_embed", 1e-3))):
        np.savez(tmp_path / f"{i}.npz", **jax_weights(changed, depth=6, heads=2))
        found.append(load_digested(NAME, tmp_path / f"{i}.npz", (32, 64, 64)[i])[1])
    assert found[0] == found[1] != found[2]


# Around the names of a whole state, of others beside it, and inside a file of a training run.
WRAPPED: dict[str, Callable[[dict[str, Tensor]], dict[str, Any]]] = {
    "data parallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "lightning": lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "epoch": 3},
    "compiled": lambda s: {"model": {f"_orig_mod.module.{k}": v for k, v in s.items()}},
    "detector": lambda s: {**{f"backbone.{k}": v for k, v in s.items()}, "neck.weight": torch.zeros(2)},
    "student": lambda s: (
        {f"{who}.vit.{k}": v for who in ("student",) for k, v in s.items()} | {"loss.t": torch.ones(1)}
    ),
    "wrapped twice": lambda s: {f"module.model.backbone.{k}": v for k, v in s.items()},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_prefix_before_all_names_is_left_out(kind: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    path = save(WRAPPED[kind](state), tmp_path / "wrapped.pth")
    own = load_backbone(NAME, path, image_size=32).state_dict()
    assert all(torch.equal(v, state[k]) for k, v in own.items())


def test_of_two_models_in_a_checkpoint_none_is_chosen(state: dict[str, Tensor], tmp_path: Path) -> None:
    both = {f"{who}.{k}": v for who in ("student", "teacher") for k, v in state.items()}
    with pytest.raises(BackboneError, match=r"missing; student\.blocks.* unexpected"):
        load_backbone(NAME, save(both, tmp_path / "both.pth"), image_size=32)


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


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("samvit_base_patch16_224", "got VisionTransformerSAM. Did you mean"),
        ("vit_small_patch16_18x2_224", "or DiffAttention, and Mlp; got ParallelThingsBlock"),
        ("resnet50", "got ResNet. List others: timm.list_models"),
    ],
)
def test_what_carries_no_tuners_is_refused_before_weights_are_fetched(
    name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is advised instead does carry them."""

    def create(name: str, pretrained: bool = False, **settings: Any) -> Any:
        assert not pretrained, "a network is asked"
        return create_model(name, pretrained=False, **settings)

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(BackboneError) as refused:
        load_backbone(name)
    assert said in str(refused.value)
    for advised in re.findall(r"(?:'|Similar: |, )((?:vit|deit)\w+)", refused.value.todo):
        check_supported(advised, None)


@pytest.mark.parametrize("size", [None, 64])
def test_other_architectures_are_refused_by_name(size: int | None, tmp_path: Path) -> None:
    path = save({"x": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(BackboneError, match=r"a timm VisionTransformer or .*; got ResNet"):
        load_backbone("test_resnet", path, image_size=size)


def test_the_bundled_backbone_has_one_size() -> None:
    with pytest.raises(InputError, match="image_size is 8; got 16"):
        load_backbone("glyph_vit", image_size=16)


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
