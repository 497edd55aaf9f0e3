"""What is legal is a choice and nothing else is: operations and forms by variant; a bypass stands alone."""

import copy
from typing import Any

import optuna
import pytest

from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.spaces.domains import Choice, IntRange
from utuning_search.designs.spaces.space import Space
from utuning_search.tuners import AdapterConfig, ConvConfig, Form, LoraConfig, NormConfig, Operation

from .walking import DEPTH, RATE, enumerated, exists, one_slot, walked

BYPASS = {"kind": "adapter", "form": "bypass"}
LEFT = ["none", "norm"]


def slots(name: str, *found: dict[str, Any], **shared: Any) -> dict[str, Any]:
    named = [{"name": name, **slot} for name, slot in zip("abcd", found, strict=False)]
    return {"name": name, "slots": named, **({"shared": shared} if shared else {})}


CORES = one_slot(
    operation=["attention", "mhsa"],
    tuner=["none", "adapter", "conv", "norm", {"kind": "prefix", "reading": "exact"}],
    form=["parallel", "mixed"],
    rank=[1, 2],
    length=3,
    scale=["none", 0.5],
    blocks=["all", "first 1"],
)
CORES_FIRST = one_slot(operation=["ffn", "block"], tuner="adapter", form=["mixed", "parallel"], rank=[1, 2])
CORES_SHARED = slots(
    "cores_shared",
    {"operation": ["mhsa", "attention"], "tuner": ["none", "adapter", "norm"], "rank": [1, 2]},
    {"operation": ["mlp", "ffn"], "tuner": ["none", "conv"], "rank": 1},
    form=["parallel", "sequential"],
    blocks=["all", "last 1"],
)
GROUPS = one_slot(
    operation=["qkv", "k", "q+k", "norm1", "q+norm2", "norm1+norm2", "fc1+fc2"],
    tuner=["none", "bias", "scale_shift", "lora"],
    rank=[1, 2],
    form=["parallel", "sequential"],
)
FIXED = one_slot(
    operation=["mlp", "ffn"],
    tuner=["none", "adapter", {"kind": "adapter", "form": "mixed"}, {"kind": "conv", "form": "sequential"}],
    form="parallel",
    rank=[1, 2],
)
UNLIKE = slots(  # equal kinds at operations that both slots list, but never at the same one
    "unlike",
    {"operation": ["qkv", "mlp"], "tuner": ["none", "lora", "norm"], "rank": [1, 2]},
    {"operation": ["mlp", "fc1"], "tuner": ["none", "lora", "bias"], "rank": [1, 2]},
)
ALONE = slots(
    "alone",
    {"operation": "attention", "tuner": LEFT},
    {"operation": "block", "tuner": ["none", "adapter", BYPASS], "rank": [1, 2], "activation": ["relu", "gelu"]},
    {"operation": "qkv", "tuner": ["none", "lora"], "rank": [1, 3]},
    scale=["none", "channel"],
    blocks=["all", "first 1"],
)
ALWAYS_SOMETHING = slots(  # the other slots have no "none", nor has the one with the bypass
    "always",
    {"operation": ["block", "mlp"], "tuner": [BYPASS, "conv"], "rank": [1, 2], "form": ["parallel", "mixed"]},
    {"operation": ["attention", "mhsa"], "tuner": "adapter", "rank": [1, 2], "form": ["parallel", "mixed"]},
)
BYPASS_ONLY = one_slot(operation="block", tuner=BYPASS, rank=[1, 2], blocks=["all", "last 1"])
BESIDE_EACH = slots(
    "each",
    {"operation": "attention", "tuner": LEFT, "blocks": "each"},
    {"operation": "block", "tuner": [BYPASS, "none"], "rank": [1, 2]},
)
BESIDE_SWITCHES = slots(
    "switches",
    {"operation": "attention", "tuner": "adapter", "rank": [1, 2]},
    {"operation": "block", "tuner": ["adapter", BYPASS], "rank": [3, 4], "blocks": ["all", "first 1"]},
    {"operation": "mlp", "tuner": ["none", "norm"]},
    {"operation": "fc1", "tuner": "bias", "blocks": "any"},
    blocks="any",
    scale=["none", "scalar"],
)
SMALL = {
    "cores": CORES,
    "cores-first": CORES_FIRST,
    "cores-shared": CORES_SHARED,
    "groups": GROUPS,
    "fixed": FIXED,
    "unlike": UNLIKE,
    "alone": ALONE,
    "always-something": ALWAYS_SOMETHING,
    "bypass-only": BYPASS_ONLY,
    "beside-each": BESIDE_EACH,
    "beside-switches": BESIDE_SWITCHES,
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_combination_is_a_design_of_its_own_that_is_found_again(name: str, depth: int) -> None:
    space = Space.from_dict(copy.deepcopy(SMALL[name]))
    keys = []
    for design, chosen in walked(space, depth):
        keys.append(design.key)
        params = space.params_of(design, depth)
        assert params is not None, str(design)
        assert space.suggest(optuna.trial.FixedTrial(params), depth, RATE) == design
        if name != "beside-switches":  # where all are off has many spellings
            assert params == {variable: value for variable, (_, value) in chosen.items()}
    assert space.size(depth) == len(set(keys))
    assert len(set(keys)) == len(keys) or name == "beside-switches"


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_variable_has_one_set_and_is_asked_for_where_its_condition_says(name: str, depth: int) -> None:
    space = Space.from_dict(copy.deepcopy(SMALL[name]))
    variables = {v.name: v for v in space.variables(depth)}
    seen = set()
    for _, chosen in walked(space, depth):
        values = {variable: value for variable, (_, value) in chosen.items()}
        due = {v.name for v in variables.values() if exists(v.exists_if, values)}
        assert values.keys() == due, values
        seen |= due
        for variable, (choices, _) in chosen.items():
            domain = variables[variable].domain
            assert isinstance(domain, Choice)
            assert domain.values == choices
    assert seen == variables.keys()


def test_an_operation_is_a_choice_where_the_tuner_is_legal() -> None:
    names = {v.name: v.domain for v in Space.from_dict(GROUPS).variables(DEPTH)}
    assert names["a.operation"] == Choice(("qkv", "k", "q+k", "norm1", "norm2+q", "norm1+norm2", "fc1+fc2"))
    assert names["a.operation.bias"] == Choice(("qkv", "norm1", "norm2+q", "norm1+norm2", "fc1+fc2"))
    assert names["a.operation.lora"] == Choice(("qkv", "k", "q+k", "fc1+fc2"))


def test_a_single_legal_operation_is_no_variable() -> None:
    names = {v.name: v.exists_if for v in Space.from_dict(CORES).variables(DEPTH)}
    assert "a.operation.norm" not in names
    assert names["a.operation"] == "a.tuner = adapter; a.tuner = conv"


def test_a_form_is_a_choice_where_it_is_legal_at_the_operation() -> None:
    space = Space.from_dict(CORES)
    forms = {p.form for d in enumerated(space, 2) for p in d.placements if p.operation == "mhsa"}
    assert forms == {"parallel"}
    (form,) = (v for v in space.variables(DEPTH) if v.name == "a.form")
    assert form.exists_if == (
        "a.tuner = adapter and a.operation = attention; a.tuner = conv and a.operation = attention"
    )


def test_forms_that_differ_from_operation_to_operation_are_variables_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forms: dict[Operation, tuple[Form, ...]] = {"attention": ("parallel", "sequential"), "mlp": ("sequential", "mixed")}
    monkeypatch.setattr(AdapterConfig, "forms_at", lambda _, operation: forms.get(operation, ("parallel", "mixed")))
    slot = {"tuner": ["none", "adapter"], "rank": 1, "form": ["parallel", "sequential", "mixed"]}
    one = one_slot(operation=["attention", "mlp", "qkv", "attention+mlp"], **slot)
    shared = slots("s", {**slot, "operation": "attention"}, {**slot, "operation": ["mlp", "qkv"]})
    shared["shared"] = {"form": ["parallel", "sequential", "mixed"]}
    for raw in shared["slots"]:
        del raw["form"]
    for space in map(Space.from_dict, (one, shared)):
        designs = enumerated(space, 2)  # which refuses one name with two sets
        assert space.size(2) == len({d.key for d in designs}) == len(designs)
        for design in designs:
            params = space.params_of(design, 2)
            assert params is not None
            assert space.suggest(optuna.trial.FixedTrial(params), 2, RATE) == design
    (both,) = (d for d in enumerated(Space.from_dict(one), 1) if len(d.placements) == 2)
    assert {p.form for p in both.placements} == {"sequential"}


def test_a_fixed_form_names_its_variant() -> None:
    space = Space.from_dict(FIXED)
    variables = {v.name: v.domain for v in space.variables(DEPTH)}
    assert variables["a.tuner"] == Choice(("none", "adapter", "adapter-mixed", "conv-sequential"))
    assert "a.form" not in variables
    forms = {(p.tuner.kind, p.operation, p.form) for d in enumerated(space, 1) for p in d.placements}
    assert forms == {
        ("adapter", "mlp", "parallel"),
        ("adapter", "ffn", "parallel"),
        ("adapter", "mlp", "mixed"),
        ("conv", "mlp", "sequential"),
    }  # fmt: skip


def test_nothing_is_chosen_beside_a_bypass() -> None:
    space = Space.from_dict(ALONE)
    side = Design((Placement("block", AdapterConfig(2), "bypass", "channel"),)).resolve(3)
    assert space.params_of(side, 3) == {
        "b.tuner": "adapter-bypass",
        "b.rank": 2,
        "b.activation": "gelu",
        "scale": "channel",
        "blocks": "all",
    }
    conditions = {v.name: v.exists_if for v in space.variables(3)}
    assert conditions["b.tuner"] == "always"
    assert conditions["a.tuner"] == conditions["c.tuner"] == "b.tuner is not adapter-bypass"


def test_a_bypass_is_asked_about_first_and_once() -> None:
    asked = [list(chosen) for _, chosen in walked(Space.from_dict(ALONE), 2)]
    assert {names[0] for names in asked} == {"b.tuner"}
    assert asked[0] == ["b.tuner", "a.tuner", "c.tuner"], "the others follow in the order of the slots"


def test_a_bypass_lies_in_no_space_without_one() -> None:
    raw = copy.deepcopy(ALONE)
    raw["slots"][1]["tuner"] = ["none", "adapter"]
    side = Design((Placement("block", AdapterConfig(2), "bypass"),)).resolve(3)
    assert Space.from_dict(ALONE).contains(side, 3)
    assert not Space.from_dict(raw).contains(side, 3)


def test_several_tuners_at_one_operation_are_still_told_apart() -> None:
    space = Space.from_dict(UNLIKE)
    lora = Placement("qkv", LoraConfig(1), "parallel"), Placement("fc1", LoraConfig(2), "parallel")
    assert space.contains(Design(lora).resolve(2), 2)
    assert not space.contains(Design((*lora, Placement("mlp", AdapterConfig(1)))).resolve(2), 2)
    assert not space.contains(Design((lora[0], Placement("mlp", NormConfig()))).resolve(2), 2)


def test_what_a_slot_places_is_alike_and_in_the_same_blocks() -> None:
    space = Space.from_dict(one_slot(operation=["mlp", "ffn", "ffn+mlp"], tuner=["none", "conv"], rank=[1, 2]))
    mlp, ffn = (Placement(at, ConvConfig(1), "parallel") for at in ("mlp", "ffn"))
    assert space.contains(Design((mlp, ffn)).resolve(2), 2)
    assert not space.contains(Design((mlp, Placement("ffn", ConvConfig(2), "parallel"))).resolve(2), 2)
    assert not space.contains(
        Design((mlp, Placement("ffn", ConvConfig(1), "parallel", blocks="first 1"))).resolve(2), 2
    )


def refusal(raw: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        Space.from_dict(raw)
    return str(caught.value)


ADAPTER_1 = {"tuner": "adapter", "rank": 1}
SIDE_1 = {"operation": "block", "tuner": ["none", BYPASS], "rank": 1}


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        (
            one_slot(operation=["mlp", "norm1"], tuner="lora", rank=1),
            ("tuner 'lora'", "LoRA is legal at: qkv", "'norm1'"),
        ),
        (one_slot(operation="qkv+k", tuner="bias"), ("a bias is legal at: attention", "got 'qkv+k'")),
        (
            one_slot(operation=["qkv", "qkv+k", "k"], tuner=["none", "bias"]),
            ("slot 'a', operation", "one of the tuners is legal", "(bias)", "got 'qkv+k'"),
        ),
        (
            one_slot(operation="mlp", tuner=BYPASS, rank=1),
            ("an adapter in form bypass is legal at: block", "got 'mlp'"),
        ),
        (
            one_slot(operation="mlp", tuner={"kind": "norm", "form": "mixed"}),
            ("a norm in form mixed is legal at: no operation",),
        ),
        (
            one_slot(operation="mhsa", **ADAPTER_1, form="sequential"),
            ("form", "one of the forms listed", "('parallel',)"),
        ),
        (one_slot(operation="mlp", tuner={"kind": "adapter", "form": "mixd"}, rank=1), ("Did you mean 'mixed'?",)),
        (one_slot(operation="mlp", tuner={"kind": "adapter", "form": 3}, rank=1), ("form", "got 3", "as text")),
        (
            one_slot(operation="mlp", tuner=["adapter", {"kind": "adapter", "form": "parallel"}], rank=1),
            ("'adapter' and 'adapter-parallel', which can be equal",),
        ),
        (
            slots("s", {"operation": "mlp", **ADAPTER_1}, {"operation": ["ffn", "mlp"], **ADAPTER_1}),
            ("slots 'a' and 'b'", "'adapter' at 'mlp' in both"),
        ),
        (slots("s", SIDE_1, {**SIDE_1, "rank": 2}), ("one slot has the bypasses", "['a', 'b']")),
        (
            slots("s", {**SIDE_1, "tuner": BYPASS}, {"operation": "mlp", "tuner": "norm"}),
            ("slot 'a' has nothing else", 'such as "none"'),
        ),
        (one_slot(**SIDE_1, blocks="each"), ("blocks", "patterns say where a bypass stands", "'each'")),
        (one_slot(**SIDE_1, blocks="any"), ("blocks", "patterns say where a bypass stands", "'any'")),
        (slots("s", SIDE_1, blocks="any"), ("blocks", "patterns say where a bypass stands", "'any'")),
    ],
)
def test_what_is_nowhere_legal_or_cannot_stand_alone_is_refused(raw: dict[str, Any], parts: tuple[str, ...]) -> None:
    message = refusal(raw)
    for part in parts:
        assert part in message, message


def test_values_of_an_option_are_legal_in_the_same_forms_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def forms_at(self: AdapterConfig, operation: Operation) -> tuple[Form, ...]:
        return ("parallel",) if (self.activation, operation) == ("relu", "ffn") else ("parallel", "mixed")

    raw = one_slot(operation="mlp", tuner="adapter", rank=1, activation=["gelu", "relu"])
    assert Space.from_dict(raw).size(1) == 2
    monkeypatch.setattr(AdapterConfig, "forms_at", forms_at)
    assert "activation to choose from are legal at the same places and in the same forms" in refusal(raw)


def test_a_slot_that_places_nothing_may_name_any_operation() -> None:
    assert Space.from_dict(one_slot(operation=["mlp", "qkv"], tuner="none")).size(DEPTH) == 1


def test_sizes_are_ranges_too() -> None:
    raw = one_slot(operation=["block", "ffn"], tuner=["adapter", BYPASS], rank={"low": 1, "high": 9})
    space = Space.from_dict(raw)
    assert {v.name: v.domain for v in space.variables(2)}["a.rank"] == IntRange(1, 9)
    assert space.size(2) == 3 * 9
