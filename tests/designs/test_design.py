"""Designs: one key for equal ones however written, exact lines, and no illegal one can be built."""

import pickle
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from utuning_search.common.errors import InputError
from utuning_search.designs import block_sets
from utuning_search.designs.design import Design, Placement
from utuning_search.tuners import (
    AdapterConfig,
    BackboneShape,
    BiasConfig,
    FactConfig,
    LoraConfig,
    NormConfig,
    PrefixConfig,
    PromptConfig,
    ScaleShiftConfig,
)

from ..helpers import CASES

DEPTH = 6
SHAPE = BackboneShape(dim=16, depth=DEPTH, num_heads=2, head_dim=8, hidden=64, hidden_in=64, parameters=1)

# Properties


@st.composite
def designs(draw: st.DrawFn) -> Design:
    """Resolved designs of up to four tuners, each in its own set of blocks."""
    beside = [c for c in CASES if c.placement.form != "bypass"]  # a bypass stands alone
    side = [c for c in CASES if c.placement.form == "bypass"]
    several = st.lists(st.sampled_from(beside), max_size=4, unique_by=lambda c: c.name)
    chosen = draw(st.one_of(several, st.lists(st.sampled_from(side), max_size=1)))
    placements = []
    for case in chosen:
        p = case.placement
        deepest = 1 if p.is_outside else DEPTH
        blocks = draw(st.sets(st.integers(1, deepest), min_size=1, max_size=1 if p.tuner.once else deepest))
        placements.append(Placement(p.operation, p.tuner, p.form, p.scale, tuple(blocks)))
    return Design(tuple(placements), draw(st.sampled_from((None, 1e-3, 1e-2))))


def meaning(design: Design) -> object:
    """What a design is, one block at a time, independent of how it is kept."""
    found = {(p.operation, p.tuner, p.form, p.scale, b) for p in design.placements for b in p.block_numbers()}
    return frozenset(found), design.learning_rate


@st.composite
def respelled(draw: st.DrawFn) -> tuple[Design, Design]:
    """A design, and the same one written in pieces, in another order and with other names for its values."""
    design = draw(designs())
    pieces = []
    for p in design.placements:
        blocks = draw(st.permutations(p.block_numbers()))
        cut = draw(st.integers(0, len(blocks)))
        for part in (blocks[:cut], blocks[cut:]):
            if part:
                scale = draw(st.sampled_from((1, 1.0, "none"))) if p.scale == "none" and p.tuner.scalable else p.scale
                spelled = draw(st.sampled_from((tuple(part), tuple(part) * 2, block_sets.text(part))))
                form = None if p.form == p.tuner.forms[0] and draw(st.booleans()) else p.form
                pieces.append(Placement(p.operation, p.tuner, form, scale, spelled).resolve(DEPTH))
    return design, Design(tuple(draw(st.permutations(pieces))), design.learning_rate)


@given(respelled())
def test_equal_designs_have_one_key(pair: tuple[Design, Design]) -> None:
    design, other = pair
    assert meaning(design) == meaning(other)
    assert design.key == other.key
    assert design == other
    assert hash(design) == hash(other)
    assert str(design) == str(other)
    assert design.num_parameters(SHAPE) == other.num_parameters(SHAPE)


@given(designs(), designs())
def test_keys_are_equal_only_for_equal_designs(one: Design, two: Design) -> None:
    same = meaning(one) == meaning(two)
    assert (one.key == two.key) == same
    assert (one == two) == same
    assert (str(one) == str(two)) == same


@given(designs())
def test_key_is_short_and_hexadecimal(design: Design) -> None:
    assert len(design.key) == 12
    assert int(design.key, 16) >= 0


@given(designs())
def test_round_trips(design: Design) -> None:
    table = tomllib.loads(tomli_w.dumps(design.to_dict()))
    assert Design.from_dict(table).key == design.key
    assert Design.from_dict(table).resolve(DEPTH) == design
    assert Design.from_dict(design.to_dict()) == design
    assert pickle.loads(pickle.dumps(design)) == design
    assert design.resolve(DEPTH) == design


@given(designs())
def test_size_is_the_sum_over_blocks(design: Design) -> None:
    single = [
        Placement(p.operation, p.tuner, p.form, p.scale, (b,)).num_parameters(SHAPE)
        for p in design.placements
        for b in p.block_numbers()
    ]
    sites = [(p.tuner, site) for p in design.placements for site in p.sites(SHAPE)]
    shared = sum({t.shared_name(s): t.num_shared(s) for t, s in sites}.values())
    assert design.num_parameters(SHAPE) == sum(single) + shared
    assert design.num_parameters(SHAPE, 10) == sum(single) + shared + 170


def test_what_is_shared_counts_once() -> None:
    """FacT's outer factors are those of the whole design: of all maps, forms apart, and all blocks."""
    maps = [Placement(at, FactConfig(4)) for at in ("qkv", "proj", "fc1", "fc2")]
    cores = 4 * 4 * (3 + 1 + 4 + 4) * DEPTH
    assert Design(tuple(maps)).num_parameters(SHAPE) == cores + 2 * 4 * 16
    assert Design((*maps[:3], Placement("fc2", FactConfig(2)))).num_parameters(SHAPE) == (
        (4 * 4 * 8 + 2 * 2 * 4) * DEPTH + 2 * 4 * 16 + 2 * 2 * 16
    )


def test_a_tuner_on_the_residual_is_the_parallel_one_at_attention() -> None:
    """SCEdit's skip, OP = identity: (x + U(x)) + attention(x) has one spelling and one key."""
    skip = Design((Placement("skip", AdapterConfig(3)),))  # type: ignore[arg-type]  # another name, rewritten
    assert skip == Design((Placement("attention", AdapterConfig(3), "parallel"),))
    assert (
        Placement.from_dict({"operation": "skip", "tuner": "adapter", "rank": 3, "form": "sequential"})
        == (skip.placements[0])
    )
    with pytest.raises(InputError, match=r"at 'skip': form is parallel or left out; got 'mixed'"):
        Placement("skip", AdapterConfig(3), "mixed")  # type: ignore[arg-type]  # the point of the test


def test_a_bypass_stands_alone() -> None:
    side = Placement("block", AdapterConfig(2), "bypass")
    for other in (Placement("mlp", NormConfig()), Placement("block", AdapterConfig(2), "sequential")):
        with pytest.raises(InputError, match="a bypass stands alone"):
            Design((side, other))
    with pytest.raises(InputError, match="a block has one bypass"):
        Design((side, Placement("block", AdapterConfig(3), "bypass", blocks="last 1"))).resolve(DEPTH)


def test_presets_by_name_and_option() -> None:
    assert Design.preset("adapter-plus", rank=4).placements == (
        Placement("block", AdapterConfig(4), "sequential", "channel"),
    )
    assert Design.preset("linear-probe") == Design()
    with pytest.raises(InputError, match=r"preset 'lora': only its own options can be set; got 'rang'.*'rank'"):
        Design.preset("lora", rang=4)


PATTERNS = st.one_of(
    st.just("all"),
    st.tuples(st.sampled_from(("first", "last", "every")), st.integers(1, 12)).map(lambda t: f"{t[0]} {t[1]}"),
    st.tuples(st.sampled_from(("first", "last")), st.integers(1, 4), st.integers(4, 9)).map(
        lambda t: f"{t[0]} {t[1]}/{t[2]}"
    ),
    st.sets(st.integers(1, 12), min_size=1).map(block_sets.text),
)


@given(PATTERNS)
def test_a_resolved_pattern_is_its_explicit_form(pattern: str) -> None:
    adapter = AdapterConfig(2)
    found = block_sets.resolve(pattern, 12, "here")
    assert found == tuple(sorted(set(found)))
    assert block_sets.resolve(block_sets.text(found), 12, "here") == found
    by_pattern = Design((Placement("mlp", adapter, blocks=pattern),)).resolve(12)
    by_numbers = Design((Placement("mlp", adapter, blocks=found),)).resolve(12)
    assert by_pattern == by_numbers
    assert by_pattern.key == by_numbers.key


# Keys, case by case


def adapter(rank: int = 2, **rest: Any) -> Placement:
    return Placement("mlp", AdapterConfig(rank), **rest)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ((adapter(scale=1),), (adapter(scale="none"),)),
        ((adapter(scale=1.0),), (adapter(),)),
        ((adapter(scale=2),), (adapter(scale=2.0),)),
        ((adapter(form="parallel"),), (adapter(form=None),)),
        ((adapter(blocks="all"),), (adapter(blocks="first 1/1"),)),
        ((adapter(blocks="last 1/2"),), (adapter(blocks=(6, 5, 4)),)),
        ((adapter(blocks="every 2"),), (adapter(blocks="2,4,6"),)),
        ((adapter(blocks="first 2"), adapter(blocks=(5, 6))), (adapter(blocks="1-2,5-6"),)),
        ((adapter(blocks="first 2"), adapter(blocks="last 2")), (adapter(blocks="1-2,5-6"),)),
        ((adapter(blocks="1,2"), adapter(blocks="3")), (adapter(blocks="1-3"),)),
        ((adapter(2), adapter(3)), (adapter(3), adapter(2))),
    ],
)
def test_same_key(one: tuple[Placement, ...], two: tuple[Placement, ...]) -> None:
    first, second = Design(one).resolve(DEPTH), Design(two).resolve(DEPTH)
    assert first.key == second.key
    assert first == second


@pytest.mark.parametrize(
    "other",
    [
        Design(),
        Design((adapter(3),)),
        Design((adapter(form="sequential"),)),
        Design((adapter(form="mixed"),)),
        Design((adapter(scale="scalar"),)),
        Design((adapter(scale="channel"),)),
        Design((adapter(scale=0.5),)),
        Design((adapter(scale=-1),)),
        Design((adapter(blocks="first 5"),)),
        Design((Placement("attention", AdapterConfig(2)),)),
        Design((Placement("mlp", AdapterConfig(2, "relu")),)),
        Design((adapter(), Placement("mlp", BiasConfig()))),
        Design((adapter(),), 1e-3),
    ],
    ids=str,
)
def test_another_key(other: Design) -> None:
    assert Design((adapter(),)).resolve(DEPTH).key != other.resolve(DEPTH).key


def test_equal_learning_rates_have_one_key() -> None:
    """TOML writes 1 for 1.0."""
    assert Design((), 1) == Design((), 1.0)
    assert Design((), 1).key == Design((), 1.0).key


@given(designs(), st.floats(1e-4, 0.1))
def test_a_design_at_another_rate_is_what_is_made_at_it(design: Design, rate: float) -> None:
    moved = design.at_rate(rate)
    made = Design(design.placements, rate)
    assert moved == made
    assert (moved.key, hash(moved), str(moved)) == (made.key, hash(made), str(made))
    with pytest.raises(InputError, match="learning_rate is a number above 0"):
        design.at_rate(-rate)


def test_key_does_not_change_between_releases() -> None:
    """Stored studies find their designs by key: a change here orphans them."""
    tables = [d.to_dict() for d in (Design(), Design((adapter(),)).resolve(2))]
    assert tables == [
        {"placements": []},
        {
            "placements": [
                {
                    "operation": "mlp",
                    "tuner": "adapter",
                    "rank": 2,
                    "activation": "gelu",
                    "form": "parallel",
                    "scale": "none",
                    "blocks": "1-2",
                }
            ]
        },
    ]
    assert Design().key == "5fe77a8a3079"
    assert Design((adapter(),)).resolve(2).key == "54b398d52400"


def test_shallow_prompts_of_two_blocks_round_trip() -> None:
    prompts = tuple(Placement("block", PromptConfig(2, "shallow"), blocks=(b,)) for b in (1, 3))
    design = Design(prompts)
    assert len(design.placements) == 2
    assert Design.from_dict(design.to_dict()).resolve(DEPTH) == design


def test_starts_as_backbone_needs_every_placement() -> None:
    prompt = Placement("block", PromptConfig(1, "deep"))
    assert Design().starts_as_backbone
    assert Design((adapter(),)).starts_as_backbone
    assert not Design((adapter(), prompt)).starts_as_backbone
    parallel = PromptConfig(1, "parallel")
    assert Design((Placement("mlp", parallel, scale="scalar"),)).starts_as_backbone
    assert not Design((Placement("mlp", parallel, scale=0.5),)).starts_as_backbone


def test_references_are_listed_once() -> None:
    keys = [r.key for r in Design((adapter(2), adapter(3))).references]
    assert keys
    assert len(keys) == len(set(keys))


# Lines

LINES: tuple[tuple[Placement, str], ...] = (
    (
        Placement("attention", AdapterConfig(8), "parallel", "channel", tuple(range(1, 13))),
        "attention: parallel adapter r=8 ×channel, blocks 1-12",
    ),
    (
        Placement("mlp", AdapterConfig(4, "relu"), "sequential", 0.5, "last 1/2"),
        "mlp: sequential adapter r=4 relu ×0.5, blocks last 1/2",
    ),
    (Placement("block", AdapterConfig(1), "mixed"), "block: mixed adapter r=1, blocks all"),
    (
        Placement("qkv", LoraConfig(8), "parallel", "scalar", (7, 1, 2, 3)),
        "qkv: parallel LoRA r=8 ×scalar, blocks 1-3,7",
    ),
    (Placement("proj", LoraConfig(2), scale=4), "proj: parallel LoRA r=2 ×4, blocks all"),
    (Placement("attention", PrefixConfig(10, "exact"), blocks=(1,)), "attention: exact prefix l=10, block 1"),
    (Placement("block", PrefixConfig(10), "mixed"), "block: mixed prefix l=10, blocks all"),
    (Placement("block", PromptConfig(10)), "block: deep prompt l=10, blocks all"),
    (Placement("block", PromptConfig(10, "shallow"), blocks=(1,)), "block: shallow prompt l=10, block 1"),
    (Placement("mlp", PromptConfig(5, "parallel"), scale=-2.0), "mlp: parallel prompt l=5 ×-2, blocks all"),
    (Placement("fc1", ScaleShiftConfig(), blocks="every 2"), "fc1: scale-shift, blocks every 2"),
    (Placement("fc2", BiasConfig(), blocks=(2, 4)), "fc2: bias, blocks 2,4"),
    (Placement("final", BiasConfig()), "final: bias"),
    (Placement("mlp", NormConfig(), blocks="first 3"), "mlp: norm, blocks first 3"),
)


@pytest.mark.parametrize(("placement", "line"), LINES, ids=[line for _, line in LINES])
def test_placement_line(placement: Placement, line: str) -> None:
    assert str(placement) == line


@pytest.mark.parametrize(
    ("design", "line"),
    [
        (Design(), "linear probe"),
        (Design((), 1e-3), "linear probe; lr 0.001"),
        (
            Design(
                (
                    Placement("mlp", AdapterConfig(8), scale="channel"),
                    Placement("attention", AdapterConfig(8), scale="channel"),
                ),
                5e-4,
            ).resolve(12),
            "attention: parallel adapter r=8 ×channel, blocks 1-12; "
            "mlp: parallel adapter r=8 ×channel, blocks 1-12; lr 0.0005",
        ),
        (
            Design(
                (
                    Placement("qkv", LoraConfig(4)),
                    Placement("block", PromptConfig(3)),
                    Placement("mlp", NormConfig()),
                    Placement("attention", PrefixConfig(2, "exact"), blocks=(2,)),
                )
            ),
            "attention: exact prefix l=2, block 2; mlp: norm, blocks all; "
            "block: deep prompt l=3, blocks all; qkv: parallel LoRA r=4, blocks all",
        ),
    ],
    ids=str,
)
def test_design_line(design: Design, line: str) -> None:
    assert str(design) == line


# What cannot be built


def read(**table: Any) -> Placement:
    return Placement.from_dict(table, "a.toml, placement 1")


def shallow(*blocks: int) -> Placement:
    return Placement("block", PromptConfig(2, "shallow"), blocks=blocks)


ILLEGAL: dict[str, tuple[Callable[[], Any], str]] = {
    "rank 0": (lambda: AdapterConfig(0), r"tuner 'adapter': rank is an integer from 1 to 4096; got 0"),
    "rank beyond": (lambda: LoraConfig(4097), r"tuner 'lora': rank is an integer from 1 to 4096; got 4097"),
    "rank of text": (lambda: LoraConfig("8"), r"rank is an integer from 1 to 4096; got '8'"),  # type: ignore[arg-type]
    "length beyond": (lambda: PrefixConfig(513), r"tuner 'prefix': length is an integer from 1 to 512; got 513"),
    "prompt length": (lambda: PromptConfig(0), r"tuner 'prompt': length is an integer from 1 to 512; got 0"),
    "activation": (lambda: AdapterConfig(1, "tanh"), r"activation is one of gelu, relu; got 'tanh'"),
    "reading": (lambda: PrefixConfig(1, "deep"), r"reading is one of exact, parallel, gated; got 'deep'"),
    "lora at attention": (
        lambda: Placement("attention", LoraConfig(1)),
        r"placement of 'lora' at 'attention': a LoRA is legal at: qkv, q, k, v, proj, fc1, fc2; got 'attention'",
    ),
    "exact prefix at mlp": (
        lambda: Placement("mlp", PrefixConfig(1, "exact")),
        r"a exact prefix is legal at: attention; got 'mlp'|an exact prefix is legal at: attention; got 'mlp'",
    ),
    "deep prompt at mlp": (lambda: Placement("mlp", PromptConfig(1)), r"a deep prompt is legal at: block; got 'mlp'"),
    "shallow prompt in two blocks": (
        lambda: shallow(1, 2),
        r"a shallow prompt enters at one block and stays; got \[1, 2\]\. Name one block",
    ),
    "shallow prompt in all blocks": (
        lambda: Placement("block", PromptConfig(1, "shallow")).resolve(DEPTH),
        r"a shallow prompt enters at one block and stays",
    ),
    "scale on a norm": (
        lambda: Placement("mlp", NormConfig(), scale="channel"),
        r"placement of 'norm' at 'mlp': a norm has no scale; got 'channel'\. Leave scale out",
    ),
    "scale on scale-shift": (lambda: Placement("mlp", ScaleShiftConfig(), scale=2), r"a scale-shift has no scale"),
    "scale 0": (lambda: adapter(scale=0), r"scale is .* or a constant other than 0; got 0"),
    "scale nan": (lambda: adapter(scale=float("nan")), r"a constant other than 0; got nan"),
    "scale infinite": (lambda: adapter(scale=float("inf")), r"a constant other than 0; got inf"),
    "scale true": (lambda: adapter(scale=True), r"a constant other than 0; got True"),
    "unknown scale": (lambda: adapter(scale="chanel"), r"scale is \"none\", \"scalar\", \"channel\".*; got 'chanel'"),
    "form of a bias": (
        lambda: Placement("mlp", BiasConfig(), "sequential"),
        r"the form of a bias is one of: parallel; got 'sequential'",
    ),
    "inside adapter": (lambda: adapter(form="inside"), r"is one of: parallel, sequential, mixed; got 'inside'"),
    "unknown operation": (
        lambda: read(operation="atention", tuner="adapter", rank=1),
        r"operation is a known one; got 'atention'\. Did you mean 'attention'\?",
    ),
    "unknown tuner": (
        lambda: read(operation="mlp", tuner="adaptor", rank=1),
        r"a\.toml, placement 1: tuner is a known kind; got 'adaptor'\. Did you mean 'adapter'\?",
    ),
    "unknown option": (
        lambda: read(operation="mlp", tuner="adapter", ranc=1),
        r"a\.toml, placement 1, tuner 'adapter': only known keys .* got 'ranc'\. Did you mean 'rank'\?",
    ),
    "misspelt placement key": (
        lambda: read(operation="mlp", tuner="adapter", rank=1, block="all"),
        r"got 'block'\. Did you mean 'blocks'\?",
    ),
    "blocks of what lies outside them": (
        lambda: read(operation="final", tuner="bias", blocks="last 1/2"),
        r"'bias' at 'final': it lies outside the blocks; got blocks 'last 1/2'\. Leave blocks out\.",
    ),
    "unknown form": (
        lambda: read(operation="mlp", tuner="adapter", rank=1, form="paralell"),
        r"form is a known one; got 'paralell'\. Did you mean 'parallel'\?",
    ),
    "option of another tuner": (
        lambda: read(operation="mlp", tuner="bias", rank=1),
        r"tuner 'bias': only known keys are allowed; got 'rank'",
    ),
    "no rank": (lambda: read(operation="mlp", tuner="adapter"), r"tuner 'adapter': rank is given; got nothing"),
    "no operation": (lambda: read(tuner="bias"), r"a\.toml, placement 1: operation is given; got nothing"),
    "no tuner": (lambda: read(operation="mlp"), r"a\.toml, placement 1: tuner is given; got nothing"),
    "unknown design key": (
        lambda: Design.from_dict({"learning_rates": 1}),
        r"design: only known keys .* got 'learning_rates'\. Did you mean 'learning_rate'\?",
    ),
    "learning rate 0": (lambda: Design((), 0), r"design: learning_rate is a number above 0; got 0"),
    "learning rate nan": (lambda: Design((), float("nan")), r"learning_rate is a number above 0; got nan"),
    "equal placements": (
        lambda: Design((adapter(), adapter())).resolve(DEPTH),
        r"equal tuners at one operation are placed in a block once; got mlp: parallel adapter r=2, blocks 1-6",
    ),
    "overlapping numbers": (
        lambda: Design((adapter(blocks=(1, 2)), adapter(blocks=(2, 3)))),
        r"equal tuners at one operation are placed in a block once",
    ),
    "overlapping patterns": (
        lambda: Design((adapter(blocks="first 4"), adapter(blocks="last 4"))).resolve(DEPTH),
        r"equal tuners at one operation are placed in a block once",
    ),
    "overlapping pattern and numbers": (
        lambda: Design((adapter(blocks="first 4"), adapter(blocks=(4,)))).resolve(DEPTH),
        r"equal tuners at one operation are placed in a block once",
    ),
    "equal scales, spelled twice": (
        lambda: Design((adapter(scale=1), adapter(scale="none"))).resolve(DEPTH),
        r"equal tuners at one operation are placed in a block once",
    ),
    "one shallow prompt twice": (
        lambda: Design((shallow(2), shallow(2))),
        r"equal tuners at one operation are placed in a block once",
    ),
    "a later shallow prompt twice": (
        lambda: Design((shallow(1), shallow(2), shallow(2))),
        r"equal tuners at one operation are placed in a block once",
    ),
    "blocks beyond depth": (lambda: adapter(blocks=(1, 7)).resolve(DEPTH), r"blocks match at least one of 1 to 6"),
    "first beyond depth": (lambda: adapter(blocks="first 7").resolve(DEPTH), r"blocks lie within the backbone's 6"),
    "block 0": (
        lambda: adapter(blocks=(0, 1)),
        r"blocks is a pattern, or a non-empty list of numbers from 1; got \(0, 1\)",
    ),
    "no blocks": (lambda: adapter(blocks=()), r"blocks is a pattern, or a non-empty list of numbers from 1; got \(\)"),
    "unresolved": (lambda: adapter().block_numbers(), r"the design is resolved for a depth first; got all"),
}


@pytest.mark.parametrize(("build", "rule"), ILLEGAL.values(), ids=ILLEGAL.keys())
def test_illegal_cannot_be_built(build: Callable[[], Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        build()


GOOD = {"operation": "mlp", "tuner": "adapter", "rank": 1}


@pytest.mark.parametrize(
    "table",
    [
        {"placements": 3},
        {"placements": [3]},
        {"placements": ["mlp"]},
        {"placements": GOOD},
        {"learning_rate": "fast"},
        {"learning_rate": True},
        {"placements": [{**GOOD, "blocks": 3}]},
        {"placements": [{**GOOD, "blocks": ["first"]}]},
        {"placements": [{**GOOD, "blocks": [1.5]}]},
        {"placements": [{**GOOD, "blocks": [True]}]},
        {"placements": [{**GOOD, "blocks": [1, "2"]}]},
        {"placements": [{**GOOD, "blocks": [[1]]}]},
        {"placements": [{**GOOD, "operation": 3}]},
        {"placements": [{**GOOD, "operation": ["mlp"]}]},
        {"placements": [{**GOOD, "tuner": ["adapter"]}]},
        {"placements": [{**GOOD, "form": 1}]},
        {"placements": [{**GOOD, "scale": ["none"]}]},
        {"placements": [{**GOOD, "rank": [1]}]},
        {"placements": [{**GOOD, "activation": ["gelu"]}]},
    ],
    ids=lambda t: str(next(iter(t.values()))).replace(str(GOOD)[1:-1], "..."),
)
def test_values_of_a_wrong_type_are_input_errors(table: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Design.from_dict(table).resolve(DEPTH)


# Blocks


@pytest.mark.parametrize(
    ("pattern", "depth", "expected"),
    [
        ("all", 3, (1, 2, 3)),
        ("first 1", 12, (1,)),
        ("first 3", 3, (1, 2, 3)),
        ("last 1", 12, (12,)),
        ("last 3", 12, (10, 11, 12)),
        ("first 1/2", 5, (1, 2, 3)),
        ("last 1/2", 5, (3, 4, 5)),
        ("last 1/2", 1, (1,)),
        ("first 1/3", 12, (1, 2, 3, 4)),
        ("last 2/3", 12, tuple(range(5, 13))),
        ("first 1/100", 12, (1,)),
        ("first 1/10", 30, (1, 2, 3)),  # exact, not 0.1 * 30 = 3.0000000000000004
        ("last 3/3", 4, (1, 2, 3, 4)),
        ("every 1", 3, (1, 2, 3)),
        ("every 2", 6, (2, 4, 6)),
        ("every 3", 7, (3, 6)),
        ("every 6", 6, (6,)),
        ("5", 6, (5,)),
        ("1-4,7", 12, (1, 2, 3, 4, 7)),
        ("7,1-4", 12, (1, 2, 3, 4, 7)),
        ("1-3,2-5,5", 6, (1, 2, 3, 4, 5)),
        ("3-3", 6, (3,)),
    ],
)
def test_pattern_table(pattern: str, depth: int, expected: tuple[int, ...]) -> None:
    assert block_sets.resolve(pattern, depth, "here") == expected


@pytest.mark.parametrize(
    "pattern",
    [
        "", " ", "al", "All", "first", "first 0", "first -1", "first 1.5", "first  2", "first 2 ", "last 0", "last 3/2",
        "last 0/2", "last 1/0", "last 1/", "every 0", "every 1/2", "odd 2", "1-", "-1", "1,,2", "1, 2", "1;2", ",1",
        "a", "first 1,last 1", "4-2", "2-1,3", "1-99999999999", "last 10000", "first 1/10000", "9" * 5000,
    ],
)  # fmt: skip
def test_malformed_pattern_is_refused(pattern: str) -> None:
    for refuse in (lambda: block_sets.check_pattern(pattern, "here"), lambda: adapter(blocks=pattern)):
        with pytest.raises(InputError, match='blocks are "all", "first N"'):
            refuse()


@pytest.mark.parametrize("pattern", ["first 13", "last 13", "every 13", "0", "0-3", "13", "12-13"])
def test_pattern_beyond_the_depth_is_refused(pattern: str) -> None:
    with pytest.raises(InputError, match=r"here: .*12.* got '" + pattern):
        block_sets.resolve(pattern, 12, "here")


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [((1, 2, 3, 7), "1-3,7"), ((3, 1, 2), "1-3"), ((5,), "5"), ((1, 3, 5), "1,3,5"), ((1, 2), "1-2"), ((), "")],
)
def test_block_text(blocks: tuple[int, ...], expected: str) -> None:
    assert block_sets.text(blocks) == expected


def test_a_hash_stays_in_its_process() -> None:
    """Another process hashes words to other numbers, so a design that was sent there must find its own."""
    design = Design.preset("lora", learning_rate=0.005)
    assert hash(design) == hash(Design.preset("lora", learning_rate=0.005)) != hash(Design.preset("lora"))
    sent = pickle.loads(pickle.dumps(design))
    assert "_hash" in vars(design)
    assert "_hash" not in vars(sent)
    assert sent == design
    assert {design: 1}[sent] == 1
