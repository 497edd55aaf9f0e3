"""A good learning rate falls with what a tuner of the design can do in one step, and stays within its bounds."""

import math
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from utuning_search.common.bundled import bundled
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.known_methods import PRESETS
from utuning_search.designs.rates import FASTEST, SLOWEST, rate_factor
from utuning_search.designs.spaces.space import Space
from utuning_search.tuners import (
    AdapterConfig,
    BiasConfig,
    LoraConfig,
    NormConfig,
    PrefixConfig,
    PromptConfig,
    Scale,
    ScaleShiftConfig,
    TunerConfig,
)

from ..helpers import CASES
from .spaces.walking import sampled

DEPTH = 12
STUDIES = Path(__file__).resolve().parents[2] / "studies"


def factor(*placements: Placement, depth: int = DEPTH) -> float:
    return rate_factor(Design(placements).resolve(depth), depth)


def adapter(rank: int, scale: Scale = "none", blocks: str = "all") -> Placement:
    return Placement("mlp", AdapterConfig(rank), "parallel", scale, blocks)


def preset_factors() -> dict[str, float]:
    return {p.name: factor(*p.placements()) for p in PRESETS}


def falls(factors: list[float]) -> bool:
    return all(a > b for a, b in pairwise(factors))


def test_it_falls_with_the_rank() -> None:
    assert falls([factor(adapter(rank)) for rank in (1, 2, 4, 8, 16, 64, 256)])


def test_it_falls_with_a_constant_scale_whatever_its_sign() -> None:
    assert falls([factor(adapter(8, scale)) for scale in (0.1, 0.5, "none", 2.0, 4.0)])
    assert factor(adapter(8, -4.0)) == factor(adapter(8, 4.0))
    assert factor(adapter(8, 4.0)) == factor(adapter(32)), "a scale is worth as many ranks"


@pytest.mark.parametrize("scale", ["scalar", "channel", "gate"])
def test_a_scale_that_is_learned_says_nothing(scale: Scale) -> None:
    assert factor(adapter(8, scale)) == factor(adapter(8))


def test_the_share_of_the_depth_counts() -> None:
    assert falls([factor(adapter(8, blocks=where)) for where in ("first 1", "last 1/3", "last 1/2", "all")])
    assert factor(adapter(8, blocks="last 1/2")) == pytest.approx(factor(adapter(4)))
    assert factor(adapter(8, blocks="last 1/2"), depth=6) == pytest.approx(factor(adapter(8, blocks="last 1/2")))


def test_placements_add_up() -> None:
    lora = Placement("qkv", LoraConfig(4), "parallel")
    assert factor(adapter(8), lora) == pytest.approx(factor(adapter(12)))


def test_vectors_that_are_added_bear_more_than_those_that_multiply() -> None:
    vectors: tuple[TunerConfig, ...] = (BiasConfig(), NormConfig(), ScaleShiftConfig(), AdapterConfig(8))
    assert falls([factor(Placement("attention", tuner), Placement("mlp", tuner)) for tuner in vectors])


def test_what_has_no_rank_is_fastest_and_a_linear_probe_is_not() -> None:
    assert factor() == 2.0
    assert factor(Placement("block", PromptConfig(10, "deep"))) == FASTEST
    assert factor(Placement("attention", PrefixConfig(10, "exact"))) == FASTEST
    assert max(preset_factors().values()) == preset_factors()["vpt-deep"] == FASTEST == 3.2


def test_presets_are_ordered_by_what_a_step_moves() -> None:
    """By hand, 5 / (1 + ranks)^0.45: ranks times scale, summed over placements in all blocks."""
    found = preset_factors()
    slowest_first = ("parallel-adapter", "houlsby", "pfeiffer", "lora-all", "ssf", "lora", "adapter-plus", "bitfit")
    assert [round(found[name], 2) for name in slowest_first] == [0.25, 0.56, 0.76, 1.04, 1.17, 1.4, 1.86, 3.2]
    assert found["mlae"] < found["lora"], "equal ranks, but experts are wilder"
    assert found["adaptformer"] > found["pfeiffer"], "equal ranks, but its scale is 0.1"
    assert found["u-tuning-1"] > found["u-tuning-dual"], "one block of twelve"


def test_any_tuner_has_one_within_the_bounds() -> None:
    for case in CASES:
        assert SLOWEST <= factor(case.placement) <= FASTEST, case.name


@pytest.mark.parametrize("name", bundled("space"))
def test_any_design_has_one_within_the_bounds(name: str) -> None:
    factors = [rate_factor(design, 6) for design, _ in sampled(Space.load(name), 20)]
    assert all(0.25 == SLOWEST <= f <= FASTEST == 3.2 for f in factors)
    assert len(set(factors)) > 3 or name == "prompt"


def test_no_rank_is_too_high_for_a_rate() -> None:
    assert factor(adapter(768, 4.0), Placement("attention", AdapterConfig(768), "parallel", 4.0)) == SLOWEST


def test_later_methods_start_near_the_best_of_the_rates_that_were_measured() -> None:
    """Half, once, twice and four times 0.005 on digits; within a point of the best nothing can be told."""
    trials = pd.read_csv(STUDIES / "2026-11-27_presets_digits" / "trials.csv")
    trials = trials[trials["preset"].fillna("").str.contains(":learning_rate=")]
    named = trials["preset"].str.split(":learning_rate=", expand=True)
    measured = 0
    for name, rows in trials.groupby(named[0]):
        good = named[1].loc[rows.index].astype(float)[rows["accuracy"] > rows["accuracy"].max() - 0.011] / 0.005
        found = rate_factor(Design.preset(str(name)).resolve(6), 6)
        assert good.min() / math.sqrt(2) <= found <= good.max() * math.sqrt(2), name
        measured += 1
    assert measured >= 10
