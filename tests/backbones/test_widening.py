"""Hiera and MViTv2: which models are refused, and what a block reads and gives where it widens."""

from collections.abc import Callable

import pytest
import torch
from timm.models.hiera import Hiera
from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg
from torch import nn

from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.supported import check_supported
from utuning_search.common.errors import BackboneError, InputError
from utuning_search.testing.backbones import pictures
from utuning_search.testing.recorder import Recorder
from utuning_search.tuners import BackboneShape

from .staged import HIERA, HIERA_MODELS, MVIT_MODELS, SWIN_MODELS, staged


def _mvit(**settings: object) -> nn.Module:
    cfg = MultiScaleVitCfg(depths=(1, 1), embed_dim=4, stride_q=((1, 1), (2, 2)), **settings)  # type: ignore[arg-type]
    return staged(MultiScaleVit, cfg=cfg, img_size=32)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "hiera, no pooling": (lambda: staged(Hiera, **HIERA, global_pool=""), "the model pools its tokens; got no pooling"),
    "hiera, patch dropout": (
        lambda: staged(Hiera, **HIERA, patch_drop_rate=0.5),
        "all patches are there in training; got patch dropout",
    ),
    "mvit, pools first": (
        lambda: _mvit(pool_first=True),
        "a MultiScaleBlock with its attention and Mlp; got MultiScaleBlock with MultiScaleAttentionPoolFirst",
    ),
    "mvit, pooled by maxima": (lambda: _mvit(mode="max"), "convolutions pool a head's channels; got max"),
    "mvit, wider MLPs": (
        lambda: _mvit(expand_attn=False),
        "block 1: blocks widen in their attention, .*; got one that",
    ),
}


@pytest.mark.parametrize(("make", "rule"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(make: Callable[[], nn.Module], rule: str) -> None:
    with pytest.raises(BackboneError, match=f"^backbone 'mine'.*{rule}"):
        adapter_of(make(), "mine")


@pytest.mark.parametrize(
    ("name", "size", "rule"),
    [
        ("hiera_tiny_224", 100, "image_size is a multiple of 32, a mask unit; got 100"),
        ("hiera_tiny_224", 226, "image_size is a whole number of patches; got 226. Take 224"),
        ("mvitv2_tiny", 100, "image_size is a multiple of 32, as its stages halve the grid; got 100"),
        ("mvitv2_tiny", 226, "image_size is a whole number of patches; got 226. Take 224"),
    ],
)
def test_images_fall_into_whole_units(name: str, size: int, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        check_supported(name, size)
    assert check_supported(name, 96) == {"img_size": 96}


@pytest.mark.parametrize("make", [HIERA_MODELS["hiera"], MVIT_MODELS["mvitv2"]], ids=["hiera", "mvitv2"])
@torch.no_grad()
def test_a_tuner_where_a_block_widens_reads_what_its_shortcut_gives(make: Callable[[], nn.Module]) -> None:
    """Where attention and MLP give nothing, what the shortcut gives is all that the block gives."""
    adapter = adapter_of(make())
    widening = next(i for i, at in enumerate(adapter.shape.blocks()) if at.widens)
    block, stage = adapter.blocks[widening], adapter.shape.at(widening + 1).stages[0]
    assert (stage.dim_in, stage.dim) == (4, 8)
    assert stage.read == 4 * stage.grid[0] * stage.grid[1]
    tokens = adapter.run(adapter.embed(pictures(adapter)), 0, widening)
    for linear in (block.linear("proj"), block.linear("fc2")):
        assert linear is not None
        linear.assign(torch.zeros_like(linear.weight()), torch.zeros_like(linear.weight()[:, 0]))
    recorder = Recorder(steps=False)
    block.run(tokens, recorder)
    assert torch.equal(recorder.seen["attention"][0], block(tokens))


def test_stages_of_older_studies_say_nothing_of_it() -> None:
    """What they stored is what is stored of such backbones now, so that they go on."""
    shape = adapter_of(SWIN_MODELS["swin, shifted windows"]()).shape
    assert not {"dim_in", "read"} & shape.to_dict()["stages"][0].keys()
    assert BackboneShape(**shape.to_dict()) == shape
    wide = adapter_of(HIERA_MODELS["hiera"]()).shape
    assert BackboneShape(**wide.to_dict()) == wide
    assert wide.widens
    assert not shape.widens
