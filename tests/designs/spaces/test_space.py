"""Every bundled space meets one contract; sizes against brute force; what cannot be a space is refused."""

import copy
import itertools
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from timm.models.vision_transformer import VisionTransformer

from utuning_search.backbones.loading import load_backbone
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.bundled import bundled
from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.spaces.domains import Choice, IntRange
from utuning_search.designs.spaces.space import Space
from utuning_search.tuners import AdapterConfig, LoraConfig, NormConfig

from ...helpers import shape_of
from .walking import DEPTH, RATE, enumerated, exists, one_slot, sampled

SPACES = tuple(bundled("space"))
WORDS = {"Eighteen": 18}


def nothing_switched_on(params: dict[str, Any]) -> bool:
    """Whether blocks are switched on and off, and all of them off."""
    switches = [value for name, value in params.items() if re.fullmatch(r"block_\d+", name)]
    return bool(switches) and not any(switches)


def without(raw: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {k: v for k, v in raw.items() if k not in keys}


# The contract of a bundled space.


def test_there_are_bundled_spaces() -> None:
    assert {"full", "smoke"} <= set(SPACES)


@pytest.mark.parametrize("name", SPACES)
def test_loads_under_its_own_name(name: str) -> None:
    space = Space.load(name)
    assert space.name == name
    assert space.description


@pytest.mark.parametrize("name", SPACES)
def test_header_states_the_size_and_the_cost(name: str) -> None:
    lines = bundled("space")[name].read_text(encoding="utf-8").splitlines()
    header = " ".join(line.lstrip("# ") for line in lines[: next(i for i, s in enumerate(lines) if s[:1] != "#")])
    space = Space.load(name)
    variables = re.search(r"(\d+) search variables", header)
    designs = re.search(r"([\w,]+) designs", header)
    assert variables or designs, "the header states neither search variables nor designs"
    if variables:
        assert int(variables[1]) == len(space.variables(DEPTH))
    stated = designs[1].replace(",", "") if designs else ""
    if stated.isdigit() or stated in WORDS:
        assert int(WORDS.get(stated, stated)) == space.size(DEPTH)
    slots = re.search(r"(\d+) slots", header)
    if slots:
        assert int(slots[1]) == len(space.slots)
    assert "Cost" in header


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize(("depth", "count"), [(1, 30), (DEPTH, 120), (12, 30), (24, 20)])
def test_sampled_designs_lie_in_it(name: str, depth: int, count: int) -> None:
    space = Space.load(name)
    for design, params in sampled(space, count, depth):
        assert space.contains(design, depth), str(design)
        found = space.params_of(design, depth)
        assert found is not None
        if nothing_switched_on(params):  # a second spelling of what is not placed; the shorter one is found
            assert found.keys() < params.keys(), str(design)
        else:
            assert found.keys() == params.keys(), str(design)
        assert space.suggest(optuna.trial.FixedTrial(found), depth, RATE).key == design.key


@pytest.mark.parametrize("name", SPACES)
def test_designs_outside_are_not_in_it(name: str) -> None:
    space = Space.load(name)
    for outside in (
        Design((Placement("mlp", AdapterConfig(1000), "parallel"),)),
        Design((Placement("mlp", AdapterConfig(4), "parallel", scale=0.3),)),
        Design((Placement("mlp", AdapterConfig(4), "parallel", blocks=(2, 5)), Placement("qkv", LoraConfig(1000)))),
        Design((Placement("mlp", AdapterConfig(1)), Placement("mlp", AdapterConfig(4)))),
    ):
        assert not space.contains(outside, DEPTH), str(outside)


@pytest.mark.parametrize("name", SPACES)
def test_an_addition_to_a_sampled_design_leaves_the_space(name: str) -> None:
    space = Space.load(name)
    extra = Placement("fc2", LoraConfig(1000))
    for design, _ in sampled(space, 10):
        if design.is_bypass:
            continue  # nothing can be added to it
        assert not space.contains(Design((*design.placements, extra), design.learning_rate), DEPTH)


@pytest.mark.parametrize("name", SPACES)
def test_variables_exist_only_under_their_parent(name: str) -> None:
    space = Space.load(name)
    variables = {v.name: v.exists_if for v in space.variables(DEPTH)}
    for _, params in sampled(space, 120):
        assert params.keys() <= variables.keys()
        for variable, condition in variables.items():
            assert (variable in params) == exists(condition, params), f"{variable} exists if {condition}"


@pytest.mark.parametrize("name", SPACES)
def test_nothing_but_the_tuners_is_chosen_where_nothing_is_placed(name: str) -> None:
    space = Space.load(name)
    params = space.params_of(Design(learning_rate=RATE), DEPTH)
    assert params is not None
    assert all(variable.endswith(".tuner") or variable == "learning_rate" for variable in params)
    assert {v for k, v in params.items() if k.endswith(".tuner")} == {"none"}


@pytest.fixture(scope="module")
def glyph() -> VisionTransformer:
    return load_backbone("glyph_vit")


@pytest.mark.parametrize("name", SPACES)
def test_sampled_designs_build_and_count_right(name: str, glyph: VisionTransformer) -> None:
    shape = shape_of(glyph)
    for design, _ in sampled(Space.load(name), 8, seed=1):
        model = TunedModel(glyph, design, 10)
        counted = sum(p.numel() for p in model.parameters_trained())
        assert counted == design.num_parameters(shape, 10), str(design)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("depth", [DEPTH, 12, 24])
def test_its_presets_lie_in_it(name: str, depth: int) -> None:
    space = Space.load(name)
    designs = space.preset_designs(depth, RATE)
    assert list(designs) == [p.name for p in space.presets]
    for title, design in designs.items():
        params = space.params_of(design, depth)
        assert params is not None, title
        assert space.suggest(optuna.trial.FixedTrial(params), depth, RATE).key == design.key


@pytest.mark.parametrize("name", SPACES)
def test_found_by_name_from_anywhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Space.load(name)
    monkeypatch.chdir(tmp_path)
    assert Space.load(name) == here


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n[[slots]]\nname = "a"\noperation = "mlp"\ntuner = "norm"\n', encoding="utf-8")
    assert Space.load(str(path)).size(DEPTH) == 1


def test_digest_changes_with_content_and_not_with_the_description() -> None:
    raw = dict(Space.load("smoke").raw)
    digests = {
        Space.from_dict(raw).digest,
        Space.from_dict({**raw, "description": "another"}).digest,
        Space.from_dict(without(raw, "presets")).digest,
        Space.from_dict({**raw, "slots": raw["slots"][:1]}).digest,
    }
    assert len(digests) == 3


# Sizes against brute force.

SHARED = {
    "name": "shared",
    "shared": {"blocks": ["all", "first 1", "every 2"], "scale": ["none", "channel"], "form": ["parallel", "mixed"]},
    "slots": [
        {"name": "a", "operation": "attention", "tuner": ["none", "adapter", "norm"], "rank": [1, 2]},
        {"name": "m", "operation": "mlp", "tuner": ["none", "adapter", "bias"], "rank": {"low": 1, "high": 3}},
    ],
}
ONCE = one_slot(
    operation="block",
    tuner=["none", {"kind": "prompt", "reading": "shallow"}, {"kind": "prompt", "reading": "deep"}],
    length=[1, 2, 4],
    blocks=["all", "first 1/2", "last 1/3"],
)
EACH = {
    "name": "each",
    "shared": {"scale": ["none", "scalar"]},
    "slots": [
        {
            "name": "a",
            "operation": ["attention", "mlp"],
            "tuner": ["none", "adapter", {"kind": "prefix", "reading": "parallel"}],
            "rank": [1, 2],
            "length": 3,
            "blocks": "each",
        },
        {"name": "l", "operation": ["qkv", "fc1+fc2"], "tuner": ["none", "lora"], "rank": 2, "blocks": ["all", "1"]},
    ],
}
ONCE_EACH = one_slot(
    operation="block", tuner=["none", {"kind": "prompt", "reading": "shallow"}], length=[1, 2], blocks="each"
)
SUBSETS = {
    "name": "subsets",
    "shared": {"form": ["mixed", "sequential", "parallel"], "blocks": ["all", "last 1"]},
    "slots": [
        {
            "name": "a",
            "operation": "attention",
            "tuner": ["none", "adapter", {"kind": "prefix", "reading": "parallel"}, "norm", "scale_shift"],
            "rank": 1,
            "length": 2,
        },
        {"name": "m", "operation": ["mlp"], "tuner": ["adapter", {"kind": "prompt", "reading": "parallel"}],
         "rank": [1, 2], "length": 2, "scale": ["none", 0.1, 4.0]},
    ],
}  # fmt: skip
COINCIDE = one_slot(
    operation="mlp", tuner=["none", "norm", "adapter"], rank=[1, 2], blocks=["all", "first 1", "first 1/2", "last 1/2"]
)


# Blocks that are switched on and off: own switches and shared ones, with and without "none", beside other slots.
ADAPTERS = {"tuner": ["none", "adapter"], "rank": [1, 2]}
ANY = one_slot(operation="mlp", **ADAPTERS, blocks="any")
ANY_ALWAYS = one_slot(operation="mlp", tuner=["adapter", "norm"], rank=[1, 2], form=["parallel", "mixed"], blocks="any")
ANY_ONLY = one_slot(operation="mlp", tuner="norm", blocks="any")
ANY_SHARED = {
    "name": "any_shared",
    "shared": {"blocks": "any", "scale": ["none", "channel"]},
    "slots": [
        {"name": "a", "operation": "attention", "tuner": ["none", "adapter", "norm"], "rank": [1, 2]},
        {"name": "m", "operation": ["mlp", "block"], "tuner": ["none", "adapter"], "rank": 1},
        {"name": "l", "operation": ["qkv+proj", "fc1"], "tuner": ["none", "lora"], "rank": 2, "blocks": ["all", "1"]},
    ],
}
ANY_SHARED_ALWAYS = {
    "name": "any_shared_always",
    "shared": {"blocks": "any", "scale": ["none", "channel"], "rank": [1, 2]},
    "slots": [
        {"name": "a", "operation": "attention", "tuner": ["adapter", "norm"]},
        {"name": "m", "operation": "mlp", "tuner": ["none", "adapter"]},
        {"name": "b", "operation": "block", "tuner": "adapter", "rank": [1, 3], "blocks": ["all", "last 1"]},
    ],
}
ANY_BOTH = {
    "name": "any_both",
    "shared": {"blocks": "any", "rank": [1, 2]},
    "slots": [
        {"name": "a", "operation": "attention", "tuner": ["none", "adapter"]},
        {"name": "m", "operation": "mlp", "tuner": "adapter", "blocks": "any"},
    ],
}
ANY_EACH = {
    "name": "any_each",
    "shared": {"scale": ["none", 2.0]},
    "slots": [
        {"name": "a", "operation": "attention", "tuner": ["none", "adapter"], "rank": 1, "blocks": "each"},
        {"name": "m", "operation": "fc1+fc2", "tuner": ["none", "lora"], "rank": [1, 2], "blocks": "any"},
    ],
}
SWITCHED = [ANY, ANY_ALWAYS, ANY_ONLY, ANY_SHARED, ANY_SHARED_ALWAYS, ANY_BOTH, ANY_EACH]


@pytest.mark.parametrize(
    "raw", [SHARED, ONCE, EACH, ONCE_EACH, SUBSETS, COINCIDE, dict(Space.load("smoke").raw), *SWITCHED]
)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_size_is_the_number_of_distinct_designs(raw: dict[str, Any], depth: int) -> None:
    space = Space.from_dict(copy.deepcopy(raw))
    designs = enumerated(space, depth)
    assert space.size(depth) == len({d.key for d in designs})
    for design in designs:
        params = space.params_of(design, depth)
        assert params is not None, str(design)
        assert space.suggest(optuna.trial.FixedTrial(params), depth, RATE).key == design.key


def test_patterns_that_name_no_block_are_no_choices() -> None:
    space = Space.from_dict(one_slot(operation="mlp", tuner="norm", blocks=["every 3", "all", "every 2", "first 1/2"]))
    patterns = [v.domain.values for d in (6, 3, 2) for v in space.variables(d) if isinstance(v.domain, Choice)]
    assert patterns == [
        ("every 3", "all", "every 2", "first 1/2"),
        ("every 3", "all", "every 2", "first 1/2"),
        ("all", "every 2", "first 1/2"),
    ]
    assert space.variables(1) == ()
    assert space.size(1) == 1


def test_a_slot_without_any_block_is_refused() -> None:
    space = Space.from_dict(one_slot(operation="mlp", tuner="norm", blocks=["every 3", "every 2"]))
    assert space.size(2) == 1
    with pytest.raises(InputError, match=r"slot 'a', blocks: .*at least one of 1 to 1.*'every 3'"):
        space.size(1)


def test_a_tuner_that_enters_once_enters_at_the_listed_single_blocks() -> None:
    prompt = {"kind": "prompt", "reading": "shallow"}
    raw = one_slot(operation="block", tuner=prompt, length=2, blocks=["2", "all", "last 1/2", "last 1", "1"])
    entries = {design.placements[0].blocks for design in enumerated(Space.from_dict(raw), DEPTH)}
    assert entries == {(1,), (2,), (DEPTH,)}
    assert Space.from_dict(raw).size(DEPTH) == 3


def test_what_enters_once_and_what_does_not_choose_from_sets_of_their_own() -> None:
    tuners = [{"kind": "prompt", "reading": "shallow"}, {"kind": "prompt", "reading": "deep"}]
    space = Space.from_dict(one_slot(operation="block", tuner=tuners, length=2, blocks=["2", "all", "last 1/2"]))
    names = {v.name: v.domain for v in space.variables(DEPTH)}
    assert names["a.blocks"] == Choice(("2", "all", "last 1/2"))
    assert names["a.blocks.prompt-shallow"] == Choice(("2", "first 1"))
    assert space.size(DEPTH) == len({d.key for d in enumerated(space, DEPTH)}) == 5


def test_any_places_a_tuner_in_every_subset_of_blocks() -> None:
    space = Space.from_dict(ANY_ONLY)
    subsets = {design.placements[0].blocks if design.placements else () for design in enumerated(space, 4)}
    assert subsets == {c for n in range(5) for c in itertools.combinations(range(1, 5), n)}
    assert space.size(4) == 2**4


def test_switches_that_are_off_place_nothing() -> None:
    space = Space.from_dict(ANY_SHARED)
    off = {"a.tuner": "adapter", "a.rank": 2, "scale": "channel", "m.tuner": "none", "l.tuner": "none"}
    off |= {f"block_{b:02d}": False for b in (1, 2, 3)}
    design = space.suggest(optuna.trial.FixedTrial(off), 3, RATE)
    assert design == Design(learning_rate=RATE)
    assert space.params_of(design, 3) == {"a.tuner": "none", "m.tuner": "none", "l.tuner": "none"}


def test_switches_are_shared_where_blocks_are() -> None:
    own, shared = Space.from_dict(ANY), Space.from_dict(ANY_SHARED)
    assert {"a.block_01", "a.block_02"} == {v.name for v in own.variables(2) if "block" in v.name}
    switches = {v.name: v for v in shared.variables(2) if v.name.startswith("block_")}
    assert switches.keys() == {"block_01", "block_02"}
    assert switches["block_02"].domain == Choice((False, True))
    assert switches["block_02"].exists_if == "a.tuner = adapter; a.tuner = norm; m.tuner = adapter"


def test_tuners_at_shared_switches_stand_in_the_same_blocks() -> None:
    space = Space.from_dict(ANY_SHARED)
    attention, mlp = (Placement(at, AdapterConfig(1), "parallel", blocks=(1, 3)) for at in ("attention", "mlp"))
    elsewhere = Placement("mlp", AdapterConfig(1), "parallel", blocks=(1, 2))
    assert space.contains(Design((attention, mlp)), 3)
    assert not space.contains(Design((attention, elsewhere)), 3)


def test_a_tuner_that_is_always_there_and_is_not_has_its_switches_off() -> None:
    space = Space.from_dict(ANY_SHARED_ALWAYS)
    beside = Placement("block", AdapterConfig(3), "parallel", "channel", "all")
    params = space.params_of(Design((beside,)), 2)
    assert params is not None
    assert (params["block_01"], params["block_02"], params["scale"], params["m.tuner"]) == (
        False,
        False,
        "channel",
        "none",
    )
    mlp = Placement("mlp", AdapterConfig(1), "parallel", "channel", (1,))
    assert not space.contains(Design((beside, mlp)), 2)  # attention would have one in block 1 too


TUNERS_APART = [
    ({"tuner": ["none", "adapter"], "rank": [1, 2]}, {"tuner": ["none", "adapter"], "rank": [3, 4]}),
    ({"tuner": "adapter", "rank": 1}, {"tuner": ["none", {"kind": "prefix", "reading": "parallel"}], "length": [1, 2]}),
    ({"tuner": "adapter", "rank": 1, "form": ["mixed"]}, {"tuner": "adapter", "rank": 1, "form": ["parallel"]}),
    ({"tuner": "adapter", "rank": 1, "scale": [2]}, {"tuner": "adapter", "rank": [1, 2], "scale": ["none", 3]}),
    (
        {"tuner": ["none", "adapter"], "rank": [1, 2], "blocks": ["1", "1-2"]},
        {"tuner": ["none", "adapter"], "rank": [1, 2], "blocks": ["3", "3-4"]},
    ),
]


@pytest.mark.parametrize("slots", TUNERS_APART)
def test_two_slots_at_one_operation_place_tuners_that_can_be_told_apart(slots: tuple[dict[str, Any], ...]) -> None:
    named = [{"name": name, "operation": "mlp", **slot} for name, slot in zip("ab", slots, strict=True)]
    space = Space.from_dict({"name": "two", "slots": named})
    designs = enumerated(space, 4)
    assert space.size(4) == len({d.key for d in designs}) == len(designs)
    for design in designs:
        params = space.params_of(design, 4)
        assert params is not None, str(design)
        assert space.suggest(optuna.trial.FixedTrial(params), 4, RATE).key == design.key


def test_membership_of_many_placements_is_quick_to_answer() -> None:
    """A search over slots would take 4 to the power of 200 steps here; the answer takes as many as there are slots."""
    space, depth = Space.load("per_block"), 100
    norms = Design((Placement("attention", NormConfig()), Placement("mlp", NormConfig())), RATE)
    assert space.contains(norms.resolve(depth), depth)
    assert not space.contains(Design((*norms.placements, Placement("fc2", LoraConfig(1)))).resolve(depth), depth)


def test_size_leaves_learning_rates_out() -> None:
    assert Space.from_dict({**SHARED, "learning_rate": {"low": 0.001, "high": 0.1}}).size(2) == (
        Space.from_dict(SHARED).size(2)
    )


def test_a_constant_scale_of_one_is_no_second_design() -> None:
    space = Space.from_dict(one_slot(operation="mlp", tuner="adapter", rank=1, scale=["none", 1, 2]))
    assert space.size(2) == len({d.key for d in enumerated(space, 2)}) == 2


def test_conditions_are_told_apart_where_one_name_ends_in_another() -> None:
    slot = {"tuner": ["none", "adapter"], "rank": 1}
    slots = [{"name": "late_mlp", "operation": "mlp", **slot}, {"name": "mlp", "operation": "block", **slot}]
    space = Space.from_dict({"name": "names", "shared": {"scale": ["none", "channel"]}, "slots": slots})
    (scale,) = (v for v in space.variables(DEPTH) if v.name == "scale")
    assert scale.exists_if.split("; ") == ["late_mlp.tuner = adapter", "mlp.tuner = adapter"]


# Spaces that are legal but not bundled: whatever loads can be searched.

LEGAL: dict[str, dict[str, Any]] = {
    "rates-of-two-digits": {**without(SHARED), "learning_rate": {"low": 0.0012, "high": 0.0014}},
    "listed-rates": {**without(SHARED), "learning_rate": [0.0025, 0.015]},
    "one-rate": {**without(SHARED), "learning_rate": 0.0125},
    "two-slots-at-one-operation": {
        "name": "two",
        "slots": [
            {"name": "a", "operation": "mlp", "tuner": "adapter", "rank": [1, 2]},
            {"name": "b", "operation": "mlp", "tuner": "adapter", "rank": [1, 2], "blocks": ["all", "last 1/2"]},
        ],
    },
    "free-reading": one_slot(
        operation="attention", tuner="prefix", reading=["exact", "parallel"], length=2, form=["parallel", "mixed"]
    ),
    "readings-of-unlike-places": one_slot(
        operation="block", tuner="prompt", reading=["parallel", "deep"], length=[1, 2]
    ),
    "once-in-a-list-of-blocks": one_slot(
        operation="block", tuner={"kind": "prompt", "reading": "shallow"}, length=2, blocks=["2", "all"]
    ),
    "once-at-numbered-blocks": one_slot(
        operation="block", tuner={"kind": "prompt", "reading": "shallow"}, length=2, blocks=["2", "3"]
    ),
    "outside-the-blocks": one_slot(
        operation=["final", "patches+final"],
        tuner=["none", "bias", "scale_shift"],
        shift=[True, False],
        blocks="first 1",
    ),
    "outside-and-a-norm": one_slot(operation=["norm1", "norm1+final"], tuner="bias", blocks="first 1"),
    "outside-in-each-block": one_slot(operation="final", tuner="bias", blocks="each"),
    "blocks-as-numbers": one_slot(operation="mlp", tuner="norm", blocks=[1, 2]),
    "an-operation-twice-in-a-group": one_slot(operation=["qkv", "proj+proj"], tuner="lora", rank=2),
    "one-group-spelled-twice": one_slot(operation=["qkv+proj", "proj+qkv"], tuner="lora", rank=2),
    "one-pattern-twice": one_slot(operation="mlp", tuner="norm", blocks=["all", "all"]),
    "one-scale-twice": one_slot(operation="mlp", tuner="adapter", rank=2, scale=[2, 2.0]),
    "text-for-a-rate": {**without(SHARED), "learning_rate": ["high", "low"]},
    "a-negative-rate": {**without(SHARED), "learning_rate": [-0.1, 0.1]},
    "a-range-of-rates-from-zero": {**without(SHARED), "learning_rate": {"low": 0.0, "high": 0.1}},
    "a-range-of-shared-blocks": {**SHARED, "shared": {"blocks": {"low": 1, "high": 3}}},
    "a-range-for-a-reading": one_slot(operation="attention", tuner="prefix", reading={"low": 1, "high": 2}, length=2),
    "a-fractional-rank": one_slot(operation="mlp", tuner="adapter", rank={"low": 1.0, "high": 2.5}),
    **{raw["name"] if raw["name"] != "small" else f"any-{i}": raw for i, raw in enumerate(SWITCHED)},
}


@pytest.mark.parametrize("name", LEGAL)
def test_whatever_loads_can_be_searched(name: str) -> None:
    """A space is refused when it is read, or else every design it proposes is legal and lies in it."""
    try:
        space = Space.from_dict(copy.deepcopy(LEGAL[name]))
    except InputError:
        return
    assert all(v.domain.size is None or v.domain.size > 1 for v in space.variables(DEPTH))
    assert space.size(DEPTH) >= 1
    for design, _ in sampled(space, 25):
        params = space.params_of(design, DEPTH)
        assert params is not None, str(design)
        assert space.suggest(optuna.trial.FixedTrial(params), DEPTH, RATE).key == design.key


@pytest.mark.parametrize(
    "rate", [{"low": 0.0072, "high": 0.019, "log": True}, {"low": 0.0001, "high": 0.0012}, [0.0125]]
)
def test_presets_lie_in_a_space_with_any_rates(rate: object) -> None:
    raw = {**Space.load("smoke").raw, "learning_rate": rate}
    space = Space.from_dict(raw)
    for design in space.preset_designs(DEPTH, RATE).values():
        assert space.contains(design, DEPTH), str(design)


@pytest.mark.parametrize(
    ("rates", "drawn"),
    [
        ({"low": 0.0012, "high": 0.0014}, {0.0012, 0.0013, 0.0014}),  # one digit would leave the range
        ({"low": 0.008, "high": 0.012}, {0.008, 0.009, 0.01}),
        ([0.00125, 0.0333], {0.00125, 0.0333}),
        (0.0125, {0.0125}),
        (None, {0.00512}),  # the task's, as it is
    ],
)
def test_rates_have_as_few_digits_as_keep_them_in_the_space(rates: object, drawn: set[float]) -> None:
    raw = without(Space.load("smoke").raw, "learning_rate")
    space = Space.from_dict(raw if rates is None else {**raw, "learning_rate": rates})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    assert {space.suggest(study.ask(), DEPTH, 0.00512).learning_rate for _ in range(60)} == drawn
    if rates is not None:
        assert all(space.contains(Design(learning_rate=rate), DEPTH) for rate in drawn)
        assert not space.contains(Design(learning_rate=0.0012345), DEPTH)


# What is refused.


def refusal(raw: object) -> str:
    with pytest.raises(InputError) as caught:
        Space.from_dict(raw)  # type: ignore[arg-type]  # the point of some cases
    return str(caught.value)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({**SHARED, "slot": []}, "'slots'"),
        ({**SHARED, "shared": {"scales": ["none"]}}, "'scale'"),
        (one_slot(operation="mlp", tuner="adapter", rnak=4), "'rank'"),
        (one_slot(operation="mlp", tuner="adaptor", rank=4), "'adapter'"),
        (one_slot(operation="mpl", tuner="adapter", rank=4), "'mlp'"),
        (one_slot(operation=["qkv+prj"], tuner="lora", rank=4), "'proj'"),
        ({**SHARED, "presets": ["u-tuning-duel"]}, "'u-tuning-dual'"),
        (one_slot(operation="attention", tuner={"kind": "prefix", "readin": "exact"}, length=1), "'reading'"),
        (one_slot(operation="mlp", tuner="adapter", rank={"low": 1, "hihg": 4}), "'high'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(raw: dict[str, Any], told: str) -> None:
    assert f"Did you mean {told}?" in refusal(raw)


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        (one_slot(operation="mlp", tuner="adapter", rank=0), ("rank", "from 1 to", "got 0")),
        (one_slot(operation="mlp", tuner="adapter", rank={"low": 0, "high": 4}), ("rank", "got 0")),
        (one_slot(operation="mlp", tuner="adapter", rank=[1, 0]), ("rank", "got 0")),
        (one_slot(operation="attention", tuner="prefix", length=513), ("length", "512", "got 513")),
        (one_slot(operation="attention", tuner="prefix", length={"low": 1, "high": 513}), ("length", "got 513")),
        (one_slot(operation="attention", tuner="lora", rank=4), ("lora", "legal at", "qkv", "'attention'")),
        (one_slot(operation=["qkv", "mlp"], tuner="lora", rank=4), ("lora", "'mlp'")),
        (one_slot(operation="mlp", tuner="adapter", rank=1, form=["sideways"]), ("form", "parallel", "'sideways'")),
        (one_slot(operation="mlp", tuner="adapter", rank=1, form="inside"), ("form", "'inside'")),
        (one_slot(operation="mlp", tuner="adapter", rank=1, form={"low": 1, "high": 2}), ("form", "a range")),
        (one_slot(operation="mlp", tuner="adapter", rank=1, scale=["chanel"]), ("scale", "'chanel'")),
        (one_slot(operation="mlp", tuner="adapter", rank=1, scale=[0]), ("scale", "other than 0")),
        (one_slot(operation="mlp", tuner="norm", blocks="half"), ("slot 'a', blocks", "'half'")),
        (one_slot(operation="mlp", tuner="norm", blocks=["all", "last 3/2"]), ("blocks", "'last 3/2'")),
        (one_slot(operation="mlp", tuner="norm", blocks=["each", "all"]), ("blocks", "stands alone", "'each'")),
        (one_slot(operation="mlp", tuner="norm", blocks=["all", "any"]), ("blocks", 'blocks = "any" stands alone')),
        (one_slot(operation="mlp", tuner="norm", blocks=["any", "any"]), ("blocks", "stands alone")),
        (
            one_slot(operation="block", tuner={"kind": "prompt", "reading": "shallow"}, length=2, blocks="any"),
            ("slot 'a', blocks", "enters at one block", "blocks of its own"),
        ),
        (one_slot(operation="final", tuner="bias"), ("slot 'a', blocks", 'has blocks = "first 1"', "got 'all'")),
        (
            one_slot(operation=["mlp", "patches"], tuner="bias", blocks=["first 1", "last 1"]),
            ("'patches' lies outside the blocks", "a slot of its own"),
        ),
        ({**SHARED, "reference": "0000.00000"}, ("space, reference", "'0000.00000'", "2303.00690")),
        (one_slot(operation="mlp", tuner="norm", blocks=[]), ("blocks", "nothing")),
        (one_slot(operation="mlp", tuner=[]), ("tuner", "nothing")),
        (one_slot(tuner="norm"), ("operation", "nothing", "Add operation")),
        (one_slot(operation="mlp"), ("tuner", "nothing", "Add tuner")),
        (one_slot(operation="mlp", tuner=["norm", "norm"]), ("distinct",)),
        (one_slot(operation="mlp", tuner="adapter"), ("rank is given",)),
        (one_slot(operation="mlp", tuner="adapter", rank=[]), ("rank", "not empty")),
        (one_slot(operation="mlp", tuner="adapter", rank={"low": 4, "high": 1}), ("rank", "low is at most high")),
        (one_slot(operation="mlp", tuner="adapter", rank={"low": 0, "high": 1, "log": True}), ("rank", "above 0")),
        (one_slot(operation="mlp", tuner="adapter", rank={"low": 1}), ("rank", "a number high")),
        (one_slot(operation="mlp", tuner="adapter", rank=[[1]]), ("rank", "[1]")),
        ({"name": "empty"}, ("slots", "none")),
        ({"name": "twins", "slots": one_slot(operation="mlp", tuner="norm")["slots"] * 2}, ("name of its own",)),
        ({"name": "two words", "slots": []}, ("name", "'two words'")),
        ({"slots": []}, ("name", "None")),
        ({"name": "n", "slots": [{"operation": "mlp", "tuner": "norm"}]}, ("name is a word", "None")),
        (LEGAL["two-slots-at-one-operation"], ("slots 'a' and 'b'", "different tuners", "'adapter' at 'mlp'")),
        (LEGAL["free-reading"], ("reading", "'exact' and 'parallel'", 'kind = "prefix", reading = "parallel"')),
        (LEGAL["readings-of-unlike-places"], ("reading", "'parallel' and 'deep'")),
        (LEGAL["an-operation-twice-in-a-group"], ("operations of a group", "'proj+proj'")),
        (LEGAL["one-group-spelled-twice"], ("operation are distinct", "'qkv+proj'")),
        (LEGAL["one-pattern-twice"], ("slot 'a', blocks", "distinct", "['all', 'all']")),
        (LEGAL["text-for-a-rate"], ("learning_rate", "numbers above 0", "'high'")),
        (LEGAL["a-negative-rate"], ("learning_rate", "numbers above 0", "-0.1")),
        (LEGAL["a-range-of-rates-from-zero"], ("learning_rate", "numbers above 0", "got 0.0")),
        (LEGAL["a-range-of-shared-blocks"], ("shared.blocks", "a range")),
        (LEGAL["a-range-for-a-reading"], ("slot 'a'", "reading is one of", "got 1")),
        (LEGAL["a-fractional-rank"], ("slot 'a'", "rank is an integer", "got 1.0")),
        ({**SHARED, "learning_rate": [0.1, 1000]}, ("learning_rate", "below 1000", "got 1000")),
        ({**SHARED, "learning_rate": [1, 1.0]}, ("learning_rate", "distinct")),
        ({**SHARED, "shared": {"form": ["sideways"]}}, ("shared.form", "parallel", "'sideways'")),
        ({**SHARED, "shared": {"scale": ["chanel"]}}, ("shared.scale", "'chanel'")),
        (one_slot(operation="qkv", tuner=["lora", {"kind": "lora", "rank": 4}], rank=[2, 4]), ("'lora' and 'lora-4'",)),
        (one_slot(operation="mlp", tuner="norm", blocks=["all", "0-3"]), ("slot 'a', blocks", "from 1", "'0-3'")),
        (one_slot(operation="mlp", tuner="adapter", rank={"low": 1, "high": 10**400}), ("rank", "for a float")),
        (one_slot(operation="mlp", tuner="adapter", rank=1, scale=10**400), ("scale", "other than 0")),
    ],
)
def test_what_is_no_space_is_refused(raw: dict[str, Any], parts: tuple[str, ...]) -> None:
    message = refusal(raw)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    "raw",
    [
        3,
        one_slot(operation="mlp", tuner=[3]),
        one_slot(operation="mlp", tuner="norm", blocks=[["1"]]),
        one_slot(operation="mlp", tuner="norm", blocks=[True]),
        one_slot(operation="mlp", tuner=[["adapter"]], rank=1),
        {"name": "n", "slots": 3},
        {"name": "n", "slots": ["mlp"]},
        {"name": "n", "slots": {"name": "a", "operation": "mlp", "tuner": "norm"}},
        {**SHARED, "shared": 3},
        {**SHARED, "presets": "lora"},
        {**SHARED, "presets": [["lora"]]},
        {**SHARED, "learning_rate": {"low": "a", "high": "b"}},
    ],
)
def test_wrong_types_are_refused_as_such(raw: object) -> None:
    assert "got" in refusal(raw)


def test_blocks_beyond_the_backbone_are_named() -> None:
    space = Space.from_dict(one_slot(operation="mlp", tuner="norm", blocks=["all", "first 8"]))
    assert space.size(12) == 2
    with pytest.raises(InputError, match=r"within the backbone's 6.*'first 8'"):
        space.size(DEPTH)


def test_an_unknown_space_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"Did you mean 'full'\?.*path/to/file\.toml"):
        Space.load("ful")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Space.load(str(tmp_path / "none.toml"))


@pytest.mark.parametrize("text", ['name = "x"\nslots = [1, \n= 3', "name = \n", 'name = "x"\nname = "y"\n'])
def test_what_is_not_toml_is_refused_with_line_and_column(text: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"broken\.toml.*line \d+, column \d+"):
        Space.load(str(path))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(b"name = \xff\xfe")
    with pytest.raises(InputError, match=r"broken\.toml.*valid TOML"):
        Space.load(str(path))


def test_an_error_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nslot = 3\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"mine\.toml: only known keys are allowed; got 'slot'"):
        Space.load(str(path))


def test_int_ranges_are_counted_inclusively() -> None:
    space = Space.from_dict(one_slot(operation="mlp", tuner="adapter", rank={"low": 2, "high": 5}))
    (rank,) = space.variables(DEPTH)
    assert rank.domain == IntRange(2, 5)
    assert space.size(DEPTH) == 4


def test_values_that_were_found_may_be_changed() -> None:
    """They are kept for the next question, and whoever asked may do with its own as it likes."""
    space = Space.load("full")
    design = Design.preset("lora", learning_rate=0.005).resolve(12)
    first = space.params_of(design, 12)
    assert first
    kept = dict(first)
    first.clear()
    assert space.params_of(design, 12) == kept
    faster = space.params_of(Design.preset("lora", learning_rate=0.01).resolve(12), 12)
    assert faster == {**kept, "learning_rate": 0.01}, "kept at any rate"
