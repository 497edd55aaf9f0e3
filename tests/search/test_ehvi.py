"""The Bayesian sampler: what it proposes is new, allowed, of the space, and better than what chance proposes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pytest

from utuning_search.common.bundled import bundled
from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.known_methods import PRESETS
from utuning_search.designs.rates import rate_factor
from utuning_search.designs.spaces.edits import Neighbourhoods
from utuning_search.designs.spaces.space import Space
from utuning_search.search.objectives.registry import USUAL, Objectives, objective
from utuning_search.search.pruners.none import NoPruner
from utuning_search.search.running import Next
from utuning_search.search.samplers import ehvi
from utuning_search.search.samplers.base import Request
from utuning_search.search.samplers.candidates import ASKED, Candidates
from utuning_search.search.samplers.ehvi import EHVISampler
from utuning_search.search.samplers.wrapped import RandomSampler
from utuning_search.search.surrogate.knowledge import Knowledge
from utuning_search.search.trials import TrialRecord, front_of, volume_of
from utuning_search.testing.pretend import SETTING, SHAPE, SPACE, PretendStudy
from utuning_search.tuners import AdapterConfig

optuna.logging.set_verbosity(optuna.logging.ERROR)

QUICK = EHVISampler(pool=16)
SEEDS, TRIALS = 3, 40
SPACES = tuple(bundled("space"))
DEPTH = SHAPE.depth


def study(space: Space | None = None, objectives: Objectives = USUAL, **others: Any) -> PretendStudy:
    """Of the quick sampler, where nothing is pruned."""
    return PretendStudy(QUICK, NoPruner(), objectives, space=space, **others)


@pytest.fixture(scope="module")
def long() -> list[PretendStudy]:
    """Studies of forty trials; not to be played on."""
    found = [study(seed=seed) for seed in range(SEEDS)]
    for one in found:
        one.play(TRIALS)
    return found


def request(of: PretendStudy, seed: int = 0, history: Sequence[TrialRecord] | None = None, **limits: float) -> Request:
    """For the next proposal of a study."""

    def refuse(_: object) -> Design:
        raise AssertionError("no sampler of Optuna's is asked")

    return Request(
        space=of.spec.space,
        objectives=of.spec.objectives,
        setting=SETTING,
        recipe=of.spec.task.recipe,
        validation=400,
        seed=seed,
        history=of.scheduler.records() if history is None else history,
        limits=limits,
        suggest=refuse,
    )


# A function of seed and history


def test_a_proposal_is_a_function_of_seed_and_history(long: list[PretendStudy]) -> None:
    one, other = long[:2]
    assert QUICK.propose(request(one, 5)) == EHVISampler(16).propose(request(one, 5))
    assert len({QUICK.propose(request(one, seed)).key for seed in range(3)}) > 1
    first = one.scheduler.records()[:8]
    assert QUICK.propose(request(one, 5, first)) != QUICK.propose(request(one, 5))
    assert QUICK.propose(request(one, 5)) != QUICK.propose(request(other, 5))


def test_the_pool_is_at_least_one() -> None:
    with pytest.raises(InputError, match="pool is at least 1; got 0"):
        EHVISampler(0)
    alone = PretendStudy(EHVISampler(1), NoPruner())
    assert len(alone.play(6)) == 6


# New, allowed, and of the space


def test_what_was_tried_is_not_proposed_again(long: list[PretendStudy]) -> None:
    for one in long:
        records = one.scheduler.records()
        assert len(records) == TRIALS
        assert len({r.key for r in records}) == TRIALS
        assert all(r.reused is None for r in records)


@pytest.mark.parametrize("name", SPACES)
def test_proposals_lie_in_the_space_and_their_values_are_kept(name: str) -> None:
    space = Space.load(name)
    one = study(space)
    one.play(len(space.presets) + 4)
    trials = one.optuna.get_trials(deepcopy=False)
    for record, trial in zip(one.scheduler.records(), trials, strict=True):
        assert record.design is not None
        assert space.contains(record.design, DEPTH)
        assert trial.params == space.params_of(record.design, DEPTH) != {}
        assert record.preset or record.reused is None
        if space.learning_rate is None:
            assert record.design.learning_rate == one.spec.task.recipe.learning_rate, "or its key is not that of others"


@pytest.mark.parametrize("name", ["noah", "utuning", "autopeft", "smoke"])
def test_known_methods_that_were_tried_are_not_tried_at_no_rate(name: str) -> None:
    """Where a space has no rates, all of its designs are at the task's."""
    space = Space.load(name)
    near = Neighbourhoods(space, DEPTH, 0.005)
    tried = {d.key for d in space.preset_designs(DEPTH, 0.005).values()}
    pool = Candidates(near, np.random.default_rng(0), tried, lambda _: True).around([], 12)
    placed = {p.placements for p in space.preset_designs(DEPTH, 0.005).values()}
    assert pool
    assert not placed & {d.placements for d in pool}
    assert {d.learning_rate for d in pool} == {0.005}


def test_a_space_that_is_exhausted_gives_its_designs_again() -> None:
    space = Space.load("smoke")
    one = study(space)
    records = one.play(space.size(DEPTH))
    assert len({r.key for r in records}) == space.size(DEPTH), "each once, before any comes again"
    for seed in range(3):
        design = QUICK.propose(request(one, seed))
        assert space.contains(design, DEPTH)
        assert design.key in {r.key for r in records}
    _, step = one.scheduler.ask()
    assert step is Next.REUSED


@pytest.mark.parametrize(("name", "share"), [("flops", 0.3), ("parameters", 0.5)])
def test_limits_hold_whether_they_are_weighed_or_not(name: str, share: float, long: list[PretendStudy]) -> None:
    """Each refuses much of the space: of FLOPs no objective of the study says anything."""
    known = objective(name)
    designs = drawn(60)
    values = sorted(known.value(d, SETTING) for d in designs)  # type: ignore[attr-defined]  # it is exact
    limit = values[int(share * len(values))]
    one = study(limits=((name, limit),))
    proposed = [r for r in one.play(10) if not r.preset]
    assert len(proposed) >= 7
    assert all(r.state == "complete" for r in proposed)
    assert all(known.value(r.design, SETTING) <= limit for r in proposed)  # type: ignore[attr-defined]
    free = long[0].scheduler.records()[:10]
    assert any(known.value(r.design, SETTING) > limit for r in free if not r.preset), "it would not by itself"  # type: ignore[attr-defined]


def test_where_nothing_is_small_enough_there_is_a_proposal() -> None:
    one = study()
    design = QUICK.propose(request(one, history=[], parameters=1.0))
    assert one.spec.space.contains(design, DEPTH)


def drawn(count: int) -> list[Design]:
    near, rng = Neighbourhoods(Space.from_dict(SPACE), DEPTH, 0.005), np.random.default_rng(0)
    return [near.draw(rng) for _ in range(count)]


# Studies of any objectives, with trials on their way


@pytest.mark.parametrize(
    "names",
    [
        ("accuracy", "flops"),
        ("accuracy", "parameters", "latency"),
        ("balanced_accuracy",),
        ("latency", "parameters"),
        ("accuracy", "macro_f1"),
    ],
    ids="-".join,
)
def test_it_works_with_any_objectives(names: tuple[str, ...]) -> None:
    records = study(objectives=Objectives(names)).play(6)
    assert len({r.key for r in records}) == 6
    assert all(r.values.keys() == set(names) for r in records)


def test_of_two_objectives_it_fills_the_front(long: list[PretendStudy]) -> None:
    for one in long:
        records = one.scheduler.records()
        on_it = front_of(records)
        assert len(on_it) >= 8
        assert sum(not r.preset for r in on_it) >= 6


def test_trials_on_their_way_are_not_proposed_again() -> None:
    one = study(seed=1)
    one.play(4)
    asked = [one.scheduler.ask() for _ in range(4)]
    assert len({running.design.key for running, _ in asked}) == 4
    assert all(step is Next.TRAIN for _, step in asked)
    # And in the light of what their rungs say.
    for running, _ in asked:
        one.scheduler.rung(running, next(one.reports(running.design)))
    running, step = one.scheduler.ask()
    assert step is Next.TRAIN
    assert running.design not in [other.design for other, _ in asked]


def test_what_was_stopped_failed_or_is_on_its_way_counts_as_tried() -> None:
    """In a space of eighteen designs: with nothing measured, the cheapest that was not tried is next."""
    one = study(Space.load("smoke"))
    keys = []
    for i in range(9):
        running, step = one.scheduler.ask()
        assert step is Next.TRAIN
        keys.append(running.design.key)
        if i % 3 == 1:
            one.scheduler.pruned(running, 1.0)
        elif i % 3 == 2:
            one.scheduler.failed(running, "it diverged", 1.0)
    assert len(set(keys)) == 9


def test_it_is_better_than_chance(long: list[PretendStudy]) -> None:
    """By as many studies as tell it whichever way a processor rounds."""
    more = [study(seed=seed) for seed in range(SEEDS, 8)]
    random = [PretendStudy(RandomSampler(), NoPruner(), seed=seed) for seed in range(8)]
    for one in (*more, *random):
        one.play(TRIALS)
    ours, theirs = (np.mean([volume(one) for one in studies]) for studies in ((*long, *more), random))
    assert ours > theirs  # over sixteen seeds, 0.4058 and 0.4033 (standard deviations 0.0018 and 0.0013)


class Particular(PretendStudy):
    """Studies of a backbone that likes tuners beside its operations, and in all blocks."""

    def reported(self, design: Design, epoch: int) -> dict[str, float]:
        found = super().reported(design, epoch)
        liked = sum(0.04 * (p.form == "parallel") - 0.05 * (len(p.block_numbers()) < DEPTH) for p in design.placements)
        return {**found, "accuracy": min(max(found["accuracy"] + liked - 0.1, 0.0), 1.0)}


def test_it_learns_what_is_good() -> None:
    """In half as many trials."""
    means = []
    for sampler in (QUICK, RandomSampler()):
        studies = [Particular(sampler, NoPruner(), seed=seed) for seed in range(6)]
        for one in studies:
            one.play(24)
        means.append(np.mean([volume(one) for one in studies]))
    assert means[0] > means[1] + 0.002  # over eight seeds, 0.379 and 0.368 (standard deviations 0.005)


def volume(of: PretendStudy) -> float:
    return volume_of(front_of(of.scheduler.records()), USUAL, SETTING)


def test_some_proposals_aim_at_known_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """And where none of them is left to aim at, at the front."""
    one = study(Space.load("full"))
    one.play(8)

    def proposed(share: float) -> list[str]:
        monkeypatch.setattr(ehvi, "AIMED", share)
        return [QUICK.propose(request(one, seed)).key for seed in range(6)]

    some, aimed, never = proposed(ehvi.AIMED), proposed(1.0), proposed(0.0)
    assert all(key in pair for key, pair in zip(some, zip(aimed, never, strict=True), strict=True))
    assert some not in (aimed, never)
    monkeypatch.setattr(Knowledge, "leads", lambda _self, designs, **_: np.zeros(len(designs)))
    assert proposed(1.0) == never


def test_what_is_aimed_at_is_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little a lead is: it is not compared with a gain of hypervolume."""
    one = study(Space.load("full"))
    one.play(8)
    asked: list[Design] = []

    def leads(_self: Knowledge, designs: Sequence[Design], rivals: object) -> Any:
        del rivals
        first = not asked
        asked.extend(designs)
        return np.array([1e-12 * (first and i == 0) for i in range(len(designs))])

    monkeypatch.setattr(ehvi, "AIMED", 1.0)
    monkeypatch.setattr(Knowledge, "leads", leads)
    assert QUICK.propose(request(one)) == asked[0]


# Candidates


def candidates(space: str, tried: Sequence[str] = (), seed: int = 0) -> Candidates:
    near = Neighbourhoods(Space.load(space), DEPTH, 0.005)
    return Candidates(near, np.random.default_rng(seed), set(tried), lambda _: True)


def known(space: Space) -> list[Design]:
    """The known methods of a space, each at the rate of it nearest to the one that suits it."""
    found = {}
    for preset in PRESETS:
        design = Design(preset.placements()).resolve(DEPTH)
        rate = space.preset_rate(0.005 * rate_factor(design, DEPTH)) if space.learning_rate else 0.005
        design = Design(design.placements, rate)
        if space.contains(design, DEPTH):
            found[design.key] = design
    return list(found.values())


@pytest.mark.parametrize("space", ["full", "adapter", "prompt", "utuning"])
def test_known_methods_are_among_the_first_candidates(space: str) -> None:
    expected = known(Space.load(space))
    assert len(expected) >= 2
    pool = candidates(space).around([], 5)
    assert pool[: len(expected)] == expected
    assert len(pool) == len(expected) + 5
    without = candidates(space, tried=[d.key for d in expected]).around([], 5)
    assert not set(expected) & set(without)


def test_most_candidates_are_near_parents() -> None:
    near = Neighbourhoods(Space.load("full"), DEPTH, 0.005)
    parent = near.draw(np.random.default_rng(5))
    found = candidates("full", tried=[d.key for d in known(near.space)]).around([parent], 60)
    assert len(found) == len({d.key for d in found}) == 62, "two of them the parent at other rates"
    alike = sum(bool(set(d.placements) & set(parent.placements)) for d in found[2:])
    by_chance = candidates("full", tried=[d.key for d in known(near.space)]).around([], 60)
    assert alike > 15
    assert alike > 3 * sum(bool(set(d.placements) & set(parent.placements)) for d in by_chance)


def test_edits_are_new_and_each_parent_has_its_own() -> None:
    parents = known(Space.load("full"))[:4]
    but = {d.key for d in candidates("full", seed=1).edits(parents, 3, set())}
    found = candidates("full", seed=1).edits(parents, 3, but)
    assert len({d.key for d in found}) == len(found) == 12
    assert not but & {d.key for d in found}


def test_what_is_not_allowed_is_no_candidate() -> None:
    near = Neighbourhoods(Space.load("full"), DEPTH, 0.005)
    small = Candidates(near, np.random.default_rng(0), set(), lambda d: d.num_parameters(SHAPE) < 5_000)
    pool = small.around(known(near.space), 30)
    assert len(pool) > 30
    assert max(d.num_parameters(SHAPE) for d in pool) < 5_000


def test_the_rate_follows_where_an_edit_changes_the_tuners(monkeypatch: pytest.MonkeyPatch) -> None:
    """By as much as a good rate does; an edit of the rate changes nothing else."""
    monkeypatch.setattr("utuning_search.search.samplers.candidates.TWICE", 0.0)
    slot = {"name": "a", "operation": "mlp", "tuner": "adapter", "form": "parallel", "rank": {"low": 1, "high": 64}}
    rates = {"low": 1e-6, "high": 1.0, "log": True}
    space = Space.from_dict({"name": "own", "learning_rate": rates, "slots": [slot]})
    near = Neighbourhoods(space, DEPTH, 0.005)
    parent = Design((Placement("mlp", AdapterConfig(8), "parallel"),), 0.01).resolve(DEPTH)
    found = Candidates(near, np.random.default_rng(0), set(), lambda _: True).edits([parent], 12, set())
    of_size = [d for d in found if d.placements != parent.placements]
    for design in of_size:
        follows = 0.01 * rate_factor(design, DEPTH) / rate_factor(parent, DEPTH)
        assert design.learning_rate == space.preset_rate(follows)
    assert len({d.learning_rate for d in of_size}) > 1
    of_rate = [d for d in found if d.placements == parent.placements]
    assert len(of_size) >= 4
    assert len(of_rate) >= 2
    assert parent not in of_rate


def test_some_edits_are_followed_by_another() -> None:
    parent = Design((Placement("mlp", AdapterConfig(8), "parallel"),), 0.01).resolve(DEPTH)
    space = Space.load("full")
    before = space.params_of(parent, DEPTH) or {}
    steps = []
    for design in candidates("full").edits([parent], 60, set()):
        after = space.params_of(design, DEPTH) or {}
        names = [n for n in before.keys() & after.keys() if before[n] != after[n] and n != "learning_rate"]
        steps.append(len(names))
    assert 5 < sum(n > 1 for n in steps) < 30


def test_known_methods_and_parents_are_offered_at_half_and_at_twice_their_rates() -> None:
    found = candidates("full")
    bitfit, ssf = (Design(p.placements(), 0.01).resolve(DEPTH) for p in PRESETS if p.name in ("bitfit", "ssf"))
    pool = found.around([bitfit], 0, [ssf, bitfit])
    for design in (bitfit, ssf):
        rates = {d.learning_rate for d in pool if d.placements == design.placements}
        assert {0.005, 0.02} <= rates, design
    strange = Design((Placement("mlp", AdapterConfig(63), "mixed", 0.7),), 0.01).resolve(DEPTH)
    assert not [d for d in found.around([], 0, [strange]) if d.placements == strange.placements], "not in the space"


def test_of_many_parents_each_proposal_offers_others_at_other_rates() -> None:
    """So that one costs no more when a front has many designs."""
    parents = [
        Design((Placement("mlp", AdapterConfig(rank), "parallel"),), 0.01).resolve(DEPTH) for rank in range(1, 61)
    ]

    def offered(seed: int) -> set[Design]:
        pool = candidates("full", seed=seed).around(parents * 2, 0)
        asked = {p for p in parents if any(d.placements == p.placements and d.learning_rate == 0.005 for d in pool)}
        assert all(p.at_rate(0.02) in pool for p in asked)
        return asked

    assert len(offered(0)) == ASKED
    assert offered(0) != offered(1)


def test_a_good_rate_can_be_turned() -> None:
    found = candidates("full")
    design = Design(PRESETS[1].placements()).resolve(DEPTH)  # BitFit
    good = 0.005 * rate_factor(design, DEPTH)
    assert found.at_good_rate(design).learning_rate == found.near.space.preset_rate(good)
    assert found.at_good_rate(design, -1.0).learning_rate == found.near.space.preset_rate(good / np.e)
