"""Each preset equals its original method: the same logits, and again after one step of plain SGD on the same loss.

The originals are HF `peft`, the `adapter-plus` package (in a process of its own), timm itself, and otherwise
`originals.py` beside this file. Ours is built with random tuner weights, the original gets copies of the same values.
Where an original writes a parameter in another way (SSF's scale is 1 + our γ; BitFit trains the backbone's own biases,
we train changes of them; prefix rows are (length, dim), ours are split into heads), a translation goes from ours to it.
Each is a shift or a rearrangement, so one step of SGD moves both alike.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.presets import PRESETS
from utuning_search.tuners import AdapterConfig, PromptConfig
from utuning_search.tuners.experts import Experts
from utuning_search.tuners.vera import RandomPair

from ..helpers import (
    CLASSES,
    DEPTH,
    DIM,
    HEADS,
    IMAGE,
    PATCH,
    bare_logits,
    randomise,
    same_snapshot,
    snapshot,
    tiny_vit,
    tuned,
)
from . import originals as written
from . import originals_later as later

LR = 0.1
TOLERANCE = 1e-5  # of logits and of trained tensors, fp32
STEP_TOLERANCE = 0.01  # of the difference of two steps, as a share of the step; the steps are 1e-5 at least
LEAST_CHANGE = 1e-3  # what the tuners change of the bare backbone's logits, and the step of theirs, at least

BACKBONES: dict[str, dict[str, Any]] = {
    "class token": {},
    "average": {"global_pool": "avg"},
    "layer scale and qk norm": {"init_values": 0.5, "qk_norm": True},
    "registers": {"reg_tokens": 2, "global_pool": "avg"},
    "no class token": {"class_token": False, "global_pool": "avg"},
}

Values = dict[str, Tensor]
Translation = Callable[[VisionTransformer, Values], Values]


# How the originals write what we train


def as_rows(vit: VisionTransformer, ours: Values) -> Values:
    """Prefix keys and values of (heads, length, head_dim) as rows (length, dim); the rest as it is."""
    del vit
    prefix = re.compile(r"\.prefix\..*(keys|values)$")
    return {k: v.transpose(0, 1).flatten(1) if prefix.search(k) else v for k, v in ours.items()}


def as_ssf(vit: VisionTransformer, ours: Values) -> Values:
    """γ of SSF is 1 + ours."""
    del vit
    renamed = re.compile(r"added\.(\w+)\.scale_shift\.sequential\.(gamma|beta)")
    kinds = {"gamma": "scale", "beta": "shift"}
    return {
        renamed.sub(lambda m: f"{m[1]}.{kinds[m[2]]}", k): 1 + v if k.endswith("gamma") else v for k, v in ours.items()
    }


def as_own_parameters(vit: VisionTransformer, ours: Values) -> Values:
    """The backbone's own biases and norms: its frozen values plus our changes."""
    modules = {
        **{"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"},
        **{"attention": "norm1", "mlp": "norm2", "norm1": "norm1", "norm2": "norm2"},
        **{"patches": "patch_embed.proj", "final": "norm" if isinstance(vit.fc_norm, nn.Identity) else "fc_norm"},
    }
    theirs = {}
    for name, change in ours.items():
        parts = name.split(".")
        if parts[0] == "tuners":
            inside = parts[1].startswith("block_")
            home = f"blocks.{int(parts[1].removeprefix('block_')) - 1}." if inside else ""
            own = f"{home}{modules[parts[3]]}.{parts[-1]}"
            theirs[own] = vit.get_parameter(own) + change
        else:
            theirs[name] = change
    return theirs


LINEAR_NAMES = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}


def as_fact(vit: VisionTransformer, ours: Values) -> Values:
    """U, V, and one Σ (outputs, inputs, rank, rank) for each weight, by the weight's name."""
    del vit
    theirs = {}
    for name, tensor in ours.items():
        if name.endswith(".core"):
            _, block, _, operation, *_ = name.split(".")
            weight = f"blocks.{int(block.removeprefix('block_')) - 1}.{LINEAR_NAMES[operation]}.weight"
            rank = next(v for k, v in ours.items() if k.endswith(".u")).shape[0]
            cut = tensor.unflatten(0, (-1, rank)).unflatten(2, (-1, rank))  # (outputs, rank, inputs, rank)
            theirs[f"sigma.{weight}"] = cut.transpose(1, 2)
        elif name.startswith("tuners.shared."):
            theirs[name[-1]] = tensor
        else:
            theirs[name] = tensor
    return theirs


def as_peft(vit: VisionTransformer, ours: Values) -> Values:
    """peft's names of LoRA's A and B; q and v sit in the module that stands for the fused qkv."""
    del vit
    theirs = {}
    paths = {**LINEAR_NAMES, "q": "attn.qkv.q", "v": "attn.qkv.v"}
    for name, tensor in ours.items():
        parts = name.split(".")
        if parts[0] == "tuners":
            path = f"blocks.{int(parts[1].removeprefix('block_')) - 1}.{paths[parts[3]]}"
            theirs[f"base_model.model.{path}.lora_{parts[-1].upper()}.default.weight"] = tensor
        else:
            theirs[name] = tensor
    return theirs


def as_it_is(vit: VisionTransformer, ours: Values) -> Values:
    """The same names and values."""
    del vit
    return ours


# The comparison


def ours(vit: VisionTransformer, *design: str | Placement, **options: Any) -> TunedModel:
    """Our model of a preset's name, or of placements, with random tuners, and a head whose logits are of order one."""
    placements = [p for d in design for p in (Design.preset(d, **options).placements if isinstance(d, str) else (d,))]
    model = tuned(vit, *placements, random=True)
    randomise(model.head, seed=3)
    return model


def trained(model: TunedModel) -> Values:
    """What ours trains, copied, by name."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if not n.startswith("backbone.")}


def translated(model: TunedModel, translate: Translation) -> Values:
    return {k: v.clone() for k, v in translate(model.backbone, trained(model)).items()}


def close(ours: Tensor, theirs: Tensor, what: str) -> None:
    assert ours.shape == theirs.shape, what
    gap = (ours - theirs).abs().max().item()
    assert gap < TOLERANCE, f"{what}: {gap:.2e} apart"


def close_step(start: Tensor, ours: Tensor, theirs: Tensor, name: str) -> None:
    """A tensor after the step: as close as the logits, and close too beside the step, which may be small itself."""
    close(ours, theirs, f"{name} after the step")
    step = (theirs - start).abs().max()
    assert step > 0, f"{name} did not move"
    assert (ours - theirs).abs().max() < STEP_TOLERANCE * step, f"{name}: another step"


def labels(count: int) -> Tensor:
    return torch.arange(count) % CLASSES


def sgd_step(forward: Callable[[], Tensor], parameters: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Logits before and after one plain step on the cross-entropy of fixed labels."""
    optimizer = torch.optim.SGD(parameters, lr=LR)
    before = forward()
    F.cross_entropy(before, labels(len(before))).backward()
    optimizer.step()
    with torch.no_grad():
        return before.detach(), forward()


def our_step(model: TunedModel, images: Tensor) -> tuple[Tensor, Tensor]:
    """`sgd_step` of ours; the tuners and the step have to matter, and the backbone to stay what it was."""
    frozen = snapshot(model.backbone)
    with torch.no_grad():
        bare = bare_logits(model, images)
    before, after = sgd_step(lambda: model(images), model.parameters_trained())
    assert same_snapshot(frozen, snapshot(model.backbone))
    assert (after - before).abs().max() > LEAST_CHANGE
    assert not len(model.tuners) or (before - bare).abs().max() > LEAST_CHANGE
    return before, after


def assert_same(
    model: TunedModel,
    images: Tensor,
    features: Callable[[Values], Tensor],
    translate: Translation = as_it_is,
    theirs: Values | None = None,
) -> None:
    """Ours and the original agree before and after one step, in logits and in every trained tensor.

    Args:
        model: Ours.
        images: What both see.
        features: The original: from its trained tensors by name to features (batch, dim).
        translate: From ours to the original's tensors.
        theirs: The original's own parameters, where it is a module; fresh leaves otherwise.
    """
    values = translated(model, translate)
    if theirs is None:
        theirs = {k: v.requires_grad_() for k, v in values.items()}
    else:
        assert theirs.keys() == values.keys()
        with torch.no_grad():
            for name, tensor in values.items():
                assert theirs[name].shape == tensor.shape, name
                theirs[name].copy_(tensor)
    start = {k: v.detach().clone() for k, v in theirs.items()}
    original = theirs

    def logits() -> Tensor:
        return F.linear(features(original), original["head.weight"], original["head.bias"])

    their_before, their_after = sgd_step(logits, original.values())
    our_before, our_after = our_step(model, images)
    close(our_before, their_before, "logits")
    close(our_after, their_after, "logits after the step")
    for name, tensor in translated(model, translate).items():
        close_step(start[name], tensor, original[name].detach(), name)


# Written originals


@dataclass(frozen=True)
class Case:
    """A preset and its original."""

    preset: str
    original: written.Original
    options: dict[str, Any] = field(default_factory=dict)
    translate: Translation = as_it_is
    remark: str = ""

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.preset, *(f"{k}={v}" for k, v in self.options.items()), self.remark)))


def _cases() -> Iterator[Case]:
    block = written.blockwise
    yield Case("linear-probe", written.linear_probe)
    yield Case("bitfit", written.own_parameters, {}, as_own_parameters)
    yield Case("ln-tuning", written.own_parameters, {}, as_own_parameters)
    yield Case("ssf", block(written.ssf), {}, as_ssf)
    yield Case("houlsby", block(written.houlsby), {"rank": 3})
    yield Case("pfeiffer", block(written.pfeiffer), {"rank": 3})
    yield Case("adapter", block(written.mlp_adapter), {"rank": 3})
    yield Case("adaptformer", block(written.adaptformer), {"rank": 3})
    yield Case("adapter-plus", block(written.adapter_plus), {"rank": 3})
    yield Case("parallel-adapter", block(written.parallel_adapter), {"rank": 3})
    yield Case("lora", block(written.lora_q_v), {"rank": 3})
    yield Case("fact", written.fact_tt, {"rank": 3}, as_fact)
    for length in (1, 3):
        options = {"length": length}
        yield Case("prefix", block(written.prefix_concatenated), options, as_rows, "concatenated")
        yield Case("prefix", block(written.prefix_identity), options, as_rows, "identity")
        yield Case("vpt-shallow", written.vpt_shallow, options)
        yield Case("vpt-deep", written.vpt_deep, options)
    yield Case("mam", block(written.mam), {"length": 3, "rank": 4}, as_rows)
    yield Case("unipelt", block(written.unipelt), {"rank": 2, "length": 3, "adapter_rank": 4}, as_rows)
    for depthwise in (False, True):
        yield Case("convpass", written.whole_convpass, {"rank": 3, "depthwise": depthwise})
    tuners = ("adapter", "prefix", "prompt")
    for operation in ("attention", "mlp", "block"):
        for tuner in tuners:
            options = {"size": 3, "operation": operation, "tuner": tuner}
            yield Case("u-tuning-single", block(written.u_tuning), options, as_rows)
    yield Case("u-tuning-single", block(written.u_tuning), {"size": 1, "tuner": "prefix"}, as_rows)
    for first in tuners:
        for second in tuners:
            options = {"size": 3, "attention": first, "mlp": second}
            yield Case("u-tuning-dual", block(written.u_tuning), options, as_rows)
    yield Case("u-tuning-dual", block(written.u_tuning), {"size": 3, "scale": "scalar"})
    yield Case("u-tuning-1", block(written.u_tuning), {"size": 3})
    yield Case("res-tuning", block(written.u_tuning), {"size": 3})
    for third in tuners:
        yield Case("u-tuning-tri", block(written.u_tuning), {"size": 3, "block": third}, as_rows)
    yield Case("res-tuning-bypass", written.res_tuning_bypass, {"rank": 3})
    yield Case("scedit", block(written.scedit), {"rank": 3})
    yield Case("dora", block(later.dora), {"rank": 3})
    yield Case("rlrr", later.with_ends(later.rlrr))
    yield Case("rlrr", block(later.rlrr), {"ends": False})
    yield Case("bitfit", written.own_parameters, {"ends": True}, as_own_parameters)
    yield Case("ln-tuning", later.with_ends(later.ln_tuning), {"ends": True})
    yield Case("ssf", later.with_ends(written.ssf), {"ends": True}, as_ssf)
    yield Case("ia3", block(later.ia3))
    for parts in (3, 8):
        yield Case("oft", block(later.oft), {"parts": parts})
    for terms in (3, 4):  # of a width of 16
        yield Case("kadaptation", later.with_shared(later.kadaptation), {"rank": 2, "terms": terms})
        yield Case("compacter", later.with_shared(later.compacter), {"rank": 6, "terms": terms})
        yield Case("consolidator", block(later.consolidator), {"groups": terms})
    yield Case("hydra", block(later.hydra), {"rank": 3})
    yield Case("adapterbias", block(later.adapter_bias))
    yield Case("repadapter", block(later.repadapter), {"rank": 4})
    yield Case("repadapter", block(later.repadapter), {"rank": 3}, remark="one group")
    yield Case("arc", later.with_shared(later.arc), {"rank": 3})
    yield Case("sas", later.with_shared(later.sas), {"rank": 3, "embedding": 2})
    for graph, joined in (("grid4", False), ("grid8", True), ("nearest", False)):
        yield Case("g-adapter", later.g_adapter(graph, joined), {"rank": 3, "graph": graph, "joined": joined})
    yield Case("aim", block(later.aim), {"rank": 3})
    yield Case("e2vpt", later.e2vpt, {"length": 3, "rows": 2}, as_rows)


WRITTEN = tuple(_cases())


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("case", WRITTEN, ids=[c.name for c in WRITTEN])
def test_equals_the_written_original(case: Case, backbone: str, images: Tensor) -> None:
    vit = tiny_vit(**BACKBONES[backbone])
    model = ours(vit, case.preset, **case.options)
    assert_same(model, images, lambda theta: case.original(vit, theta, images), case.translate)


def test_every_preset_has_an_original() -> None:
    """`lora-all` has peft's, `mlae` and `vera` tests of their own."""
    assert {c.preset for c in WRITTEN} | {"lora-all", "mlae", "vera"} == {p.name for p in PRESETS}


@pytest.mark.parametrize("preset", ["adapter", "prefix", "vpt-deep", "ssf"])
def test_the_comparison_sees_a_small_difference(preset: str, images: Tensor) -> None:
    """An original whose tuner weights are off by a thousandth is told apart."""
    case = next(c for c in WRITTEN if c.preset == preset)
    vit = tiny_vit()
    model = ours(vit, preset, **case.options)

    def noise(values: Tensor) -> Tensor:
        # Not a factor: the LayerNorm before attention takes the scale of a prompt away.
        return 1e-3 * torch.linspace(-1, 1, values.numel()).view_as(values)

    def features(theta: Values) -> Tensor:
        off = {k: v if k.startswith("head.") else v + noise(v) for k, v in theta.items()}
        return case.original(vit, off, images)

    with pytest.raises(AssertionError, match=r"^logits: .* apart"):
        assert_same(model, images, features, case.translate)


@pytest.mark.parametrize("blocks", ["first 1", "last 1"])
def test_bypass_in_some_blocks(blocks: str, images: Tensor) -> None:
    """The side stream leaves the backbone before its first tuner, and passes blocks without one."""
    vit = tiny_vit()
    model = ours(vit, Placement("block", AdapterConfig(3), "bypass", blocks=blocks))
    assert_same(model, images, lambda theta: written.res_tuning_bypass(vit, theta, images))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_prompts_run_through_the_frozen_block(backbone: str, images: Tensor) -> None:
    """In one block: timm's own Block on the longer sequence, the prompt's rows then left out."""
    vit = tiny_vit(**BACKBONES[backbone])
    model = ours(vit, Placement("block", PromptConfig(3, "deep"), blocks="last 1"))
    n = vit.num_prefix_tokens

    def features(theta: Values) -> Tensor:
        x = vit.blocks[0](written.tokens_of(vit, images))
        prompts = theta[f"tuners.block_{DEPTH}.inside.block.prompt.tokens"].expand(len(x), -1, -1)
        longer = vit.blocks[1](torch.cat([x[:, :n], prompts, x[:, n:]], dim=1))
        return written.read(vit, torch.cat([longer[:, :n], longer[:, n + 3 :]], dim=1))

    assert_same(model, images, features)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_vera_trains_vectors_around_a_random_pair(backbone: str, images: Tensor) -> None:
    """The pair is drawn with the tuner, so the original is given it; nothing trains it, and it is stored."""
    vit = tiny_vit(**BACKBONES[backbone])
    model = ours(vit, "vera", rank=5)
    (pair,) = (m for m in model.tuners["shared"].values() if isinstance(m, RandomPair))
    before = {k: v.clone() for k, v in pair.state_dict().items()}
    assert not list(pair.parameters())
    assert {f"tuners.shared.vera_5_{DIM}_{DIM}.{n}" for n in "ab"} <= model.tuner_state_dict().keys()
    pairs = dict.fromkeys("qv", (before["a"], before["b"]))
    original = written.blockwise(lambda block, p, x: later.vera(block, p, x, pairs))
    assert_same(model, images, lambda theta: original(vit, theta, images))
    assert all(torch.equal(v, before[k]) for k, v in pair.state_dict().items())


# MLAE


def experts_of(model: TunedModel) -> dict[str, Experts]:
    return {n: m for n, m in model.named_modules() if isinstance(m, Experts)}


def drawn(model: TunedModel) -> dict[str, Tensor]:
    """Numbers of the experts that the next training forward of each tuner keeps; its stream stays where it is."""
    kept = {}
    for name, module in experts_of(model).items():
        copy = torch.Generator()
        copy.set_state(module._stream.get_state())
        kept[name] = (torch.rand(len(module.a), generator=copy) >= module.dropout).nonzero().flatten()
    return kept


def mlae_features(
    vit: VisionTransformer, images: Tensor, kept: Mapping[str, Tensor], dropout: float
) -> Callable[[Values], Tensor]:
    def features(theta: Values) -> Tensor:
        x = written.tokens_of(vit, images)
        for number, block in enumerate(vit.blocks, 1):
            name = f"tuners.block_{number}"
            here = {op: kept[f"{name}.added.{op}.experts.parallel"] for op in ("qkv", "proj")}
            x = written.mlae(block, written.under(theta, name), x, here, dropout)
        return written.read(vit, x)

    return features


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_mlae_without_dropout_or_in_evaluation_is_lora(dropout: float, backbone: str, images: Tensor) -> None:
    vit = tiny_vit(**BACKBONES[backbone])
    model = ours(vit, "mlae", rank=4, dropout=dropout)
    model.train(dropout == 0)
    kept = {name: torch.arange(4) for name in experts_of(model)}
    assert_same(model, images, mlae_features(vit, images, kept, dropout=0.0))


def test_mlae_in_training_is_lora_without_the_experts_left_out(images: Tensor) -> None:
    """The rest is scaled by 1 / (1 - p). After the step both are compared in evaluation."""
    vit = tiny_vit()
    model = ours(vit, "mlae", rank=8, dropout=0.25).train()
    kept, every = drawn(model), {name: torch.arange(8) for name in experts_of(model)}
    assert any(0 < len(k) < 8 for k in kept.values())
    assert len({tuple(k.tolist()) for k in kept.values()}) > 1  # tuners draw on their own
    start = trained(model)
    theirs = {k: v.clone().requires_grad_() for k, v in start.items()}
    in_training = mlae_features(vit, images, kept, dropout=0.25)
    in_evaluation = mlae_features(vit, images, every, dropout=0.0)
    passes = iter((in_training, in_evaluation))

    def their_logits() -> Tensor:
        return F.linear(next(passes)(theirs), theirs["head.weight"], theirs["head.bias"])

    def our_logits() -> Tensor:
        out: Tensor = model(images)
        model.eval()
        return out

    their_before, their_after = sgd_step(their_logits, theirs.values())
    our_before, our_after = sgd_step(our_logits, model.parameters_trained())
    close(our_before, their_before, "logits in training")
    close(our_after, their_after, "logits after the step")
    for name, tensor in trained(model).items():
        close_step(start[name], tensor, theirs[name].detach(), name)


# Res-Tuning-Bypass: nothing is back-propagated through the backbone


@contextmanager
def packed_in_blocks(vit: VisionTransformer) -> Iterator[list[tuple[str, tuple[int, ...]]]]:
    """Module and shape of each tensor that autograd keeps for backward while a module of a frozen block runs."""
    packed: list[tuple[str, tuple[int, ...]]] = []
    running: list[str] = []

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            del module, args
            running.append(name)

        return hook

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        del module, args, output
        running.pop()

    def pack(tensor: Tensor) -> Tensor:
        if running:
            packed.append((running[-1], tuple(tensor.shape)))
        return tensor

    handles = []
    for name, module in vit.blocks.named_modules():
        handles += [module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave)]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield packed
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("trainable", [False, True])
def test_bypass_keeps_no_activation_of_a_frozen_block(trainable: bool, images: Tensor) -> None:
    vit = tiny_vit()
    model = ours(vit, "res-tuning-bypass", rank=3).train()
    vit.requires_grad_(trainable)
    with packed_in_blocks(vit) as packed:
        model(images).sum().backward()
    assert packed == []
    assert all(p.grad is not None for p in model.tuners.parameters())


@pytest.mark.parametrize("operation", ["attention", "mlp", "block"])
def test_adapters_in_the_stream_keep_activations(operation: Any, images: Tensor) -> None:
    """The same watch on an ordinary design does see tensors kept inside frozen blocks."""
    vit = tiny_vit()
    model = ours(vit, Placement(operation, AdapterConfig(3), "parallel"))
    with packed_in_blocks(vit) as packed:
        model(images)
    assert packed


def test_bypass_gives_the_backbone_no_gradient(images: Tensor) -> None:
    """Even where its parameters ask for one; the final norm, which reads the side stream itself, stands after it."""
    vit = tiny_vit()
    model = ours(vit, "res-tuning-bypass", rank=3)
    vit.requires_grad_(True)
    images.requires_grad_()
    F.cross_entropy(model(images), labels(len(images))).backward()
    reached = [n for n, p in vit.named_parameters() if p.grad is not None]
    assert all(n.startswith("norm.") for n in reached), reached
    assert images.grad is None

    ordinary = ours(tiny_vit(), "adapter", rank=3)
    ordinary.backbone.requires_grad_(True)
    F.cross_entropy(ordinary(images), labels(len(images))).backward()
    assert all(p.grad is not None for n, p in ordinary.backbone.named_parameters())


# HF peft


class SplitQkv(nn.Module):
    """timm's fused qkv as three maps, so that a library which targets modules can target q and v."""

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        width = fused.out_features // 3
        for name, weight, bias in zip("qkv", fused.weight.chunk(3), fused.bias.chunk(3), strict=True):
            part = nn.Linear(fused.in_features, width)
            part.load_state_dict({"weight": weight, "bias": bias})
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1)


PEFT_TARGETS = {
    "lora": r"blocks\.\d+\.attn\.qkv\.(q|v)",
    "lora-all": r"blocks\.\d+\.(attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)",
}


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("preset", PEFT_TARGETS)
def test_equals_peft(preset: str, backbone: str, images: Tensor) -> None:
    import peft  # seconds, which only these tests should cost

    model = ours(tiny_vit(**BACKBONES[backbone]), preset, rank=3)
    vit = tiny_vit(**BACKBONES[backbone])
    if preset == "lora":
        for block in vit.blocks:
            block.attn.qkv = SplitQkv(block.attn.qkv)
    config = peft.LoraConfig(r=3, lora_alpha=3, target_modules=PEFT_TARGETS[preset])
    wrapped = peft.get_peft_model(vit, config).eval()
    theirs = {n: p for n, p in wrapped.named_parameters() if p.requires_grad}
    head = nn.Linear(DIM, CLASSES)
    theirs |= {"head.weight": head.weight, "head.bias": head.bias}
    assert_same(model, images, lambda _: wrapped(images), as_peft, theirs)


# The adapter-plus package


@dataclass(frozen=True)
class Packaged:
    """A preset, the package's configuration of it, and which of our tensors is which of the package's.

    Attributes:
        names: From the middle of our name (after the block's number) to the package's, within its block.
        config: "adapter_config", "lora_config" or "prompt_config", and its values.
        relu: Whether the adapter's activation is ReLU; the package gives it that of the ViT's MLP.
    """

    preset: str
    options: dict[str, Any]
    names: dict[str, str]
    config: dict[str, Any]
    relu: bool = False

    def translate(self, vit: VisionTransformer, ours: Values) -> Values:
        del vit
        layers = {"down.": "bottleneck.1.", "up.": "bottleneck.4."}
        theirs = {}
        for name, tensor in ours.items():
            found = re.fullmatch(r"tuners\.block_(\d+)\.(?:added|inside)\.(.*)", name)
            if found:
                rest = found[2]
                for old, new in (*self.names.items(), *layers.items()):
                    rest = rest.replace(old, new)
                name = f"blocks.{int(found[1]) - 1}.{rest}"
            theirs[name] = tensor
        return theirs


def _adapter_config(config: str, **changed: Any) -> dict[str, Any]:
    base = {"dim": 3, "dropout": 0.0, "drop_path": 0.0, "act_layer": True, "norm_layer": False, "bias": True}
    base |= {"scaling": 1.0, "init": "lora", "attn_adapter": config == "houlsby", "config": config}
    return {"adapter_config": {**base, **changed}}


_LORA = {"dim": 3, "dropout": 0.0, "drop_path": 0.0, "pre_dropout": False, "act_layer": False, "norm_layer": False}
PACKAGED = (
    Packaged(
        "adapter-plus",
        {"rank": 3},
        {"block.adapter.sequential_scale": "adapter.scaling", "block.adapter.sequential": "adapter"},
        _adapter_config("post", scaling="channel"),
    ),
    Packaged(
        "houlsby",
        {"rank": 3},
        {"attention.adapter.sequential": "adapter_attn", "mlp.adapter.sequential": "adapter"},
        _adapter_config("houlsby"),
    ),
    Packaged("pfeiffer", {"rank": 3}, {"block.adapter.sequential": "adapter"}, _adapter_config("pfeiffer"), relu=True),
    Packaged("adapter", {"rank": 3}, {"mlp.adapter.sequential": "adapter"}, _adapter_config("intermediate")),
    Packaged(
        "adaptformer",
        {"rank": 3},
        {"mlp.adapter.parallel": "adapter"},
        _adapter_config("parallel", scaling=0.1),
        relu=True,
    ),
    Packaged(
        "lora",
        {"rank": 3},
        {
            **{f"{part}.lora.parallel.a": f"attn.adapters.{part}.bottleneck.1.weight" for part in "qv"},
            **{f"{part}.lora.parallel.b": f"attn.adapters.{part}.bottleneck.4.weight" for part in "qv"},
        },
        {"lora_config": {**_LORA, "config": "attention", "location": "qv", "bias": False, "scaling": 1.0}},
    ),
    Packaged(
        "vpt-deep",
        {"length": 3},
        {"block.prompt.tokens": "prompt"},
        {"prompt_config": {"num_tokens": 3, "dropout": 0.0}},
    ),
)
PACKAGED_VIT = {"img_size": IMAGE, "patch_size": PATCH, "embed_dim": DIM, "depth": DEPTH, "num_heads": HEADS}
PACKAGED_BACKBONES: dict[str, dict[str, Any]] = {
    "class token": {},
    "layer scale": {"init_values": 0.5},
    "average": {"global_pool": "avg"},
}


def packaged_model(case: Packaged, backbone: str) -> TunedModel:
    torch.default_generator.manual_seed(0)  # the same model in the fixture and in the test
    return ours(tiny_vit(**PACKAGED_BACKBONES[backbone]), case.preset, **case.options)


def packaged_pairs() -> list[tuple[Packaged, str]]:
    """The package pools prompts too where it averages, so VPT is compared under the class token."""
    return [
        (case, backbone)
        for case in PACKAGED
        for backbone in PACKAGED_BACKBONES
        if not (case.preset == "vpt-deep" and backbone == "average")
    ]


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the package computes for all cases, in one process of its own."""
    folder = tmp_path_factory.mktemp("adapter_plus")
    inputs = torch.randn(4, 3, IMAGE, IMAGE, generator=torch.Generator().manual_seed(7))
    cases = {}
    for case, backbone in packaged_pairs():
        model = packaged_model(case, backbone)
        name = f"{case.preset} {backbone}"
        vit = {**PACKAGED_VIT, **PACKAGED_BACKBONES[backbone]}
        cases[name] = {"vit": vit, "configs": case.config, "relu": case.relu, "lr": LR}
        tensors = {f"backbone.{k}": v for k, v in model.backbone.state_dict().items()}
        tensors |= {f"trained.{k}": v for k, v in translated(model, case.translate).items()}
        save_file({**tensors, "images": inputs, "labels": labels(len(inputs))}, folder / f"{name}.safetensors")
    (folder / "cases.json").write_text(json.dumps(cases))
    script = Path(__file__).with_name("adapter_plus_original.py")
    # -P: the folder of the script holds modules of these tests, which it must not import by chance.
    done = subprocess.run([sys.executable, "-P", script, folder], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(("case", "backbone"), packaged_pairs(), ids=[f"{c.preset} {b}" for c, b in packaged_pairs()])
def test_equals_the_adapter_plus_package(case: Packaged, backbone: str, packaged: Path, images: Tensor) -> None:
    """Its AdapterBlock, with its own forward passes, in timm's model; see `adapter_plus_original.py`."""
    model = packaged_model(case, backbone)
    theirs = load_file(packaged / f"{case.preset} {backbone}.out.safetensors")
    before, after = our_step(model, images)
    close(before, theirs.pop("before"), "logits")
    close(after, theirs.pop("after"), "logits after the step")
    start = translated(packaged_model(case, backbone), case.translate)
    tensors = translated(model, case.translate)
    assert {f"trained.{name}" for name in tensors} == theirs.keys()
    for name, tensor in tensors.items():
        close_step(start[name], tensor, theirs[f"trained.{name}"], name)


def test_adapter_plus_is_not_imported_here() -> None:
    """It patches timm, which would change what every other test sees."""
    assert "adapter_plus" not in sys.modules
