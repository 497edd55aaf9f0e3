"""Which choices matter: what decides a pretended quality is found, and what is not known is not claimed."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from utuning_search.designs.design import Design
from utuning_search.designs.spaces.space import Space
from utuning_search.search.objectives.registry import USUAL
from utuning_search.search.surrogate.importance import LEAST, Importance, importance
from utuning_search.search.surrogate.knowledge import Circumstances
from utuning_search.search.surrogate.process import Process, matern, squares
from utuning_search.search.trials import TrialRecord
from utuning_search.testing.pretend import SETTING, SPACE, PretendStudy
from utuning_search.training.task import Task

RECIPE = Task.load("digits").recipe
GIVEN = Circumstances(USUAL, SETTING, RECIPE, 400)


@pytest.fixture(scope="module")
def tried() -> list[TrialRecord]:
    study = PretendStudy()
    return study.play(60)


def of_quality(tried: list[TrialRecord], quality: Callable[[Design], float], noise: float = 0.0) -> list[TrialRecord]:
    """The trials as if all had ended at a quality."""
    draw, found = np.random.default_rng(0), []
    for record in tried:
        assert record.design is not None
        value = quality(record.design) + noise * float(draw.normal())
        measured = {RECIPE.epochs: {"accuracy": value}}
        values = {"accuracy": value, "parameters": float(record.parameters)}
        found.append(replace(record, state="complete", accuracy=value, values=values, measured=measured))
    return found


def by_kind(tried: list[TrialRecord], quality: Callable[[Design], float], noise: float = 0.0) -> dict[str, Importance]:
    found = importance(of_quality(tried, quality, noise), GIVEN, Space.from_dict(SPACE))
    assert [i.effect for i in found] == sorted((i.effect for i in found), reverse=True)
    assert all(0 <= i.low <= i.effect <= i.high for i in found)
    return {i.kind: i for i in found}


def by_rate(design: Design) -> float:
    return 0.8 - 0.1 * abs(math.log10((design.learning_rate or 0.005) / 0.005))


def by_form(design: Design) -> float:
    return 0.8 + 0.06 * any(p.form == "parallel" and p.operation in ("mlp", "attention") for p in design.placements)


@pytest.mark.parametrize(
    ("quality", "kinds", "end"),
    # One tuner fewer or another one, or the same elsewhere, and its form is gone. A step in one of many choices is told
    # less surely than a slope in a number.
    [(by_rate, {"learning_rate"}, "low"), (by_form, {"form", "add", "drop", "tuner", "operation"}, "effect")],
)
def test_what_decides_is_first_and_beyond_the_rest(
    tried: list[TrialRecord], quality: Callable[[Design], float], kinds: set[str], end: str
) -> None:
    found = by_kind(tried, quality)
    assert next(iter(found)) in kinds
    mattering = found["learning_rate" if "learning_rate" in kinds else "form"]
    others = [i for name, i in found.items() if name not in kinds]
    assert others
    assert all(getattr(mattering, end) > i.effect for i in others)


def test_where_nothing_matters_every_effect_is_small(tried: list[TrialRecord]) -> None:
    found = by_kind(tried, lambda _: 0.8, noise=0.005)
    assert max(i.low for i in found.values()) < 0.01


def test_fewer_trials_say_less(tried: list[TrialRecord]) -> None:
    few, many = (by_kind(tried[:n], by_rate)["learning_rate"] for n in (8, 60))
    assert (few.high - few.low) / few.effect > (many.high - many.low) / many.effect
    assert importance(of_quality(tried[: LEAST - 1], by_rate), GIVEN, Space.from_dict(SPACE)) == []


def test_the_same_study_says_the_same(tried: list[TrialRecord]) -> None:
    assert by_kind(tried, by_rate) == by_kind(tried, by_rate)


def test_draws_are_of_the_posterior() -> None:
    rng = np.random.default_rng(0)
    seen, asked = np.array([[0.0], [1.0], [1.0], [3.0]]), np.array([[0.5], [0.6], [4.0]])
    process = Process(matern(squares(seen, seen)), np.array([0.0, 1.0, 1.2, -1.0]), 0.5, np.full(4, 0.01))
    near, own = matern(squares(asked, seen)), matern(squares(asked, asked))
    drawn = process.draws(near, own, 40_000, rng)
    assert drawn.mean(axis=0) == pytest.approx(process.mean(near), abs=0.01)
    assert drawn.std(axis=0) == pytest.approx(process.sd(near), rel=0.02)
    # What lies close together moves together.
    half = np.linalg.solve(0.5 * matern(squares(seen, seen)) + 0.01 * np.eye(4), 0.5 * near.T)
    assert np.cov(drawn.T) == pytest.approx(0.5 * own - 0.5 * near @ half, abs=0.01)
