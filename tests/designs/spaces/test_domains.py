"""Domains: what they contain, how large they are, what they ask of a trial, how TOML writes them."""

import math
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any

import pytest
import tomli_w
from hypothesis import assume, given
from hypothesis import strategies as st

from utuning_search.common.errors import InputError
from utuning_search.designs.spaces.domains import Choice, Domain, FloatRange, IntRange, Value, parse_domain


@dataclass
class Trial:
    """Records what it is asked, and answers by a fraction in [0, 1] of the way through the domain."""

    fraction: float = 0.0
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def suggest_categorical(self, name: str, choices: Sequence[Value]) -> Value:
        self.asked.append(("categorical", name, tuple(choices)))
        return choices[min(int(self.fraction * len(choices)), len(choices) - 1)]

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        self.asked.append(("int", name, low, high, log))
        return low + round(self.fraction * (high - low))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked.append(("float", name, low, high, log))
        return min(low + self.fraction * (high - low), high)


finite = st.floats(-1e6, 1e6)
values = st.one_of(st.booleans(), st.integers(-99, 99), finite, st.text(max_size=5))


@st.composite
def domains(draw: st.DrawFn) -> Domain:
    kind, log = draw(st.sampled_from(("choice", "int", "float"))), draw(st.booleans())
    if kind == "choice":
        return Choice(tuple(draw(st.lists(values, min_size=1, max_size=5, unique_by=repr))))
    numbers = st.integers(-99, 99) if kind == "int" else finite
    low, high = sorted((draw(numbers), draw(numbers)))
    assume(not log or low > 0)
    return IntRange(int(low), int(high), log) if kind == "int" else FloatRange(low, high, log)


@given(domains(), st.floats(0, 1))
def test_what_is_suggested_is_contained(domain: Domain, fraction: float) -> None:
    assert domain.contains(domain.suggest(Trial(fraction), "x"))


@given(domains())
def test_toml_round_trip(domain: Domain) -> None:
    raw = tomllib.loads(tomli_w.dumps({"x": domain.to_raw()}))["x"]
    again = parse_domain(raw, "x")
    assert type(again) is type(domain)
    assert again == domain
    assert repr(again) == repr(domain)


@given(domains())
def test_size_counts_what_is_contained(domain: Domain) -> None:
    if domain.size is not None:
        candidates = {repr(v): v for v in (*getattr(domain, "values", ()), *range(-100, 101))}
        assert domain.size == sum(domain.contains(v) for v in candidates.values())


@given(domains(), st.one_of(st.none(), st.lists(st.integers()), values))
def test_membership_of_anything_is_answered(domain: Domain, value: object) -> None:
    assert domain.contains(value) in (True, False)


@pytest.mark.parametrize(
    ("domain", "inside", "outside"),
    [
        (Choice((1, 2)), [1, 2], [3, 1.0, True, "1", None]),
        (Choice((True, "a", 0.5)), [True, "a", 0.5], [1, False, "b", "A"]),
        (IntRange(2, 4), [2, 3, 4], [1, 5, 2.0, "2", True, None, math.nan]),
        (IntRange(0, 1), [0, 1], [True, False]),
        (FloatRange(0.1, 2.0), [0.1, 1, 1.5, 2.0], [0.09, 2.1, "1", True, None, math.nan, math.inf]),
    ],
    ids=str,
)
def test_contains(domain: Domain, inside: list[object], outside: list[object]) -> None:
    assert all(domain.contains(v) for v in inside)
    assert not any(domain.contains(v) for v in outside)


@pytest.mark.parametrize(
    ("domain", "size"),
    [
        (Choice((1,)), 1),
        (Choice(("a", "b", 3)), 3),
        (IntRange(3, 3), 1),
        (IntRange(-2, 2), 5),
        (FloatRange(0, 1), None),
    ],
    ids=str,
)
def test_size(domain: Domain, size: int | None) -> None:
    assert domain.size == size


@pytest.mark.parametrize(
    ("domain", "asked"),
    [
        (Choice(("a", "b")), [("categorical", "x", ("a", "b"))]),
        (IntRange(1, 64, log=True), [("int", "x", 1, 64, True)]),
        (FloatRange(1e-4, 1e-2, log=True), [("float", "x", 1e-4, 1e-2, True)]),
        (Choice(("a",)), []),
        (IntRange(3, 3), []),
    ],
    ids=str,
)
def test_a_trial_is_asked_only_where_there_is_a_choice(domain: Domain, asked: list[tuple[Any, ...]]) -> None:
    trial = Trial()
    domain.suggest(trial, "x")
    assert trial.asked == asked


@pytest.mark.parametrize(
    ("build", "rule"),
    [
        (lambda: Choice(()), "a list of choices is not empty"),
        (lambda: Choice((1, 2, 1)), "choices are distinct"),
        (lambda: IntRange(2, 1), "low is at most high"),
        (lambda: FloatRange(1.0, 0.5), "low is at most high"),
        (lambda: FloatRange(0.0, math.inf), "both finite"),
        (lambda: FloatRange(math.nan, 1.0), "both finite"),
        (lambda: IntRange(0, 4, log=True), "a logarithmic range starts above 0"),
        (lambda: FloatRange(-1.0, 4.0, log=True), "a logarithmic range starts above 0"),
    ],
)
def test_an_illegal_domain_cannot_be_built(build: Callable[[], Domain], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        build()


@pytest.mark.parametrize(
    ("raw", "domain"),
    [
        (3, Choice((3,))),
        ("gelu", Choice(("gelu",))),
        (False, Choice((False,))),
        ([1, 2.0, "a", True], Choice((1, 2.0, "a", True))),
        ({"low": 1, "high": 8}, IntRange(1, 8)),
        ({"low": 1, "high": 8, "log": True}, IntRange(1, 8, True)),
        ({"low": 0.5, "high": 8}, FloatRange(0.5, 8.0)),
        ({"low": 1e-4, "high": 1e-2, "log": True}, FloatRange(1e-4, 1e-2, True)),
    ],
    ids=str,
)
def test_parse(raw: object, domain: Domain) -> None:
    parsed = parse_domain(raw, "here")
    assert parsed == domain
    assert repr(parsed) == repr(domain)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "here: a list of choices is not empty; got []."),
        ([1, 1], "here: choices are distinct; got [1, 1]."),
        ({"low": 3, "high": 1}, "here: low is at most high, both finite; got low 3, high 1."),
        ({"low": 0, "high": 1, "log": True}, "here: a logarithmic range starts above 0; got low 0."),
        ({"low": 1}, "here: a range has a number low, a number high"),
        ({"low": "1", "high": 2}, "here: a range has a number low, a number high"),
        ({"low": True, "high": 2}, "here: a range has a number low, a number high"),
        ({"low": 1, "high": 2, "log": 1}, "and log = true or false"),
        ({"low": 1, "hihg": 2}, "here: only known keys are allowed; got 'hihg'. Did you mean 'high'?"),
        ([[1], [2]], "here: a choice is a string, number or boolean; got [1]."),
        ([None], "here: a choice is a string, number or boolean; got None."),
        (None, "here: a choice is a string, number or boolean; got None."),
        ({}, "here: a range has a number low, a number high"),
    ],
    ids=str,
)
def test_parse_refuses(raw: object, message: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_domain(raw, "here")
    assert message in str(refused.value)


def test_domains_are_frozen_values() -> None:
    assert len({IntRange(1, 2), IntRange(1, 2), FloatRange(1, 2), Choice((1, 2))}) == 3
    with pytest.raises(FrozenInstanceError):
        IntRange(1, 2).low = 0  # type: ignore[misc]
