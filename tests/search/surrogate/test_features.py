"""Features of designs: every placement has a place, sizes add up, and depth is told as a share of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.known_methods import PRESETS, Preset
from utuning_search.designs.rates import rate_factor
from utuning_search.search.surrogate.features import (
    FORMS,
    GROUPS,
    LABELS,
    PARTS,
    PLACES,
    SCALES,
    SIZES,
    Floats,
    feature_names,
    features,
    matrix,
)
from utuning_search.testing.pretend import SHAPE
from utuning_search.tuners import (
    TUNERS,
    AdapterConfig,
    BiasConfig,
    FactConfig,
    Form,
    LoraConfig,
    NormConfig,
    Operation,
    PromptConfig,
    Scale,
    ScaleShiftConfig,
    TunerConfig,
    operations,
)

from ...helpers import CASES, CLASSES, shape_of, tiny_vit

RATE = 0.005
NAMES = feature_names()
BARE = "nearness to a bare head"
ABSOLUTE = ("size", BARE)  # names begin like this of what depends on the depth


def of(*placements: Placement, depth: int = SHAPE.depth, rate: float | None = None) -> dict[str, float]:
    shape = replace(SHAPE, depth=depth)
    found = features(Design(placements, rate).resolve(depth), shape, RATE)
    return dict(zip(NAMES, found.tolist(), strict=True))


def parameters(decades: object) -> Floats:
    """Back from decades."""
    return np.asarray(10 ** (SIZES * np.asarray(decades, dtype=np.float64)) - 1)


def groups(row: Floats) -> list[Floats]:
    return np.split(row, np.cumsum(GROUPS)[:-1])


# Every placement has a place


def test_there_is_a_column_for_each_word_of_the_algebra() -> None:
    assert sorted(sum(PLACES.values(), ())) == sorted(operations.OPERATIONS)
    assert set(FORMS) == set(operations.FORMS)
    assert set(SCALES) - {"small", "large"} == {"none", *operations.LEARNED_SCALES, operations.GATE}


def test_names_are_distinct_and_groups_cover_them() -> None:
    assert len(set(NAMES)) == len(NAMES) == sum(GROUPS)
    firsts = [NAMES[i] for i in np.cumsum((0, *GROUPS[:-1]))]
    assert firsts == [
        f"size of {LABELS[0]}",
        f"depth of {LABELS[0]}",
        "size at attention",
        "depth at attention",
        f"size in part 1 of {PARTS}",
        FORMS[0],
        f"scale {SCALES[0]}",
        "size",
        "placements",
        "rate",
        BARE,
    ]


def check(design: Design) -> None:
    row = features(design, SHAPE, RATE)
    assert row.shape == (len(NAMES),)
    assert np.isfinite(row).all()
    sizes, covered, at, where, parts, forms, scales, total, count, _, bare = groups(row)
    tuners = sum(p.num_parameters(SHAPE) for p in design.placements)
    for group in (sizes, at, parts):
        assert parameters(group).sum() == pytest.approx(tuners)
    assert parameters(total) == pytest.approx(design.num_parameters(SHAPE))
    assert bare == pytest.approx(math.exp(-design.num_parameters(SHAPE) / (10 * SHAPE.dim)))
    for group in (covered, where):
        assert (group <= 1).all()
        assert group.any() == bool(design.placements)
    assert set(forms.tolist()) | set(scales.tolist()) <= {0.0, 1.0}
    assert count * 6 == pytest.approx(len(design.placements))
    assert dict(zip(NAMES, row, strict=True))["size of other"] == 0, "each tuner of ours has a label of its own"


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.name)
def test_known_methods_have_features_that_add_up(preset: Preset) -> None:
    check(Design(preset.placements(), RATE).resolve(SHAPE.depth))


@pytest.mark.parametrize("kind", TUNERS)
def test_registered_tuners_have_features_that_add_up(kind: str) -> None:
    placed = [case.placement for case in CASES if case.claims.kind == kind]
    assert placed
    for placement in placed:
        check(Design((placement,)).resolve(SHAPE.depth))


def test_what_is_shared_counts_once_in_the_total() -> None:
    fact = tuple(Placement(at, FactConfig(4)) for at in ("qkv", "proj"))
    design = Design(fact).resolve(SHAPE.depth)
    assert design.num_parameters(SHAPE) != sum(p.num_parameters(SHAPE) for p in design.placements)
    assert parameters(of(*fact)["size"]) == pytest.approx(design.num_parameters(SHAPE))


def test_designs_that_differ_have_features_that_differ() -> None:
    rows = {p.name: Design(p.placements(), RATE).resolve(SHAPE.depth) for p in PRESETS}
    designs = list(dict.fromkeys(rows.values()))
    found = matrix(designs, SHAPE, RATE)
    assert len({tuple(row) for row in found.tolist()}) == len(designs)


def test_no_designs_are_a_matrix_without_rows() -> None:
    assert matrix([], SHAPE, RATE).shape == (0, len(NAMES))


# What each column says


def test_a_placement_is_told_by_its_own_columns_and_no_others() -> None:
    found = of(Placement("fc1", LoraConfig(4), "parallel", 0.5, "last 1/2"))
    told = {name: value for name, value in found.items() if value}
    size = math.log10(1 + Design((Placement("fc1", LoraConfig(4), "parallel"),)).num_parameters(SHAPE) / 2) / SIZES
    assert told.keys() == {
        "size of lora",
        "depth of lora",
        "size at fc1",
        "depth at fc1",
        "size in part 2 of 3",
        "size in part 3 of 3",
        "parallel",
        "scale small",
        "size",
        "placements",
        "rate",
        BARE,
    }
    assert told["size of lora"] == told["size at fc1"] == told["size"] == pytest.approx(size)
    assert told["depth of lora"] == told["depth at fc1"] == 0.5
    # Blocks 4 to 6 of 6: one of them in the second third, two in the last.
    assert parameters(told["size in part 3 of 3"]) == pytest.approx(2 * parameters(told["size in part 2 of 3"]))


@pytest.mark.parametrize(("operation", "last"), [("attention", "proj"), ("mlp", "fc2")])
@pytest.mark.parametrize("tuner", [ScaleShiftConfig(), BiasConfig(), AdapterConfig(2)], ids=lambda tuner: tuner.kind)
def test_what_reads_an_output_alone_is_the_same_where_that_is_made(
    tuner: TunerConfig, operation: Operation, last: Operation
) -> None:
    form: Form = "sequential" if "sequential" in tuner.forms else "parallel"
    backbone = tiny_vit()
    shape = shape_of(backbone)
    designs = [Design((Placement(o, tuner, form),)).resolve(shape.depth) for o in (operation, last)]
    one, other = (features(d, shape, RATE).tolist() for d in designs)
    models = [TunedModel(backbone, d, CLASSES).eval() for d in designs]
    for model in models:
        torch.manual_seed(0)
        for parameter in model.parameters_trained():
            torch.nn.init.normal_(parameter, std=0.1)
    images = torch.rand(2, 3, backbone.patch_embed.img_size[0], backbone.patch_embed.img_size[0])
    assert one == other
    at, made = (model(images) for model in models)
    assert torch.allclose(at, made, atol=1e-5)


def test_what_reads_an_input_is_not() -> None:
    at = [
        features(Design((Placement(o, AdapterConfig(2), "parallel"),)).resolve(6), SHAPE, RATE) for o in ("mlp", "fc2")
    ]
    assert at[0].tolist() != at[1].tolist()


def test_the_widest_placement_of_a_kind_says_how_deep_it_goes() -> None:
    first, half = (
        Placement("mlp", AdapterConfig(1), blocks="first 1"),
        Placement("attention", AdapterConfig(2), blocks="last 1/2"),
    )
    found = of(first, half)
    assert (found["depth of adapter"], found["depth at attention"]) == (0.5, 0.5)
    assert found["depth at mlp"] == pytest.approx(1 / 6)


def test_what_enters_once_reaches_all_later_blocks() -> None:
    found = of(Placement("block", PromptConfig(4, "shallow"), blocks="first 1"))
    assert (found["depth of prompt shallow"], found["depth at block"]) == (1.0, 1.0)
    assert parameters([found[f"size in part {i} of 3"] for i in (1, 2, 3)]) == pytest.approx([4 * 64 / 3] * 3)
    later = of(Placement("block", PromptConfig(4, "shallow"), blocks="last 1"))
    assert later["depth of prompt shallow"] == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("scale", "told"), [(0.1, "small"), (-0.5, "small"), (4.0, "large"), (-4.0, "large"), ("gate", "gate")]
)
def test_a_scale_is_told_by_kind(scale: Scale, told: str) -> None:
    found = of(Placement("mlp", AdapterConfig(1), "parallel", scale))
    assert [name for name in SCALES if found[f"scale {name}"]] == [told]


def test_the_rate_is_relative_to_a_good_one_of_the_design() -> None:
    probe, norms = Design(), Design((Placement("mlp", NormConfig()),)).resolve(6)
    for design in (probe, norms):
        good = RATE * rate_factor(design, 6)
        assert of(*design.placements, rate=good)["rate"] == pytest.approx(0)
        assert of(*design.placements, rate=10 * good)["rate"] == pytest.approx(1)
    assert of(rate=None) == of(rate=RATE), "without one of its own it is trained at the task's"


# Depth

PATTERNS = ("all", "first 1/2", "last 1/2", "first 1/3", "last 2/3", "every 2")


@pytest.mark.parametrize("blocks", PATTERNS)
def test_a_pattern_covers_as_much_of_any_depth(blocks: str) -> None:
    placements = (Placement("mlp", AdapterConfig(4), "parallel", 0.5, blocks), Placement("q", LoraConfig(2)))
    at_6, at_12 = of(*placements, depth=6), of(*placements, depth=12)
    relative = [n for n in NAMES if not n.startswith(ABSOLUTE)]
    assert [at_6[n] for n in relative] == pytest.approx([at_12[n] for n in relative])
    sizes = [n for n in NAMES if n.startswith("size")]
    if blocks != "every 2":  # it starts with a block that lies in another third
        assert parameters([at_12[n] for n in sizes]) == pytest.approx(2 * parameters([at_6[n] for n in sizes]))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.name)
def test_known_methods_cover_as_much_of_any_depth(preset: Preset) -> None:
    if preset.name == "u-tuning-1":
        return  # one block, whatever the depth
    at_6, at_12 = (of(*preset.placements(), depth=depth) for depth in (6, 12))
    names = [n for n in NAMES if not n.startswith(ABSOLUTE)]
    assert [at_6[n] for n in names] == pytest.approx([at_12[n] for n in names])


def test_what_is_kept_of_a_design_cannot_be_changed() -> None:
    design = Design((Placement("mlp", AdapterConfig(4)),), RATE).resolve(SHAPE.depth)
    kept = features(design, SHAPE, RATE)
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 1.0
    rows = matrix([design], SHAPE, RATE)
    rows += 1.0
    assert (matrix([replace(design)], SHAPE, RATE) == kept).all()
    assert (features(design, replace(SHAPE, dim=32), RATE) != kept).any(), "of another backbone they are others"
    assert (features(design, SHAPE, 2 * RATE) != kept).any()
