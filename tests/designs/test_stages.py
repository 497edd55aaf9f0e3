"""Backbones of several stages: sizes, features and spaces go by block; plain ones are what they were."""

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import tomli_w

from utuning_search.common.errors import BackboneError, InputError
from utuning_search.common.toml import build
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.flops import num_flops
from utuning_search.designs.legality import check_carries, misplaced
from utuning_search.designs.paper_sizes import VIT_B
from utuning_search.designs.presets import PRESETS
from utuning_search.designs.spaces.edits import Neighbourhoods
from utuning_search.designs.spaces.narrowing import left_out
from utuning_search.designs.spaces.space import Space
from utuning_search.search.surrogate.features import feature_names, features
from utuning_search.tuners import (
    AdapterConfig,
    ArcConfig,
    BackboneShape,
    BiasConfig,
    LoraConfig,
    NormConfig,
    PrefixConfig,
    PromptConfig,
    Stage,
)

STAGES = (
    Stage(blocks=1, dim=8, num_heads=2, head_dim=4, hidden=32, hidden_in=32, grid=(4, 4), attended=25, flops=1000),
    Stage(blocks=2, dim=16, num_heads=4, head_dim=4, hidden=64, hidden_in=64, grid=(2, 2), flops=100),
)
STAGED = BackboneShape(16, 3, 4, 4, 64, 64, 5000, (2, 2), 0, 10, stages=STAGES, attends=False, joins=False)
# Half of its blocks have one head of keys for two of queries.
SHARED = Stage(blocks=1, dim=16, num_heads=4, head_dim=4, hidden=64, hidden_in=64, grid=(2, 2))
SHARING = BackboneShape(16, 2, 4, 4, 64, 64, 5000, (2, 2), 1, 10, stages=(SHARED, replace(SHARED, kv_heads=2)))
# What older studies stored of a ViT, in this order.
STORED = ["dim", "depth", "num_heads", "head_dim", "hidden", "hidden_in", "parameters", "grid", "prefix_tokens"]
STORED += ["flops_outside", "gated_attention", "scaled_ends", "plain_norms", "plain_patches", "plain_final"]


def test_sizes_are_sums_over_blocks() -> None:
    lora = Placement("qkv", LoraConfig(2))
    assert lora.num_parameters(STAGED) == 2 * (8 + 24) + 2 * 2 * (16 + 48)
    last = Placement("qkv", LoraConfig(2), blocks="last 2/3")
    assert last.num_parameters(STAGED) == 2 * 2 * (16 + 48)
    scaled = Placement("fc1", LoraConfig(1), scale="channel", blocks=(1, 2))
    assert scaled.num_parameters(STAGED) == (8 + 32) + 32 + (16 + 64) + 64
    ends = Design((Placement("patches", BiasConfig()), Placement("final", BiasConfig())))
    assert ends.num_parameters(STAGED, 10) == 8 + 16 + 17 * 10


def test_queries_that_share_keys_make_their_maps_smaller() -> None:
    assert [at.widths("qkv")[1] for at in SHARING.blocks()] == [48, 32]
    assert [at.widths("v")[1] for at in SHARING.blocks()] == [16, 8]
    assert Placement("k", LoraConfig(1)).num_parameters(SHARING) == 16 + 16 + 16 + 8
    prefix = Placement("attention", PrefixConfig(3, "exact"))
    assert prefix.num_parameters(SHARING) == 2 * 3 * 16 + 2 * 3 * 8
    maps = 16 * 48 + 16 * 16 + 2 * 16 * 64, 16 * 32 + 16 * 16 + 2 * 16 * 64
    bare = sum(2 * 5 * weights + 4 * 5 * 5 * 16 for weights in maps)
    assert num_flops(Design(), SHARING, 3) == 10 + 2 * 16 * 3 + bare
    assert num_flops(Design((prefix,)), SHARING, 3) - num_flops(Design(), SHARING, 3) == 2 * 4 * 5 * 3 * 16
    prompt = Design((Placement("attention", PromptConfig(3, "parallel"), blocks=(2,)),))
    attended = 2 * 3 * 16 * 2 * 8 + 2 * 5 * 16 * 32 + 4 * 5 * 16 * 3
    assert num_flops(prompt, SHARING, 3) - num_flops(Design(), SHARING, 3) == attended
    assert misplaced(Design((Placement("block", AdapterConfig(1), "bypass"),)), SHARING) is None


def test_what_a_design_shares_it_shares_among_equal_widths() -> None:
    arc = Design((Placement("norm1", ArcConfig(2)),))
    assert arc.num_parameters(STAGED) == (2 + 8) + 2 * (2 + 16) + 2 * 8 + 2 * 16
    assert arc.num_parameters(replace(VIT_B, depth=1)) == 2 + 768 + 2 * 768


def test_blocks_are_those_of_their_stage() -> None:
    assert [at.dim for at in STAGED.blocks()] == [8, 16, 16]
    assert [at.stage for at in STAGED.blocks()] == [1, 2, 2]
    assert STAGED.at(2).widths("fc1") == (16, 64)
    assert STAGED.at(1).at(3) == STAGED.at(1)
    assert VIT_B.at(7) is VIT_B
    with pytest.raises(InputError, match="its blocks are 1 to 3; got 4"):
        STAGED.at(4)
    with pytest.raises(InputError, match="its stages have 4 blocks together; got 1 \\+ 2"):
        replace(STAGED, depth=4)


def test_flops_are_those_of_each_block() -> None:
    assert num_flops(Design(), STAGED, 3) == 10 + 2 * 16 * 3 + 1000 + 2 * 100
    adapter = Design((Placement("attention", AdapterConfig(1)),))
    assert num_flops(adapter, STAGED, 3) - num_flops(Design(), STAGED, 3) == 16 * 2 * 16 + 2 * 4 * 2 * 32
    inside = Design((Placement("qkv", AdapterConfig(1), blocks=(1,)),))
    assert num_flops(inside, STAGED, 3) - num_flops(Design(), STAGED, 3) == 25 * 2 * (8 + 24)
    unknown = replace(STAGED, stages=(STAGES[0], replace(STAGES[1], flops=None)))
    with pytest.raises(InputError, match="the backbone's blocks have a closed form"):
        num_flops(Design(), unknown, 3)


def test_a_shape_is_stored_and_read() -> None:
    for shape in (STAGED, SHARING, replace(VIT_B, lacks=("qkv",)), VIT_B):
        table = json.loads(json.dumps(shape.to_dict()))
        assert build(BackboneShape, table, "shape") == BackboneShape(**table) == shape
        assert tomllib.loads(tomli_w.dumps(table)) == table  # as an export has it


def test_a_vit_is_stored_as_it_always_was() -> None:
    assert list(VIT_B.to_dict()) == STORED
    assert all(space.on(VIT_B) is space for space in map(Space.load, ("full", "smoke", "per_block")))


def test_features_tell_in_which_part_of_the_depth_parameters_lie() -> None:
    names = feature_names()
    lora = features(Design((Placement("qkv", LoraConfig(2)),)).resolve(3), STAGED, 1e-3)
    parts = [lora[names.index(f"size in part {i + 1} of 3")] for i in range(3)]
    assert parts[0] < parts[1] == parts[2]
    assert lora[names.index("size")] == pytest.approx(np.log10(1 + 64 + 2 * 128) / 5)


def test_what_a_backbone_cannot_carry_is_no_choice() -> None:
    space = Space.load("full").on(STAGED)
    labels = {label for slot in space.slots for label in slot.offers}
    assert not {"prefix-exact", "prefix-parallel", "prompt-deep", "prompt-parallel", "adapter-bypass"} & labels
    assert {"adapter", "norm", "conv"} <= labels
    lacking = replace(STAGED, lacks=("attention", "mhsa", "norm1", "qkv", "q", "k", "v", "proj"), plain_norms=False)
    narrow = Space.load("full").on(lacking)
    assert [slot.name for slot in narrow.slots] == ["mlp", "block", "linear", "weights", "inplace", "norms", "ends"]
    assert narrow.slots[2].operations == (("fc1",), ("fc2",), ("fc1", "fc2"))
    assert narrow.digest == Space.load("full").digest
    assert [p.name for p in narrow.presets] == ["linear-probe"]
    reasons = left_out(Space.load("full").slots, lacking)
    assert reasons["qkv"] == "its blocks have none"
    assert reasons["norm"].startswith("it changes LayerNorms")
    assert reasons["exact prefix"].startswith("its keys would join")
    for seed in range(30):
        rng = np.random.default_rng(seed)
        design = Neighbourhoods(narrow, 3, 1e-3).draw(rng)
        assert misplaced(design, lacking) is None
        assert narrow.contains(design, 3)
        assert Space.load("full").contains(design, 3)


def test_a_space_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(InputError, match="space 'prompt': the backbone can carry some of its tuners; got none"):
        Space.load("prompt").on(STAGED)


@pytest.mark.parametrize(
    ("placement", "why"),
    [
        (Placement("block", PromptConfig(2, "deep")), "its tokens would join"),
        (Placement("attention", PrefixConfig(2, "gated")), "its keys would join"),
        (Placement("mlp", PrefixConfig(2, "parallel")), "it attends with the block's queries"),
        (Placement("block", AdapterConfig(2), "bypass"), "its side stream has one width"),
        (Placement("attention", NormConfig()), "it changes LayerNorms"),
        (Placement("q", LoraConfig(2)), "its blocks have no operation 'q'"),
    ],
)
def test_why_a_design_cannot_be_carried_is_said_in_one_line(placement: Placement, why: str) -> None:
    shape = replace(STAGED, plain_norms=False, lacks=("q",))
    with pytest.raises(BackboneError, match=f"it can carry .* at {placement.operation}; got {why}"):
        check_carries(Design((placement,)), shape, "backbone 'x'")
    assert misplaced(Design((placement,)), VIT_B) is None


def test_most_known_methods_can_be_carried() -> None:
    carried = {p.name for p in PRESETS if misplaced(Design(p.placements()), STAGED) is None}
    assert {"linear-probe", "bitfit", "ssf", "lora", "adaptformer", "adapter-plus", "convpass"} <= carried
    assert not {"vpt-deep", "vpt-shallow", "prefix", "res-tuning-bypass"} & carried
