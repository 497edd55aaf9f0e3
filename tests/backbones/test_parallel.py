"""VisionTransformers with attention and MLP side by side: what is refused, what is left out, and sums that fold."""

from functools import partial
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import DiffParallelScalingBlock, ParallelScalingBlock

from utuning_search.backbones.description import describe
from utuning_search.backbones.merge import merge
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.supported import check_supported
from utuning_search.common.errors import BackboneError
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.legality import misplaced
from utuning_search.testing.backbones import pictures
from utuning_search.tuners import AdapterConfig, ArcConfig, BiasConfig, LoraConfig, NormConfig

from ..helpers import check_draws_alike, tiny_vit, tuned

SUMMED = partial(ParallelScalingBlock, fuse_out_proj=True)


def test_a_bias_of_the_mlp_alone_is_refused() -> None:
    with pytest.raises(BackboneError, match=r"block 1: the map to queries, .* has one bias; got one of the MLP alone"):
        adapter_of(tiny_vit(block_fn=ParallelScalingBlock, qkv_bias=False), "mine")


@pytest.mark.parametrize(("first", "last"), [(ParallelScalingBlock, SUMMED), (SUMMED, DiffParallelScalingBlock)])
def test_blocks_of_two_kinds_are_refused(first: Any, last: Any) -> None:
    vit, other = tiny_vit(block_fn=first), tiny_vit(block_fn=last)
    vit.blocks[1] = other.blocks[1]
    with pytest.raises(BackboneError, match="block 2: all are a ParallelScalingBlock, or all a Diff"):
        adapter_of(vit, "mine")


def test_published_names_and_what_they_leave_out() -> None:
    assert check_supported("vit_dpwee_patch16_reg1_gap_256", 96) == {"img_size": 96}
    two, one = (describe(f"vit_{kind}_patch16_reg1_gap_256") for kind in ("pwee", "dpwee"))
    assert two.family.lacks == {"norm2": "attention and MLP read one norm, which is norm1"}
    assert set(one.family.lacks) == {"norm2", "attention", "mlp", "mhsa", "ffn", "proj", "fc2"}
    assert two.family.tuners["norm"] == ("attention",)
    assert one.family.left_out["norm"] == "it is placed at attention, mlp, which its blocks lack"
    assert one.shape.widths("fc1") == two.shape.widths("fc1") == (256, 1280)
    assert (one.shape.softmaxes, two.shape.softmaxes) == (2, 1)


def test_the_norm_before_both_is_that_of_attention() -> None:
    shape = adapter_of(tiny_vit(block_fn=ParallelScalingBlock)).shape
    assert misplaced(Design((Placement("attention", NormConfig()),)), shape) is None
    found = misplaced(Design((Placement("mlp", NormConfig()),)), shape)
    assert found is not None
    assert found[1] == "it changes the norm before 'mlp', and its blocks have no 'norm2'"


@pytest.mark.parametrize("operation", ["attention", "mlp", "mhsa", "ffn"])
@torch.no_grad()
def test_what_joins_the_residual_is_added_behind_the_layer_scale(operation: Any) -> None:
    """As in other blocks."""
    scaled = tiny_vit(block_fn=ParallelScalingBlock, init_values=0.1).double()
    model = tuned(scaled, Placement(operation, AdapterConfig(2), "parallel"), random=True, double=True)
    tokens = model.adapter.embed(pictures(model.adapter).double())
    (tuner,) = model.tuners["block_1"].at(operation)
    read = scaled.blocks[0].in_norm(tokens) if operation in ("mhsa", "ffn") else tokens
    expected = scaled.blocks[0](tokens) + tuner.parallel(read, model.adapter.blocks[0])
    found = model.adapter.blocks[0].run(tokens, model.tuners["block_1"])
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("operation", ["fc1", "ffn"])
@torch.no_grad()
def test_what_mixes_the_norm_stays_where_a_tuner_of_the_mlp_reads_it(operation: Any) -> None:
    vit = tiny_vit(block_fn=ParallelScalingBlock).double()
    mixing, reading = Placement("norm1", ArcConfig(1)), Placement(operation, AdapterConfig(1), "parallel")
    alone, read = (tuned(vit, *p, random=True, double=True) for p in ((mixing,), (mixing, reading)))
    images = pictures(alone.adapter).double()
    assert len(merge(alone).tuners) == 0
    assert torch.allclose(merge(read)(images), read(images), rtol=0, atol=1e-9)


@pytest.mark.parametrize("operation", ["attention", "mlp"])
def test_a_bias_folds_into_the_output_map_where_no_layer_scale_is(operation: Any) -> None:
    plain, scaled = (tiny_vit(block_fn=ParallelScalingBlock, init_values=v) for v in (None, 0.1))
    for vit, left in ((plain, 0), (scaled, 2)):
        assert len(merge(tuned(vit, Placement(operation, BiasConfig()))).tuners) == left


@torch.no_grad()
def test_training_mode_drops_what_the_backbone_drops() -> None:
    rates = {"drop_path_rate": 0.3, "proj_drop_rate": 0.1, "attn_drop_rate": 0.1}
    for kind in (ParallelScalingBlock, SUMMED, DiffParallelScalingBlock):
        vit = tiny_vit(block_fn=kind, **rates)
        model = tuned(vit, Placement("fc1", LoraConfig(1))).train()
        check_draws_alike(model, vit)
