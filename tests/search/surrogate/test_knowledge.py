"""What a history says: which trials count and as what, what the front would be without luck, and who is ahead."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from utuning_search.designs.design import Design, Placement
from utuning_search.designs.rates import rate_factor
from utuning_search.search.objectives.registry import USUAL, Objectives
from utuning_search.search.surrogate import knowledge, subset
from utuning_search.search.surrogate.curves import ends
from utuning_search.search.surrogate.features import Floats
from utuning_search.search.surrogate.knowledge import Circumstances, Knowledge, joined
from utuning_search.search.surrogate.model import Model
from utuning_search.search.trials import TrialRecord
from utuning_search.testing.pretend import SETTING, SHAPE
from utuning_search.training.recipe import Recipe
from utuning_search.tuners import AdapterConfig, LoraConfig

RECIPE = Recipe(epochs=12, rungs=(1, 3, 6))
LAST = RECIPE.epochs
MANY = 100_000  # validation images: hardly any noise but that of training


def given(objectives: Objectives = USUAL, validation: int = MANY) -> Circumstances:
    return Circumstances(objectives, SETTING, RECIPE, validation)


def adapter(rank: int, turned: float = 1.0) -> Design:
    """At the rate that suits it, times a factor."""
    design = Design((Placement("mlp", AdapterConfig(rank), "parallel"),)).resolve(SHAPE.depth)
    return replace(design, learning_rate=RECIPE.learning_rate * rate_factor(design, SHAPE.depth) * turned)


def lora(rank: int) -> Design:
    design = Design((Placement("qkv", LoraConfig(rank), "parallel"),)).resolve(SHAPE.depth)
    return replace(design, learning_rate=RECIPE.learning_rate * rate_factor(design, SHAPE.depth))


def trial(
    number: int,
    design: Design | None,
    accuracy: float | None = None,
    state: str = "complete",
    rungs: Mapping[int, float] | None = None,
    reused: int | None = None,
    **others: float,
) -> TrialRecord:
    parameters = 0 if design is None else design.num_parameters(SHAPE, SETTING.num_classes)
    values = {} if accuracy is None else {"accuracy": accuracy, "parameters": float(parameters), **others}
    return TrialRecord(
        number=number,
        state=state,
        key="" if design is None else design.key,
        design=design,
        preset="",
        parameters=parameters,
        accuracy=accuracy,
        epochs=LAST,
        seconds=1.0,
        rungs=rungs or {},
        reused=reused,
        reason="",
        values=values,
        measured={epoch: {"accuracy": value} for epoch, value in (rungs or {}).items()},
    )


def rising(*, noise: float = 0.0) -> list[TrialRecord]:
    """Complete trials whose accuracy grows with the rank."""
    found = []
    for i, rank in enumerate((1, 2, 4, 8, 16, 32)):
        end = 0.7 + 0.03 * i + noise * (-1) ** i
        found.append(trial(i, adapter(rank), end, rungs={1: end - 0.3, 3: end - 0.2, 6: end - 0.1}))
    return found


def gain(history: Sequence[TrialRecord], design: Design, circumstances: Circumstances | None = None) -> float:
    rng = np.random.default_rng(0)
    return float(Knowledge(history, circumstances or given()).gains([design], rng)[0])


# Rivals that none is equal to yet


def leads(history: Sequence[TrialRecord], designs: Sequence[Design], rivals: Sequence[Design]) -> list[float]:
    """Each rival at one rate."""
    return list(Knowledge(history, given()).leads(designs, [(r,) for r in rivals]))


def test_a_lead_is_over_rivals_that_cost_no_less() -> None:
    """The rivals' accuracies are 79% and 85%; a design of rank 8 is expected at 79% too."""
    history, rivals = rising(), [adapter(8), adapter(32)]
    tried = [r for r in history if r.design not in rivals]
    left, over = leads(tried, [lora(40), lora(64)], rivals)
    assert left == over == 0.0, "they are larger than the rivals"
    small, medium = leads(tried, [lora(6), lora(16)], rivals)
    assert small > 0
    assert medium > 0
    only = leads(tried, [lora(16)], rivals[1:])
    assert only == pytest.approx([medium], rel=1e-9), "of the smaller rival it has nothing to win"


def test_a_rival_that_has_its_equal_is_no_aim() -> None:
    history = rising()
    rivals = [adapter(8)]
    before = leads(history, [lora(2)], rivals)
    equal = trial(6, lora(4), 0.95)
    assert before > [0.0]
    assert leads([*history, equal], [lora(2)], rivals) == [0.0]
    for other in (replace(equal, state="pruned", measured={1: {"accuracy": 0.95}}), trial(6, lora(64), 0.95)):
        assert leads([*history, other], [lora(2)], rivals) > [0.0], "it was stopped, or is larger"
    own = trial(6, adapter(8, 2.0), 0.95)
    assert leads([*history, own], [lora(2)], rivals) > [0.0], "a rival at another rate is no equal"


def test_what_a_rival_is_leads_over_nobody_at_any_rate() -> None:
    same, other = leads(rising(), [adapter(8, 0.5), adapter(7)], [adapter(8)])
    assert same == 0.0 < other


def test_the_best_rate_of_a_rival_counts() -> None:
    history = [*rising(), trial(6, adapter(8, 4.0), 0.2)]
    known = Knowledge(history, given())
    bad, good = adapter(8, 4.0), adapter(8)
    (alone,) = known.leads([adapter(7)], [(good,)])
    assert known.leads([adapter(7)], [(bad, good)]) == pytest.approx([alone], rel=1e-9)
    assert known.leads([adapter(7)], [(bad,)]) == [0.0], "at that rate it has equals"


def test_without_rivals_or_history_nothing_leads() -> None:
    assert leads([], [adapter(2)], [adapter(8)]) == leads(rising(), [adapter(2)], []) == [0.0]


# Which trials count


def test_trials_that_were_trained_or_failed_are_known() -> None:
    rungs = {1: 0.5}
    history = [
        trial(0, adapter(1), 0.8),
        trial(1, adapter(2), 0.5, "pruned", rungs),
        trial(2, adapter(3), 0.5, "running", rungs),
        trial(3, adapter(4), None, "failed"),
        trial(4, adapter(5), None, "running"),  # nothing was measured yet
        trial(5, adapter(6), None, "pruned"),
        trial(6, adapter(7), 0.8, reused=0),
        trial(7, adapter(8), 0.5, "interrupted", rungs),
        trial(8, adapter(9), None, "oversized"),
        trial(9, None, None, "waiting"),
    ]
    assert Knowledge(history, given()).designs == [adapter(rank) for rank in (1, 2, 3, 4)]


def test_what_is_left_out_changes_nothing() -> None:
    history, wanted = rising(), adapter(6)
    others = [
        trial(6, adapter(6), 0.99, reused=0),
        trial(7, adapter(5), 0.99, "interrupted", {6: 0.99}),
        trial(8, adapter(7), None, "oversized"),
        trial(9, None, None, "waiting"),
    ]
    assert gain([*history, *others], wanted) == gain(history, wanted) > 0


def test_nothing_known_is_judged_by_its_cost() -> None:
    """And has no parents."""
    found = Knowledge([], given())
    gains = found.gains([adapter(4), adapter(1), Design(), adapter(32)], np.random.default_rng(0))
    assert np.argsort(-gains).tolist() == [2, 1, 0, 3]
    assert (found.designs, found.parents) == ([], [])
    measured_only = Knowledge([], given(Objectives(("accuracy", "macro_f1"))))
    assert measured_only.gains([adapter(4), adapter(1)], np.random.default_rng(0)).tolist() == [0.0, 0.0]


def test_a_failed_trial_stands_for_the_worst_that_was_measured() -> None:
    history, wanted = rising(), lora(4)
    failed = trial(6, lora(3), None, "failed")
    assert gain([*history, failed], wanted) < 0.5 * gain(history, wanted)
    mean = Knowledge([*history, failed], given()).prospects(6).mean
    line = Knowledge([*history, trial(6, lora(3), 0.75, "pruned", {6: 0.65})], given()).prospects(6).mean
    assert mean < line
    assert Knowledge([failed], given()).designs == [lora(3)], "even where nothing else was measured"
    assert gain([failed], wanted) > 0


def test_a_failed_trial_does_not_stand_on_the_front() -> None:
    history = [trial(0, lora(3), None, "failed"), trial(1, adapter(1), 0.5)]
    assert Knowledge(history, given()).prospects(1).height == -math.inf


def test_running_trials_count_in_the_front_as_what_they_will_be() -> None:
    """So that what is like them is not proposed once more; what was pruned takes no place."""
    history, rungs = rising(), {1: 0.55, 3: 0.65, 6: 0.75}
    running, pruned = (trial(6, lora(4), 0.75, state, rungs) for state in ("running", "pruned"))
    alike = lora(5)
    assert 0 < gain([*history, running], alike) < 0.5 * gain([*history, pruned], alike)


def test_a_running_trial_that_promises_little_leaves_the_front_as_it_is() -> None:
    history, rungs = rising(), {1: 0.2, 3: 0.3, 6: 0.4}
    running, pruned = (trial(6, adapter(30), 0.4, state, rungs) for state in ("running", "pruned"))
    assert gain([*history, running], lora(4)) == pytest.approx(gain([*history, pruned], lora(4)), rel=0.02)


def test_a_rung_counts_less_than_an_end() -> None:
    """And a late rung more than an early one: of a trial that is far ahead of what is usual."""
    history = rising()
    means = []
    for rungs in ({1: 0.65}, {1: 0.65, 3: 0.75}, {1: 0.65, 3: 0.75, 6: 0.85}):
        running = trial(6, lora(4), max(rungs.values()), "running", rungs)
        means.append(Knowledge([*history, running], given()).prospects(6).mean)
    means.append(Knowledge([*history, trial(6, lora(4), 0.95)], given()).prospects(6).mean)
    assert means == sorted(means)
    assert means[-1] == pytest.approx(0.95, abs=0.01)


def test_a_rung_is_read_in_the_light_of_the_rate_and_of_the_one_that_suits(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[list[float]]] = []

    def watched(curves: Sequence[Mapping[int, float]], handicaps: Floats, last: int) -> object:
        seen.append(handicaps.tolist())
        return ends(curves, handicaps, last)

    monkeypatch.setattr(knowledge, "ends", watched)
    designs = [adapter(16, 2.0), Design(), lora(64)]
    Knowledge([trial(i, design, 0.7) for i, design in enumerate(designs)], given())
    factors = [rate_factor(d, SHAPE.depth) for d in designs]
    rates = [2 * 0.005 * factors[0], 0.005, 0.005 * factors[2]]
    assert RECIPE.learning_rate == 0.005
    assert seen == [[pytest.approx([math.log2(r), math.log2(f)]) for r, f in zip(rates, factors, strict=True)]]


# The front without luck


def lucky() -> list[TrialRecord]:
    """Seven trials of what is nearly one design, of which one is far ahead."""
    ends = (0.80, 0.81, 0.79, 0.88, 0.80, 0.81, 0.79)
    return [trial(i, adapter(8, 1 + i / 100), end) for i, end in enumerate(ends)]


def test_the_front_is_of_posterior_means_and_not_of_a_lucky_maximum() -> None:
    asked = trial(7, adapter(9), 0.4, "running", {6: 0.4})
    height = Knowledge([*lucky(), asked], given(validation=400)).prospects(7).height
    assert 0.79 < height < 0.84


def test_the_fewer_images_it_was_measured_on_the_less_a_maximum_is_believed() -> None:
    history = [*rising(), trial(6, lora(4), 0.95), trial(7, adapter(64), 0.4, "running", {6: 0.4})]
    heights = [Knowledge(history, given(validation=n)).prospects(7).height for n in (50, 400, MANY)]
    assert heights == sorted(heights)
    assert heights[0] + 0.01 < heights[2] == pytest.approx(0.95, abs=0.01)


def test_parents_are_the_front_twice_and_then_the_next() -> None:
    history = rising()
    worse = [trial(6, lora(8), 0.71), trial(7, lora(16), 0.72)]
    parents = Knowledge([*history, *worse], given()).parents
    names = [p.key for p in parents]
    front = [r.key for r in history]
    assert sorted(names) == sorted([*front, *front, *(r.key for r in worse)])
    assert names[:6] == names[6:12]
    assert Knowledge(history[:1], given()).parents == [adapter(1)] * 2


def many() -> list[TrialRecord]:
    """Pairs of the same size, the first of each on the front; one that still runs; the smallest, far below the line."""
    history = [trial(i, adapter(1 + i // 2, 1 + i % 2 / 10), 0.7 + 0.002 * i - 0.03 * (i % 2)) for i in range(40)]
    return [*history, trial(40, Design(), 0.3), trial(41, lora(30), 0.5, "running", {6: 0.5})]


def test_no_model_leaves_out_the_front_nor_what_is_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(raw: Floats, quality: Floats, sd: Floats, noise: float, always: Floats) -> Model:
        seen.append(np.flatnonzero(always).tolist())
        return Model(raw, quality, sd, noise)

    monkeypatch.setattr(knowledge, "Model", watched)
    assert Knowledge(many(), given()).parents
    assert seen == [[*range(0, 40, 2), 40, 41]]


def test_of_many_trials_the_front_is_still_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model learns from some of them, and says where the others are."""
    whole, asked = Knowledge(many(), given()), (40, 41)
    before = [whole.prospects(number) for number in asked]
    monkeypatch.setattr(subset, "MOST", 24)
    some = Knowledge(many(), given())
    assert some.designs == whole.designs
    assert {d.key for d in some.parents} == {d.key for d in whole.parents}
    for number, wanted in zip(asked, before, strict=True):
        found = some.prospects(number)
        assert found.mean == pytest.approx(wanted.mean, abs=0.01)
        assert found.sd == pytest.approx(wanted.sd, rel=0.3)
        assert found.height == pytest.approx(wanted.height, abs=0.01)


# Prospects


def test_only_complete_trials_that_cost_no_more_are_in_the_way() -> None:
    rungs = {1: 0.5, 3: 0.6, 6: 0.7}
    history = [
        trial(0, adapter(1), 0.60),
        trial(1, adapter(4), 0.70),
        trial(2, adapter(16), 0.80),
        trial(3, adapter(2), 0.95, "pruned", {6: 0.95}),
        trial(4, adapter(3), 0.95, "running", {6: 0.95}),
        trial(5, adapter(8), 0.70, "running", rungs),
        trial(6, Design(learning_rate=0.02), None, "running", {1: 0.3}),
    ]
    heights = [Knowledge(history, given()).prospects(number).height for number in range(7)]
    one, four, sixteen = (Knowledge(history, given()).prospects(n).mean for n in range(3))
    assert heights[5] == pytest.approx(four, abs=0.02), "the larger one and those that are not complete do not count"
    assert heights[6] == heights[0] == -math.inf
    assert heights[1] == pytest.approx(one, abs=0.02), "nor does a trial stand in its own way"
    assert heights[2] == pytest.approx(four, abs=0.02)
    assert one < four < sixteen


def test_equal_cost_is_no_more() -> None:
    history = [trial(0, adapter(4), 0.8), trial(1, adapter(4, 1.5), 0.4, "running", {6: 0.4})]
    assert Knowledge(history, given()).prospects(1).height == pytest.approx(0.8, abs=0.02)


def test_all_exact_objectives_decide_what_costs_no_more() -> None:
    """A LoRA merges into the frozen weights, so it is no rival in parameters and one in FLOPs; the other way round."""
    small, merged = adapter(1), lora(8)
    history = [trial(0, merged, 0.8, flops=1.0), trial(1, small, 0.4, "running", {6: 0.4})]
    for names, rival in (
        (("accuracy", "flops"), True),
        (("accuracy", "parameters"), False),
        (("accuracy", "parameters", "flops"), False),
    ):
        height = Knowledge(history, given(Objectives(names))).prospects(1).height
        assert (height > 0) == rival, names


def test_prospects_know_the_rung_and_are_sure_where_the_end_is_known() -> None:
    history = rising()
    asked = [trial(6, adapter(6), x, "running", {6: x}) for x in (0.5, 0.68, 0.8)]
    found = [Knowledge([*history, one], given()).prospects(6) for one in asked]
    assert [f.mean for f in found] == sorted(f.mean for f in found)
    end = Knowledge([*history, trial(6, adapter(6), 0.78)], given()).prospects(6)
    assert end.sd < min(f.sd for f in found)


def test_what_a_design_promised_is_what_was_known_without_its_trial() -> None:
    history = rising()
    for x in (0.5, 0.62, 0.76):
        found = Knowledge([*history, trial(6, adapter(6), x, "running", {6: x})], given()).prospects(6)
        assert found.promised == pytest.approx(gain(history, adapter(6)))
        assert (found.gain > found.promised) == (x > 0.7), "more if its rung is good"


def test_what_was_expected_counts_less_the_farther_the_rung_is_from_it() -> None:
    """As of two measurements as long as they agree; a rung far off is believed, however sure the model was."""
    assert joined(0.8, 0.02, 0.81, 0.02) == pytest.approx((0.805, 0.02 / 2**0.5))
    assert joined(0.8, 0.01, 0.4, 0.04)[0] < 0.5
    assert joined(0.8, 0.01, 0.4, 0.04)[1] == pytest.approx(0.04, rel=0.2)
    means = [joined(0.8, 0.01, seen, 0.04)[0] for seen in (0.4, 0.6, 0.7, 0.78, 0.82, 0.9, 1.0)]
    assert means == sorted(means)
    assert joined(0.8, 0.01, 0.5, 0.0)[0] == pytest.approx(0.5), "an end is what it is"


# Several objectives

THREE = Objectives(("accuracy", "parameters", "latency"))


def timed() -> list[TrialRecord]:
    """With latencies that only finished trials have."""
    rows = [replace(r, values={**r.values, "latency": 1.0 + r.number}) for r in rising(noise=0.01)]
    return [*rows, trial(6, lora(2), 0.6, "running", {3: 0.6})]


def test_what_was_not_measured_at_a_rung_is_predicted() -> None:
    found = Knowledge(timed(), given(THREE))
    assert lora(2) in found.designs
    gains = found.gains([lora(4), adapter(3), adapter(64)], np.random.default_rng(0))
    assert np.isfinite(gains).all()
    assert (gains >= 0).all()
    assert gains.max() > 0
    assert (gains == found.gains([lora(4), adapter(3), adapter(64)], np.random.default_rng(0))).all()


def test_before_any_latency_was_measured_there_are_gains_too() -> None:
    history = [trial(0, adapter(2), 0.5, "running", {3: 0.5}), trial(1, adapter(4), None, "failed")]
    gains = Knowledge(history, given(THREE)).gains([lora(4), adapter(3)], np.random.default_rng(0))
    assert np.isfinite(gains).all()


def test_what_is_quick_gains_more() -> None:
    """Adapters are slow and LoRA is not, at equal accuracy and size."""
    history = []
    for i, rank in enumerate((1, 2, 4, 8, 16)):
        history.append(replace(trial(2 * i, adapter(rank), 0.7), values={"accuracy": 0.7, "latency": 1000.0}))
        history.append(replace(trial(2 * i + 1, lora(rank), 0.7), values={"accuracy": 0.7, "latency": 0.1}))
    found = Knowledge(history[:-1], given(Objectives(("accuracy", "latency"))))
    quick, slow = found.gains([lora(3), adapter(3)], np.random.default_rng(0))
    assert quick > 1.5 * slow
