"""Known methods start at learning rates of their own; studies made before there was a choice keep the task's."""

import pytest

from utuning_search.common.bundled import bundled
from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design
from utuning_search.designs.known_methods import PRESETS
from utuning_search.designs.rates import rate_factor
from utuning_search.designs.spaces.space import Space
from utuning_search.search.spec import StudySpec
from utuning_search.testing.pretend import SHAPE, PretendStudy

DEPTH = SHAPE.depth
FULL = Space.load("full")


def spec(space: Space = FULL) -> StudySpec:
    """With all known methods, whether they lie in the space or not."""
    new = PretendStudy(space=space).spec.to_dict()
    return StudySpec.from_dict({**new, "presets": ["all"]})


def old(of: StudySpec) -> StudySpec:
    """The same as an earlier version wrote it."""
    return StudySpec.from_dict({name: value for name, value in of.to_dict().items() if name != "rates"})


def test_new_studies_say_that_rates_are_their_own() -> None:
    new = spec()
    assert new.rates == "own"
    assert new.to_dict()["rates"] == "own"
    assert StudySpec.from_dict(new.to_dict()) == new


def test_a_table_that_does_not_say_so_means_the_tasks() -> None:
    before = old(spec())
    assert before.rates == "task"
    assert "rates" not in before.to_dict(), "its table, and so its digest, are as they were"
    assert StudySpec.from_dict(before.to_dict()) == before


def test_it_is_a_difference_and_another_digest() -> None:
    new = spec()
    assert new.digest != old(new).digest
    assert new.differences(old(new)) == ["rates: own here, nothing there"]
    assert old(new).differences(new) == ["rates: nothing here, own there"]
    assert new.differences(spec()) == []


@pytest.mark.parametrize("name", ["full", "adapter", "noah"])
def test_presets_of_an_old_study_are_at_the_tasks_rate(name: str) -> None:
    space = Space.load(name)
    before = old(spec(space))
    designs = before.preset_designs(DEPTH)
    assert len(designs) == len(PRESETS)
    assert {d.learning_rate for d in designs.values()} == {before.task.recipe.learning_rate}
    for label, design in space.preset_designs(DEPTH, before.task.recipe.learning_rate).items():
        assert designs[label] == design


@pytest.mark.parametrize("name", ["full", "adapter"])
def test_presets_of_a_new_study_are_at_rates_that_suit_them(name: str) -> None:
    space = Space.load(name)
    new = spec(space)
    designs, before = new.preset_designs(DEPTH), old(new).preset_designs(DEPTH)
    assert list(designs) == list(before)
    for label, design in designs.items():
        assert design.placements == before[label].placements
        good = new.task.recipe.learning_rate * rate_factor(design, DEPTH)
        assert design.learning_rate == space.preset_rate(good)
    assert len({d.learning_rate for d in designs.values()}) > 4
    assert designs["parallel-adapter"].learning_rate < designs["bitfit"].learning_rate  # type: ignore[operator]  # each has one
    inside = [label for label, design in before.items() if space.contains(design, DEPTH)]
    assert all(space.contains(designs[label], DEPTH) for label in inside)


def test_a_rate_beyond_the_range_becomes_the_nearer_end_however_far_it_lies() -> None:
    assert FULL.learning_rate is not None
    low, high = FULL.preset_rate(1e-9), FULL.preset_rate(100.0)
    assert low < high
    assert [FULL.preset_rate(rate) for rate in (5e-324, 0.0, 1e308, float("inf"))] == [low, low, high, high]
    listed = Space.from_dict({**FULL.raw, "learning_rate": [0.001, 0.1]}, "space")
    assert [listed.preset_rate(rate) for rate in (0.009, 0.011, 1e308)] == [0.001, 0.1, 0.1]


@pytest.mark.parametrize("name", ["noah", "smoke", "utuning"])
def test_where_a_space_has_no_rates_known_methods_are_at_the_one_of_all(name: str) -> None:
    """So that they compare with its designs, and are the same designs."""
    new = spec(Space.load(name))
    assert new.rates == "own"
    assert {d.learning_rate for d in new.preset_designs(DEPTH).values()} == {new.task.recipe.learning_rate}


@pytest.mark.parametrize("name", bundled("space"))
def test_known_methods_are_trained_at_the_rate_that_the_spec_says(name: str) -> None:
    space = Space.load(name)
    study = PretendStudy(space=space)
    records = study.play(len(space.presets))
    assert {r.preset: r.design for r in records} == study.spec.preset_designs(DEPTH)


@pytest.mark.parametrize("name", ["full", "smoke"])
def test_a_rate_that_is_asked_for_is_taken_as_it_is(name: str) -> None:
    """Also where the space has another, or none; the usual one of the same method stays beside it."""
    text = "ssf:learning_rate=0.0123,ssf,adapter-plus:rank=4:learning_rate=2"
    table = PretendStudy(space=Space.load(name)).spec.to_dict()
    designs = StudySpec.from_dict({**table, "presets": [text]}).preset_designs(DEPTH)
    known = spec(Space.load(name)).preset_designs(DEPTH)
    asked, usual, larger = (designs[part] for part in text.split(","))
    assert (asked.learning_rate, larger.learning_rate) == (0.0123, 2.0)
    assert usual == known["ssf"]
    assert asked.placements == usual.placements
    assert asked == Design.preset("ssf", learning_rate=0.0123).resolve(DEPTH)
    assert {p.tuner.options()["rank"] for p in larger.placements} == {4}


@pytest.mark.parametrize("rate", ["0", "-1", "high", "true", "nan", "1e3"])
def test_a_rate_that_is_none_is_refused(rate: str) -> None:
    with pytest.raises(InputError, match=r"preset 'ssf': learning_rate is a number above 0; got"):
        StudySpec.from_dict({**PretendStudy().spec.to_dict(), "presets": [f"ssf:learning_rate={rate}"]})


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 3000], ids=["digits", "brackets"])
def test_options_that_nothing_can_read_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="rank"):
        StudySpec.from_dict({**PretendStudy().spec.to_dict(), "presets": [f"lora:rank={text}"]})


def test_an_option_is_given_once() -> None:
    """The last one would win without a word."""
    with pytest.raises(InputError, match="preset 'lora': each option is given once; got 'lora:rank=2:rank=4'"):
        StudySpec.from_dict({**PretendStudy().spec.to_dict(), "presets": ["lora:rank=2:rank=4"]})


def test_rates_that_nobody_knows_are_refused() -> None:
    with pytest.raises(InputError, match="rates is own or task; got 'owm'"):
        StudySpec.from_dict({**PretendStudy().spec.to_dict(), "rates": "owm"})
