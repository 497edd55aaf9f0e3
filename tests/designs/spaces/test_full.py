"""`full` holds everything: every known method, and every tuner at every operation in every form."""

import random
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import optuna
import pytest

from utuning_search.common.bundled import bundled
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.presets import PRESETS, Preset
from utuning_search.designs.spaces.domains import Value
from utuning_search.designs.spaces.space import Space
from utuning_search.tuners import (
    FORMS,
    OPERATIONS,
    AdapterConfig,
    BiasConfig,
    ConvConfig,
    Form,
    LoraConfig,
    NormConfig,
    Operation,
    PrefixConfig,
    PromptConfig,
    Scale,
    ScaleShiftConfig,
    TunerConfig,
)
from utuning_search.tuners.registry import OURS

FULL = Space.load("full")
DEPTHS = (1, 2, 3, 6, 12, 24)
RATE = 0.005
# Every option that is no size, at each of its values; a new tuner or option is added here, and to the space.
SORTS: dict[str, list[dict[str, Any]]] = {
    "adapter": [{"rank": r, "activation": a} for r in (1, 64) for a in ("gelu", "relu")],
    "conv": [{"rank": r, "depthwise": d} for r in (1, 64) for d in (False, True)],
    "graph": [
        {"rank": r, "graph": g, "joined": j}
        for r in (1, 64)
        for g in ("grid4", "grid8", "nearest")
        for j in (False, True)
    ],
    "compacter": [{"rank": r, "terms": t} for r in (1, 64) for t in (1, 8)],
    "lora": [{"rank": 1}, {"rank": 64}],
    "experts": [{"rank": r, "dropout": d} for r in (1, 64) for d in (0.2, 0.5)],
    "fact": [{"rank": 1}, {"rank": 64}],
    "kronecker": [{"rank": r, "terms": t} for r in (1, 256) for t in (4, 32)],
    "grouped": [{"groups": 4}, {"groups": 512}],
    "vera": [{"rank": 1}, {"rank": 256}],
    "dora": [{"rank": 1}, {"rank": 256}],
    "rescale": [{"sides": "both"}, {"sides": "inputs"}],
    "oft": [{"parts": 2}, {"parts": 256}],
    "prefix": [{"length": n, "reading": r} for n in (1, 32) for r in ("exact", "parallel", "gated")],
    "prompt": [{"length": n, "reading": r} for n in (1, 32) for r in ("deep", "shallow", "parallel")],
    "scale_shift": [{"shift": True}, {"shift": False}],
    "bias": [{}],
    "norm": [{}],
    "repadapter": [{"rank": r, "groups": g} for r in (1, 64) for g in (1, 4)],
    "arc": [{"rank": 1}, {"rank": 64}],
    "sas": [{"rank": r, "embedding": e} for r in (1, 64) for e in (1, 8)],
}
SCALES: tuple[Scale, ...] = ("none", "scalar", "channel", "gate", 0.1, 4.0)
LEFT_OUT: frozenset[tuple[str, Operation, Form]] = frozenset()  # of kinds, operations and forms: nothing


def assert_inside(design: Design, depth: int) -> None:
    params = FULL.params_of(design, depth)
    assert params is not None, str(design)
    assert FULL.suggest(optuna.trial.FixedTrial(params), depth, RATE) == design


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.name)
def test_every_known_method_lies_in_it(preset: Preset, depth: int) -> None:
    assert_inside(Design(preset.placements(), FULL.preset_rate(RATE)).resolve(depth), depth)


def legal(tuner: TunerConfig) -> Iterator[tuple[Operation, Form]]:
    for operation in OPERATIONS:
        for form in FORMS:
            if operation in tuner.operations and form in tuner.forms_at(operation):
                yield operation, form


@pytest.mark.parametrize("tuner", OURS, ids=lambda t: t.kind)
def test_every_tuner_lies_in_it_wherever_and_however_it_is_legal(tuner: type[TunerConfig]) -> None:
    for options in SORTS[tuner.kind]:
        config = tuner(**options)
        for operation, form in legal(config):
            for scale in SCALES if config.scalable else ("none",):
                placement = Placement(operation, config, form, scale, "first 1" if config.once else "all")
                design = Design((placement,), RATE).resolve(12)
                if (config.kind, operation, form) in LEFT_OUT:
                    assert not FULL.contains(design, 12), str(design)
                else:
                    assert_inside(design, 12)


def test_sorts_name_every_tuner_and_option() -> None:
    assert SORTS.keys() == {tuner.kind for tuner in OURS}
    for tuner in OURS:
        assert all(options.keys() == {f.name for f in fields(tuner)} for options in SORTS[tuner.kind])


def test_its_forms_are_all_there_are() -> None:
    reached = {form for kind in OURS for options in SORTS[kind.kind] for _, form in legal(kind(**options))}
    assert reached == set(FORMS)


BESIDE: dict[str, tuple[Placement, ...]] = {
    "ssf-and-lora": (
        *(Placement(at, ScaleShiftConfig()) for at in ("norm1", "norm2", "qkv", "proj", "fc1", "fc2")),
        *(Placement(at, LoraConfig(8), "parallel") for at in ("q", "v")),
    ),
    "bitfit-and-adapter": (
        *(Placement(at, BiasConfig()) for at in ("norm1", "norm2", "qkv", "proj", "fc1", "fc2")),
        Placement("mlp", AdapterConfig(8, "relu"), "sequential", 0.1, "last 2/3"),
    ),
    "all-slots": (
        Placement("attention", PrefixConfig(32, "exact"), blocks="first 1/3"),
        Placement("ffn", ConvConfig(512, depthwise=True), "parallel", blocks="every 3"),
        Placement("block", PromptConfig(16, "shallow"), blocks="last 1"),
        Placement("k", LoraConfig(16), "mixed", "gate", "last 1/3"),
        Placement("norm1", BiasConfig(), blocks="first 1"),
        Placement("norm2", BiasConfig(), blocks="first 1"),
    ),
    "each-its-own-blocks-and-scale": (
        Placement("attention", AdapterConfig(4), "parallel", "channel", "first 1/2"),
        Placement("mlp", AdapterConfig(4), "parallel", 4.0, "last 1/2"),
        Placement("block", AdapterConfig(4, "relu"), "sequential", "none", "every 2"),
    ),
    "norms-and-scales-of-norms": (
        Placement("attention", NormConfig()),
        Placement("mlp", NormConfig()),
        Placement("norm1", ScaleShiftConfig()),
    ),
}


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("depth", [3, 6, 12])
def test_tuners_stand_beside_each_other(name: str, depth: int) -> None:
    assert_inside(Design(BESIDE[name], RATE).resolve(depth), depth)


def test_slots_share_no_variable() -> None:
    slots = {slot.name for slot in FULL.slots}
    assert {v.name.split(".")[0] for v in FULL.variables(12)} == slots | {"learning_rate"}


class Once:
    """A suggester with a random value for each variable that is asked for, which must be but once."""

    def __init__(self, seed: int) -> None:
        self.random, self.asked = random.Random(seed), set[str]()

    def _ask(self, name: str) -> None:
        assert name not in self.asked
        self.asked.add(name)

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        self._ask(name)
        return self.random.choice(choices)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:  # noqa: ARG002  # of the protocol
        self._ask(name)
        return self.random.randint(low, high)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:  # noqa: ARG002  # of the protocol
        self._ask(name)
        return self.random.uniform(low, high)


def test_no_variable_is_asked_for_twice() -> None:
    """So that a suggester need not remember what it gave."""
    for seed in range(100):
        trial = Once(seed)
        params = FULL.params_of(FULL.suggest(trial, 12, RATE), 12)
        assert params is not None
        assert params.keys() == trial.asked


def test_what_the_header_says_is_left_out_is() -> None:
    outside = (
        Design((Placement("mlp", AdapterConfig(513), "parallel"),)),
        Design((Placement("attention", PrefixConfig(33, "exact")),)),
        Design((Placement("mlp", AdapterConfig(4), "parallel", 0.3),)),
        Design((Placement("mlp", AdapterConfig(4), "parallel", blocks=(1, 6)),)),
        Design((Placement("mlp", AdapterConfig(4), "parallel"), Placement("mlp", NormConfig()))),
        Design((Placement("qkv", LoraConfig(4)), Placement("fc1", LoraConfig(8)))),
    )
    assert not any(FULL.contains(design.resolve(6), 6) for design in outside)
    header = bundled("space")["full"].read_text(encoding="utf-8").split("\nname = ")[0]
    assert "Left out" in header


def test_its_file_lists_each_slots_blocks_alike() -> None:
    """But that of what lies outside the blocks."""
    raw = tomllib.loads(bundled("space")["full"].read_text(encoding="utf-8"))
    assert len({tuple(slot["blocks"]) for slot in raw["slots"] if slot["name"] != "ends"}) == 1
