"""What decides a study's trials, as it is written and read back; what nobody knows is refused."""

from dataclasses import replace
from datetime import date, time
from typing import Any

import pytest

from utuning_search.common.errors import InputError
from utuning_search.search import defaults
from utuning_search.search.objectives.registry import Objectives
from utuning_search.search.pruners.predicted import PredictedPruner
from utuning_search.search.pruners.registry import OURS as PRUNERS
from utuning_search.search.pruners.registry import pruner
from utuning_search.search.pruners.wrapped import HalvingPruner
from utuning_search.search.samplers.registry import OURS as SAMPLERS
from utuning_search.search.samplers.registry import sampler, sampler_for
from utuning_search.search.samplers.wrapped import NSGA2Sampler
from utuning_search.search.spec import StudySpec
from utuning_search.testing.pretend import PretendStudy


def table(**changed: Any) -> dict[str, Any]:
    return {**PretendStudy().spec.to_dict(), **changed}


def test_a_spec_survives_its_table() -> None:
    study = PretendStudy(
        NSGA2Sampler(8),
        HalvingPruner(4),
        Objectives(("macro_f1", "parameters")),
        limits=(("parameters", 9_000.0), ("flops", 1e9)),
    )
    assert StudySpec.from_dict(study.spec.to_dict()) == study.spec
    assert study.spec.max_parameters == 9_000


def test_what_says_nothing_is_left_out() -> None:
    """Studies made before there was more than accuracy and parameters have the same table, and so the same digest."""
    written = replace(PretendStudy().spec, rates="task").to_dict()
    assert set(written) == {"format", "seed", "sampler", "precision", "data", "pruner", "task", "space"}
    assert written["sampler"] == "random"
    assert NSGA2Sampler(50).to_raw() == "nsga2"
    assert NSGA2Sampler(8).to_raw() == {"kind": "nsga2", "population": 8}
    assert written["pruner"] == {"kind": "pareto", "ahead": 3, "share": 1 / 3}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"pruner": {"kind": "hyperbandd"}}, "pruner: the pruner is a known one; got 'hyperbandd'"),
        ({"pruner": {"ahead": 3}}, "pruner: the pruner is a known one; got None"),
        ({"pruner": {"kind": "pareto", "ahed": 3}}, "'ahed'.*'ahead'"),
        ({"pruner": {"kind": "pareto", "ahead": 0}}, "ahead is at least 1"),
        ({"sampler": "tpee"}, "sampler: the sampler is a known one; got 'tpee'.*'tpe'"),
        ({"sampler": {"kind": "nsga2", "population": 1}}, "population is at least 2"),
        ({"sampler": {"kind": "nsga2", "population": "many"}}, "population: this is of type int"),
        ({"sampler": 3}, "a sampler is a kind, or a table"),
        ({"objectives": ["accuracy", "size"]}, "'size'"),
        ({"seed": time(7, 32)}, r"seed: this is of type int; got datetime\.time\(7, 32\)"),
        ({"seed": "0"}, "seed: this is of type int; got '0'"),
        ({"precision": date(1979, 5, 27)}, "precision: this is of type str"),
        ({"data": 5}, "data: this is of type str; got 5"),
        ({"limits": {"accuracy": 0.5}}, "exact before training; got 'accuracy'.*parameters, flops"),
        ({"limits": {"flops": 0}}, "limits, flops: a limit is above 0"),
    ],
)
def test_what_nobody_knows_is_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        StudySpec.from_dict(table(**changed))


def test_old_specs_keep_their_pruner_and_sampler() -> None:
    old = StudySpec.from_dict(table(sampler="nsga2", pruner={"kind": "none"}))
    assert old.sampler == NSGA2Sampler(50), "what a study was started with"
    assert old.pruner.kind == "none"


def test_names_are_those_that_the_help_shows() -> None:
    assert tuple(s.kind for s in SAMPLERS) == defaults.SAMPLERS
    assert tuple(p.kind for p in PRUNERS) == defaults.PRUNERS
    assert pruner(defaults.PRUNER) == PredictedPruner()
    assert sampler(defaults.SAMPLER).kind == defaults.SAMPLER


@pytest.mark.parametrize(("trials", "population"), [(None, 50), (6, 4), (48, 8), (120, 20), (10_000, 50)])
def test_nsga2_gets_a_population_that_fits_the_budget(trials: int | None, population: int) -> None:
    assert sampler_for("nsga2", trials) == NSGA2Sampler(population)
    assert sampler_for("tpe", trials) == sampler("tpe")


def test_nsga2_breeds_within_the_usual_budget() -> None:
    """With a population of 50, a budget of 48 trials would be random search."""
    random, bred = (PretendStudy(sampler_for(kind, 48), seed=3).play(48) for kind in ("random", "nsga2"))
    first = [r.key for r in bred[:8]]
    assert len(set(first)) > 1
    children = bred[8:]
    known = {p for r in bred[:8] if r.design for p in r.design.placements}
    inherited = sum(any(p in known for p in r.design.placements) for r in children if r.design)
    by_chance = sum(
        any(p in {q for s in random[:8] if s.design for q in s.design.placements} for p in r.design.placements)
        for r in random[8:]
        if r.design
    )
    assert inherited > by_chance
