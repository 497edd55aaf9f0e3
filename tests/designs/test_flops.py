"""FLOPs in closed form are those that torch's counter finds in the merged model, and what merges is known before."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import timm
import torch
from timm.layers import RmsNorm
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from utuning_search.backbones.merge import merge
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.tuned_block import TunedBlock
from utuning_search.backbones.tuned_model import BLOCK, OUTSIDE, TunedModel
from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.flops import num_flops
from utuning_search.designs.mergeability import unmerged
from utuning_search.designs.paper_sizes import VIT_B
from utuning_search.designs.presets import PRESETS
from utuning_search.tuners import (
    AdapterConfig,
    BackboneShape,
    BiasConfig,
    ConvConfig,
    ExpertsConfig,
    FactConfig,
    Form,
    LoraConfig,
    NormConfig,
    PrefixConfig,
    PromptConfig,
    ScaleShiftConfig,
    Site,
    TunerConfig,
)

from ..backbones.test_tuned_model import EVERYTHING
from ..backbones.variants import VARIANTS
from ..helpers import CASES, CLASSES, IMAGE, SCALES, tiny_vit, tuned

FORMS: tuple[Form, Form] = ("sequential", "parallel")


def counted(model: nn.Module, channels: int, size: int, device: str = "cpu") -> int:
    """What torch counts for one image."""
    model.requires_grad_(False)  # the counter's module hooks stumble over parameters that come out of a module
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, channels, size, size, device=device))
    return counter.get_total_flops()


def check(backbone: nn.Module, *placements: Placement, fused: tuple[bool, ...] = (True, False)) -> TunedModel:
    """Closed form and count are equal, with `fused` attention and without; gives back the merged model."""
    model = TunedModel(backbone, Design(placements), CLASSES).eval()
    shape = adapter_of(backbone).shape
    merged, expected = merge(model), num_flops(Design(placements), shape, CLASSES)
    # Plain matmuls mix the values of two softmaxes once.
    for fuse in fused if shape.softmaxes == 1 else (True,):
        for block in merged.backbone.blocks:
            block.attn.fused_attn = fuse
        size = merged.backbone.patch_embed.img_size[0]
        assert counted(merged, merged.backbone.in_chans, size) == expected, f"fused {fuse}: {model.design}"
    return merged


def kept(merged: TunedModel) -> dict[int, list[tuple[str, str]]]:
    """By block, the operation and kind of each module that a merge left."""
    found = {}
    for name, block in merged.tuners.items():
        if isinstance(block, TunedBlock):
            homes = (*block.added.items(), *block.inside.items())
            modules = [(operation, kind) for operation, group in homes for kind in group]
            number = 1 if name == OUTSIDE else int(name.removeprefix(BLOCK))
            found[number] = sorted([*modules, *found.get(number, [])])
    return found


@cache
def tiny(**settings: Any) -> nn.Module:
    return tiny_vit(**settings)


# One placement: at every operation and form, each tuner's own contract counts them


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", dict.fromkeys(c.placement.tuner.kind for c in CASES))
def test_flops_at_every_scale(kind: str, scale: Any) -> None:
    placements = [c.placement for c in CASES if c.placement.tuner.kind == kind and c.placement.tuner.scalable]
    distinct = {(p.operation in ("qkv", "q", "fc1"), p.form, p.tuner.label): p for p in placements}
    for placement in distinct.values():
        check(tiny(), replace(placement, scale=scale))


@pytest.mark.parametrize("name", [p.name for p in PRESETS])
def test_flops_of_presets(name: str) -> None:
    check(tiny(), *Design.preset(name).placements)


def test_bare_backbone_and_what_folds_cost_the_same() -> None:
    """A tuner that is gone after the merge adds nothing, one that stays adds its own matrix products."""
    shape, bare = adapter_of(tiny()).shape, num_flops(Design(), adapter_of(tiny()).shape, CLASSES)
    assert num_flops(Design.preset("lora-all"), shape, CLASSES) == bare
    assert num_flops(Design.preset("ssf"), shape, CLASSES) == bare
    adapter = Design((Placement("mlp", AdapterConfig(3), blocks=(1,)),))
    tokens = 1 + 4 * 4
    assert num_flops(adapter, shape, CLASSES) - bare == 2 * tokens * 3 * 2 * shape.dim


# Placements together

TOGETHER: dict[str, tuple[Placement, ...]] = {
    "prompts that stay, that leave and that enter later": (
        Placement("block", PromptConfig(3, "shallow"), blocks="first 1"),
        Placement("block", PromptConfig(2, "deep")),
        Placement("block", PromptConfig(1, "shallow"), blocks=(2,)),
        Placement("block", AdapterConfig(2), "mixed"),
        Placement("mlp", AdapterConfig(2), "parallel", "gate"),
        Placement("attention", PrefixConfig(2, "exact")),
        Placement("ffn", ConvConfig(2, depthwise=True)),
    ),
    "lora beside an adapter that reads the map's output": (
        Placement("qkv", LoraConfig(2)),
        Placement("qkv", AdapterConfig(2), "sequential"),
        Placement("q", LoraConfig(1)),
        Placement("proj", LoraConfig(2), "mixed"),
    ),
    "lora beside an adapter that reads the map's input": (
        Placement("fc1", LoraConfig(2)),
        Placement("fc1", AdapterConfig(2), "parallel"),
        Placement("fc2", ExpertsConfig(2), "sequential"),
        Placement("mlp", ScaleShiftConfig()),
    ),
    "a prompt that borrows what lora would change": (
        Placement("attention", PromptConfig(2, "parallel"), blocks=(1,)),
        Placement("qkv", LoraConfig(2)),
        Placement("fc1", LoraConfig(2)),
        Placement("attention", NormConfig()),
        Placement("proj", FactConfig(2)),
        Placement("norm1", BiasConfig()),
    ),
    "scale-shift at the attention behind what stays at proj": (
        Placement("attention", ScaleShiftConfig()),
        Placement("proj", AdapterConfig(1)),
        Placement("proj", LoraConfig(2)),
        Placement("mhsa", AdapterConfig(1)),
    ),
    "gates": (
        Placement("q", LoraConfig(2), "mixed", "gate"),
        Placement("q", LoraConfig(3)),
        Placement("qkv", FactConfig(2), scale="gate", blocks=(2,)),
    ),
}


@pytest.mark.parametrize("placements", TOGETHER.values(), ids=TOGETHER.keys())
@pytest.mark.parametrize("settings", [{}, {"init_values": 0.1, "reg_tokens": 2}], ids=["plain", "layer scale"])
def test_flops_of_tuners_together(placements: tuple[Placement, ...], settings: dict[str, Any]) -> None:
    check(tiny(**settings), *placements)


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
def test_flops_on_every_backbone(settings: dict[str, Any]) -> None:
    """All that can meet in one model, and all that folds."""
    backbone = tiny_vit(**settings)
    check(backbone)
    check(backbone, *EVERYTHING, fused=(False,))
    check(backbone, *(p for p in EVERYTHING if p.tuner.mergeable), fused=(False,))


def test_flops_where_norms_are_not_layernorms() -> None:
    merged = check(tiny_vit(norm_layer=RmsNorm), Placement("norm1", ScaleShiftConfig()), Placement("fc1", BiasConfig()))
    assert kept(merged) == {1: [("norm1", "scale_shift")], 2: [("norm1", "scale_shift")]}


def random_designs(count: int) -> Iterator[tuple[Placement, ...]]:
    """Up to eight placements of all cases in random blocks, those that are legal together."""
    generator = torch.Generator().manual_seed(5)
    while count:
        size = int(torch.randint(2, 9, (), generator=generator))
        picked = [CASES[int(i)].placement for i in torch.randint(len(CASES), (size,), generator=generator)]
        blocks = [((1,), (2,), (1, 2))[int(i)] for i in torch.randint(3, (size,), generator=generator)]
        placements = tuple(
            p if p.is_outside else replace(p, blocks=b[:1] if p.tuner.once else b)
            for p, b in zip(picked, blocks, strict=True)
        )
        try:
            Design(placements)
        except InputError:  # equal tuners at one operation, or a bypass beside others
            continue
        count -= 1
        yield placements


def test_what_merges_and_flops_of_random_designs() -> None:
    """What `unmerged` says stays is what a merge leaves, module by module, and what folds keeps the function."""
    images = torch.randn(2, 3, IMAGE, IMAGE, generator=torch.Generator().manual_seed(6)).double()
    for i, placements in enumerate(random_designs(60)):
        backbone = tiny() if i % 2 else tiny(init_values=0.1)
        left = kept(check(backbone, *placements, fused=(i % 3 == 0,)))
        model = tuned(copy.deepcopy(backbone), *placements, random=True, double=True)
        with torch.no_grad():
            assert torch.allclose(merge(model)(images), model(images), rtol=0, atol=1e-9), model.design
        design, shape = Design(placements).resolve(2), adapter_of(backbone).shape
        for block in (1, 2):
            staying = unmerged([p for p in design.placements if block in p.block_numbers()], shape)
            names = [(operation, kind.rstrip("_23456789")) for operation, kind in left.get(block, [])]
            assert sorted(names) == sorted((p.operation, p.tuner.kind) for p in staying), design


def test_what_stays_is_what_something_else_needs() -> None:
    """Placements that would fold by themselves, beside one that reads what they change."""
    shape = adapter_of(tiny()).shape
    lora, shift = Placement("q", LoraConfig(1), blocks=(1,)), Placement("attention", ScaleShiftConfig(), blocks=(1,))
    reads_output, reads_input = (Placement("q", AdapterConfig(1), form, "none", (1,)) for form in FORMS)
    at_proj = Placement("proj", AdapterConfig(1), blocks=(1,))
    borrows = Placement("mlp", PrefixConfig(1, "parallel"), blocks=(1,))
    norm = Placement("attention", NormConfig(), blocks=(1,))
    gated = replace(lora, scale="gate")
    bias = Placement("attention", BiasConfig(), blocks=(1,))
    assert unmerged([lora, shift, bias, norm], shape) == ()
    assert unmerged([lora, reads_output], shape) == (lora, reads_output)
    assert unmerged([lora, reads_input], shape) == (reads_input,)
    assert unmerged([lora, gated], shape) == (gated,)
    assert unmerged([lora, replace(gated, form="sequential")], shape) == (lora, replace(gated, form="sequential"))
    assert unmerged([lora, shift, at_proj], shape) == (shift, at_proj)
    assert unmerged([lora, shift, norm, borrows], shape) == (lora, shift, norm, borrows)
    assert unmerged([lora, shift], replace(shape, scaled_ends=True)) == (shift,)
    whole = Placement("qkv", AdapterConfig(1), blocks=(1,))
    assert unmerged([lora, whole], shape) == (lora, whole)


def test_merging_twice_changes_nothing() -> None:
    model = TunedModel(tiny(), Design(TOGETHER["lora beside an adapter that reads the map's input"]), CLASSES).eval()
    once = merge(model)
    again, expected = merge(once).state_dict(), once.state_dict()
    assert again.keys() == expected.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in expected.items())


# Claims of configs


def test_a_tuner_without_flops_is_refused() -> None:
    """One from elsewhere may not state any; then nothing is made up."""
    with pytest.raises(InputError, match=r"FLOPs of tuner 'adapter': a tuner states num_flops"):
        TunerConfig.num_flops(AdapterConfig(1), Site(8, 8, 1, 8), 4)


# Shapes


def test_shapes_of_older_studies_have_no_flops() -> None:
    """They lack the number of tokens; an embedding or pooling that is not known has no closed form."""
    shape = adapter_of(tiny()).shape
    new = ("prefix_tokens", "flops_outside", "gated_attention", "scaled_ends", "plain_norms")
    old = BackboneShape(**{k: v for k, v in vars(shape).items() if k not in new})
    with pytest.raises(InputError, match=r"FLOPs: the study stores .* an older study\. Start a new study"):
        num_flops(Design(), old, CLASSES)
    assert "prefix_tokens" not in old.to_dict()
    assert BackboneShape(**shape.to_dict()) == shape
    with pytest.raises(InputError, match=r"FLOPs: .*patch embedding and pooling"):
        num_flops(Design(), replace(shape, flops_outside=None), CLASSES)


def test_an_unknown_patch_embedding_is_not_guessed() -> None:
    with torch.device("meta"):
        hybrid = timm.create_model("vit_tiny_r_s16_p8_224", pretrained=False, num_classes=0)
    assert adapter_of(hybrid).shape.flops_outside is None


@pytest.mark.parametrize("pool", ["map", "prr"])
def test_flops_of_attention_pooling(pool: str) -> None:
    check(tiny_vit(global_pool=pool, reg_tokens=3), Placement("block", PromptConfig(2, "shallow"), blocks=(1,)))


def test_flops_of_vit_b() -> None:
    """ViT-B/16 at 224 pixels: what is printed as 17.6 billion multiply-adds, and timm's own model with its head."""
    with torch.device("meta"):
        model = timm.create_model("vit_base_patch16_224", pretrained=False).eval()
    flops = num_flops(Design(), VIT_B, 1000)
    assert flops == counted(model, 3, 224, "meta")
    assert f"{flops / 2e9:.1f}" == "17.6"
    assert f"{flops / 1e9:.1f}" == "35.1"
