"""Draws, edits and crossovers lie in the space, and each changes what it says it does and nothing else."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from utuning_search.common.bundled import bundled
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.spaces.domains import Value
from utuning_search.designs.spaces.edits import MOST, Neighbourhoods
from utuning_search.designs.spaces.guided import Guided
from utuning_search.designs.spaces.space import Space
from utuning_search.tuners import AdapterConfig, BiasConfig, ExpertsConfig, LoraConfig, NormConfig

from .walking import DEPTH, RATE, one_slot

SPACES = tuple(bundled("space"))
KINDS = {"size", "rate", "blocks", "form", "scale", "operation", "option", "tuner", "add", "drop"}
SIZES = ("rank", "length", "terms", "groups", "parts", "embedding")
OPTIONS = ("activation", "depthwise", "dropout", "graph", "joined", "shift", "sides")
STEPS = 24  # a space


def around(name: str, depth: int = DEPTH) -> Neighbourhoods:
    return Neighbourhoods(Space.load(name), depth, RATE)


def own(*slots: dict[str, Any], **others: Any) -> Neighbourhoods:
    """A space of one's own, with slots a, b ..."""
    named = [{"name": name, **slot} for name, slot in zip("abcd", slots, strict=False)]
    return Neighbourhoods(Space.from_dict({"name": "own", "slots": named, **others}), DEPTH, RATE)


def values(near: Neighbourhoods, design: Design) -> dict[str, Value]:
    found = near.space.params_of(design, near.depth)
    assert found is not None, f"{design} lies outside the space"
    return found


def drawn(near: Neighbourhoods, count: int, seed: int = 0) -> list[Design]:
    rng = np.random.default_rng(seed)
    return [near.draw(rng) for _ in range(count)]


def edited(near: Neighbourhoods, design: Design, count: int, seed: int = 0) -> list[Design]:
    """Edits of one design, without those that came to nothing."""
    rng = np.random.default_rng(seed)
    found = [near.edit(design, rng) for _ in range(count)]
    return [d for d in found if d is not None]


def changed(before: dict[str, Value], after: dict[str, Value]) -> list[str]:
    """Variables that are in play before and after, with another value."""
    return sorted(name for name in before.keys() & after.keys() if before[name] != after[name])


def kind_of(before: dict[str, Value], after: dict[str, Value]) -> str:
    (name,) = changed(before, after)
    field = name.removeprefix("learning_").rpartition(".")[2] if "." not in name else name.split(".")[-1]
    if field == "tuner":
        return "add" if before[name] == "none" else "drop" if after[name] == "none" else "tuner"
    for part in name.split("."):
        if part in ("operation", "form", "scale", "blocks"):
            return part
    return "size" if field in SIZES else "option" if field in OPTIONS else field


# What every bundled space holds of them


@pytest.mark.parametrize("depth", [1, DEPTH])
@pytest.mark.parametrize("name", SPACES)
def test_draws_edits_and_crossovers_lie_in_the_space(name: str, depth: int) -> None:
    near, rng = around(name, depth), np.random.default_rng(0)
    found = drawn(near, STEPS, seed=1)
    for i in range(3 * STEPS):  # walks, of edits of edits and children of children
        design = near.edit(found[-i % len(found)], rng) if i % 3 else near.cross(found[i // 3], found[-1], rng)
        found += [] if design is None else [design]
    assert len(found) > STEPS
    for design in found:
        assert near.space.contains(design, depth), str(design)
        assert design == design.resolve(depth)
        assert near.space.learning_rate is not None or design.learning_rate == RATE


@pytest.mark.parametrize("name", SPACES)
def test_equal_seeds_give_equal_designs(name: str) -> None:
    def walked(seed: int, near: Neighbourhoods) -> list[Design | None]:
        rng = np.random.default_rng(seed)
        one, other = near.draw(rng), near.draw(rng)
        return [one, other, *(near.edit(one, rng) for _ in range(4)), near.cross(one, other, rng)]

    near = around(name)
    assert walked(3, near) == walked(3, around(name))
    assert walked(3, near) != walked(4, near)
    assert walked(3, near) == walked(3, around(name)), "whatever was edited before"


@pytest.mark.parametrize("name", SPACES)
def test_an_edit_changes_one_variable_of_those_that_stay_in_play(name: str) -> None:
    near, rng = around(name), np.random.default_rng(2)
    came_to_something = 0
    for design in drawn(near, 2 * STEPS):
        after = near.edit(design, rng)
        if after is None:
            continue
        came_to_something += 1
        assert after != design
        if after.placements or name != "autopeft":  # where all switches are off has many spellings
            assert len(changed(values(near, design), values(near, after))) == 1, f"{design} to {after}"
    assert came_to_something >= 0.9 * 2 * STEPS


def test_where_nothing_can_change_there_is_no_edit() -> None:
    near = own({"operation": "mlp", "tuner": "norm"})
    rng = np.random.default_rng(0)
    assert near.edit(near.draw(rng), rng) is None


def test_what_the_space_does_not_hold_has_no_edit_and_no_child() -> None:
    near, rng = around("smoke"), np.random.default_rng(0)
    inside, outside = near.draw(rng), Design((Placement("qkv", LoraConfig(1)),), RATE).resolve(DEPTH)
    assert near.edit(outside, rng) is None
    assert (near.holds(inside), near.holds(outside)) == (True, False)
    assert near.cross(outside, inside, rng) is None
    assert near.cross(inside, outside, rng) is None


# Kinds of edits


def test_every_kind_of_edit_happens_in_a_large_space() -> None:
    near, rng = around("full"), np.random.default_rng(0)
    seen: Counter[str] = Counter()
    for design in drawn(near, 400):
        after = near.edit(design, rng)
        if after is not None:
            seen[kind_of(values(near, design), values(near, after))] += 1
    assert seen.keys() == KINDS
    assert min(seen.values()) >= 8, "none is rare"


def test_the_kind_is_drawn_first_so_that_few_variables_do_not_make_it_rare() -> None:
    """Of this design one variable chooses an option, and dozens of alternatives add a tuner."""
    near = around("full")
    experts = Placement("qkv", ExpertsConfig(8, 0.2), "parallel", "none")
    design = Design((experts, Placement("attention", NormConfig())), 0.005).resolve(DEPTH)
    seen = Counter(kind_of(values(near, design), values(near, d)) for d in edited(near, design, 500))
    assert seen.keys() == KINDS
    assert max(seen.values()) < 2.2 * min(seen.values())


def test_a_switch_is_an_option_and_not_a_size() -> None:
    """Of two sizes and a switch, the switch is half of the edits."""
    near = own(
        {"operation": "mlp", "tuner": "conv", "form": "parallel", "rank": [1, 2, 4], "depthwise": [False, True]},
        {"operation": "qkv", "tuner": "lora", "form": "parallel", "rank": {"low": 1, "high": 8}},
    )
    design = drawn(near, 1)[0]
    names = Counter(changed(values(near, design), values(near, d))[0] for d in edited(near, design, 200))
    assert names.keys() == {"a.rank", "a.depthwise", "b.rank"}
    assert names["a.depthwise"] / 200 == pytest.approx(0.5, abs=0.08)
    assert names["a.rank"] / 200 == pytest.approx(0.25, abs=0.08)


def test_a_variable_that_comes_into_play_is_drawn() -> None:
    near = own({"operation": "mlp", "tuner": ["none", "adapter"], "form": "parallel", "rank": [1, 2, 4]})
    nothing = Design((), RATE)
    ranks = Counter(values(near, d)["a.rank"] for d in edited(near, nothing, 90))
    assert ranks.keys() == {1, 2, 4}
    assert min(ranks.values()) > 15


def test_a_tuner_of_another_kind_keeps_what_both_have() -> None:
    near = own({"operation": "mlp", "tuner": ["adapter", "conv"], "form": "parallel", "rank": {"low": 1, "high": 64}})
    design = Design((Placement("mlp", AdapterConfig(17), "parallel"),), RATE).resolve(DEPTH)
    conv = [d for d in edited(near, design, 40) if d.placements[0].tuner.kind == "conv"]
    assert conv
    assert {d.placements[0].tuner.options()["rank"] for d in conv} == {17}


# Steps of numbers


def adapters(rank: object, **others: Any) -> Neighbourhoods:
    return own({"operation": "mlp", "tuner": "adapter", "form": "parallel", "rank": rank}, **others)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("rank", range(1, 9))
def test_a_step_of_a_size_is_another_one_of_the_range_within_a_factor(rank: int, log: bool) -> None:
    near = adapters({"low": 1, "high": 8, "log": log})
    design = Design((Placement("mlp", AdapterConfig(rank), "parallel"),), RATE).resolve(DEPTH)
    after = edited(near, design, 60)
    assert len(after) == 60, "another value is always found, at the ends too"
    ranks = {int(d.placements[0].tuner.options()["rank"]) for d in after}
    assert ranks <= set(range(1, 9)) - {rank}
    assert all(rank / MOST - 0.5 <= r <= rank * MOST + 0.5 for r in ranks)
    assert any(r < rank for r in ranks) == (rank > 1)
    assert any(r > rank for r in ranks) == (rank < 8)


def test_a_step_at_an_end_goes_inwards() -> None:
    """A range of two has one step, from either end."""
    near = adapters({"low": 3, "high": 4})
    for rank, other in ((3, 4), (4, 3)):
        design = Design((Placement("mlp", AdapterConfig(rank), "parallel"),), RATE).resolve(DEPTH)
        assert {d.placements[0].tuner.options()["rank"] for d in edited(near, design, 20)} == {other}


@pytest.mark.parametrize(("rank", "next_to_it"), [(1, {4, 16}), (4, {1, 16}), (16, {4, 64}), (256, {16, 64})])
def test_a_step_of_listed_sizes_is_to_one_of_the_two_nearest(rank: int, next_to_it: set[int]) -> None:
    near = adapters([64, 1, 256, 4, 16])
    design = Design((Placement("mlp", AdapterConfig(rank), "parallel"),), RATE).resolve(DEPTH)
    assert {d.placements[0].tuner.options()["rank"] for d in edited(near, design, 40)} == next_to_it


def test_a_step_of_a_group_of_operations_is_to_one_with_little_else() -> None:
    """One more, one fewer, another one, or both norms."""
    groups = ["qkv", "qkv+proj", "qkv+fc1", "qkv+proj+fc1+fc2", "norm1+norm2+qkv", "norm1+norm2+proj+fc1+fc2"]
    near = own({"operation": groups, "tuner": "bias"})
    start = Design((Placement("qkv", BiasConfig()),), RATE).resolve(DEPTH)
    found = {"+".join(p.operation for p in d.placements) for d in edited(near, start, 60)}
    assert found == {"qkv+proj", "qkv+fc1", "norm1+norm2+qkv"}
    far = own({"operation": ["qkv", "norm1+norm2+proj+fc1"], "tuner": "bias"})
    assert edited(far, start, 20), "where nothing is near, any"


@pytest.mark.parametrize(
    "scales",
    [["none", 0.1, 0.5, 4.0], [0.1, 0.5, 4.0, "channel", "gate"], [0.1, 2.0, -1.0, 4.0], [-0.1, -2.0, -4.0, -8.0]],
    ids=["and-none", "and-learned", "and-negative", "all-negative"],
)
def test_what_is_no_factor_of_the_others_steps_to_any_of_them(scales: list[str | float]) -> None:
    near = own({"operation": "mlp", "tuner": "adapter", "rank": 1, "form": "parallel", "scale": scales})
    for scale in scales:
        design = Design((Placement("mlp", AdapterConfig(1), "parallel", scale),), RATE).resolve(DEPTH)  # type: ignore[arg-type]  # a scale
        assert {d.placements[0].scale for d in edited(near, design, 60)} == set(scales) - {scale}


def test_a_step_of_the_rate_stays_in_its_range_and_within_a_factor() -> None:
    near = own({"operation": "mlp", "tuner": "norm"}, learning_rate={"low": 0.001, "high": 0.04, "log": True})
    for rate in (0.001, 0.003, 0.005, 0.02, 0.04):
        design = Design((Placement("mlp", NormConfig()),), rate).resolve(DEPTH)
        rates = {d.learning_rate or 0.0 for d in edited(near, design, 60)}
        assert rates
        assert rate not in rates
        assert all(0.001 <= r <= 0.04 and rate / MOST / 1.5 < r < rate * MOST * 1.5 for r in rates)
        assert any(r < rate for r in rates) == (rate > 0.001)
        assert any(r > rate for r in rates) == (rate < 0.04)


# Shared variables, sparse draws, crossovers


@pytest.mark.parametrize(
    ("name", "key", "operations"),
    [
        ("adapter", "form", ("attention", "mlp", "block")),
        ("adapter", "scale", ("attention", "mlp", "block")),
        ("prompt", "scale", ("attention", "mlp")),
        ("utuning", "scale", ("attention", "mlp")),
        ("utuning", "rank", ("attention", "mlp", "block")),
        ("utuning", "length", ("attention", "mlp", "block")),
        ("autopeft", "blocks", ("attention", "ffn", "block")),
    ],
)
def test_a_shared_variable_has_one_value(name: str, key: str, operations: tuple[str, ...]) -> None:
    shared = 0
    for design in drawn(around(name), 150):
        sharing = [p for p in design.placements if p.operation in operations and (key != "scale" or p.tuner.scalable)]
        tables = [p.to_dict() for p in sharing]
        found = [table[key] for table in tables if key in table]
        shared += len(found) > 1
        assert len(set(found)) <= 1, f"{key} of {design}"
    assert shared > 10


def test_a_range_that_slots_share_is_drawn_once() -> None:
    slots = [{"operation": at, "tuner": "adapter", "form": "parallel"} for at in ("attention", "mlp", "block")]
    near = own(*slots, shared={"rank": {"low": 1, "high": 64}})
    ranks = [{p.tuner.options()["rank"] for p in design.placements} for design in drawn(near, 30)]
    assert all(len(found) == 1 for found in ranks)
    assert len(set.union(*ranks)) > 10


def test_a_name_is_given_one_value_whatever_its_domain() -> None:
    stand_in = Guided(np.random.default_rng(0), {})
    assert len({stand_in.suggest_int("a", 1, 1000) for _ in range(5)}) == 1
    assert len({stand_in.suggest_float("b", 1.0, 1000.0) for _ in range(5)}) == 1
    assert len({stand_in.suggest_categorical("c", tuple(range(1000))) for _ in range(5)}) == 1


def test_what_is_told_is_given_where_it_is_legal() -> None:
    stand_in = Guided(np.random.default_rng(0), {"a": 900, "b": 0.5, "c": "mlp", "d": True, "e": 1})
    assert stand_in.suggest_int("a", 1, 10) <= 10
    assert stand_in.suggest_float("b", 0.1, 1.0) == 0.5
    assert stand_in.suggest_categorical("c", ("qkv", "proj")) in ("qkv", "proj")
    assert isinstance(stand_in.suggest_int("d", 1, 1), int)
    assert stand_in.suggest_categorical("e", (True, False)) in (True, False)


@pytest.mark.parametrize("log", [False, True])
def test_numbers_are_drawn_over_the_whole_range_evenly_or_by_orders_of_magnitude(log: bool) -> None:
    rng = np.random.default_rng(0)
    whole = [Guided(rng, {}).suggest_int("a", 1, 4, log=log) for _ in range(2000)]
    real = [Guided(rng, {}).suggest_float("a", 1.0, 100.0, log=log) for _ in range(2000)]
    ends = np.log([0.5, 1.5, 2.5, 3.5, 4.5]) if log else np.arange(5) + 0.5
    expected = np.diff(ends) / (ends[-1] - ends[0])
    assert np.bincount(whole, minlength=5)[1:] / 2000 == pytest.approx(expected, abs=0.04)
    assert np.mean(np.array(real) < 10) == pytest.approx(0.5 if log else 9 / 99, abs=0.04)


def filled(near: Neighbourhoods, design: Design) -> int:
    """Slots that place something."""
    return sum(v != "none" for name, v in values(near, design).items() if name.endswith(".tuner"))


@pytest.mark.parametrize("name", ["adapter", "prompt", "utuning", "full", "noah", "per_block"])
def test_draws_are_sparse(name: str) -> None:
    near = around(name)
    counts = Counter(filled(near, d) for d in drawn(near, 250))
    slots = len(near.space.slots_at(DEPTH))
    for few in range(1, 4):
        expected = 1 / few / sum(1 / n for n in range(1, slots + 1))
        assert counts[few] / 250 == pytest.approx(expected, abs=0.1), "k slots a k-th as often as one"
    assert counts[0] == 0, "a linear probe needs no search"


def test_every_slot_and_every_tuner_is_drawn() -> None:
    near = around("full")
    seen = {(n, v) for d in drawn(near, 400) for n, v in values(near, d).items() if n.endswith(".tuner")}
    assert seen == {(f"{s.name}.tuner", v.label) for s in near.space.slots_at(DEPTH) for v in s.variants}


def test_slots_without_none_are_filled_in_any_draw() -> None:
    near = own(
        {"operation": "mlp", "tuner": ["adapter", "norm"], "rank": 1},
        {"operation": "qkv", "tuner": "lora", "rank": [1, 2]},
        {"operation": "attention", "tuner": ["none", "norm"]},
    )
    assert all({p.operation for p in d.placements} == {"mlp", "qkv", "attention"} for d in drawn(near, 20))


def by_slot(near: Neighbourhoods, design: Design) -> dict[str, dict[str, Value]]:
    """Values by slot; a shared variable stands by itself."""
    names = sorted((s.name for s in near.space.slots_at(near.depth)), key=len, reverse=True)
    found: dict[str, dict[str, Value]] = {}
    for name, value in values(near, design).items():
        slot = next((s for s in names if name.startswith(f"{s}.")), name)
        found.setdefault(slot, {})[name] = value
    return found


@pytest.mark.parametrize("name", SPACES)
def test_a_child_has_each_slot_whole_from_a_parent(name: str) -> None:
    near, rng = around(name), np.random.default_rng(0)
    designs = drawn(near, 60)
    from_both = 0
    for one, other in zip(designs[::2], designs[1::2], strict=True):
        child = near.cross(one, other, rng)
        if child is None:
            continue
        assert child not in (one, other)
        parents = [by_slot(near, d) for d in (one, other)]
        if name == "autopeft" and not child.placements:  # where all switches are off has many spellings
            continue
        for slot, found in by_slot(near, child).items():
            assert found in [p.get(slot) for p in parents], f"{slot} of {child}; of {one}, and {other}"
        taken = [{s for s, v in by_slot(near, child).items() if v == p.get(s)} for p in parents]
        from_both += bool(taken[0] - taken[1]) and bool(taken[1] - taken[0])
    assert from_both


def test_of_equal_parents_there_is_no_child() -> None:
    near, rng = around("full"), np.random.default_rng(0)
    for design in drawn(near, 10):
        assert near.cross(design, design, rng) is None


# Rates


def test_a_part_of_a_design_has_some_of_its_placements() -> None:
    near, rng = around("full"), np.random.default_rng(0)
    whole = near.space.preset_designs(DEPTH, RATE)["bitfit"]
    found = {part for _ in range(60) if (part := near.part(whole, rng)) is not None}
    assert len(found) > 5
    for part in found:
        assert set(part.placements) < set(whole.placements)
        assert part.learning_rate == whole.learning_rate
        assert near.holds(part)
    alone = Design(whole.placements[:1], whole.learning_rate)
    assert all(near.part(alone, rng) is None for _ in range(20))


def test_a_design_at_a_rate_is_at_the_nearest_of_the_space() -> None:
    listed = adapters(1, learning_rate=[0.001, 0.004, 0.016])
    ranged = adapters(1, learning_rate={"low": 0.001, "high": 0.02, "log": True})
    design = drawn(listed, 1)[0]
    for near, rate, expected in (
        (listed, 0.004, 0.004),
        (listed, 0.0021, 0.004),  # nearest by factor
        (listed, 0.0019, 0.001),
        (listed, 1.0, 0.016),
        (ranged, 0.003, 0.003),
        (ranged, 1e-5, 0.001),
        (ranged, 0.5, 0.02),
    ):
        found = near.at_rate(design, rate)
        assert found.learning_rate == expected
        assert found.placements == design.placements
        assert near.space.contains(found, DEPTH)


def test_a_space_without_rates_leaves_a_design_as_it_is() -> None:
    near = Neighbourhoods(Space.from_dict(one_slot(operation="mlp", tuner="norm")), DEPTH, RATE)
    design = drawn(near, 1)[0]
    assert near.at_rate(design, 0.1) is design
