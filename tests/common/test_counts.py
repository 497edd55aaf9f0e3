"""Counts in shorthand, as they are read and as they are written."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utuning_search.common.counts import parse_count, short
from utuning_search.common.errors import InputError


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("50k", 50_000), ("50K", 50_000), ("1.25M", 1_250_000)])
def test_counts(text: str, value: int) -> None:
    assert parse_count(text, "here") == value


@pytest.mark.parametrize("text", ["", "many", "-5", "5kk", "1e5", "k", "5 k", "9" * 400, "9" * 5000 + "k"])
def test_no_count(text: str) -> None:
    with pytest.raises(InputError, match=r"here: a count is a number such as 50000, 50k or 1\.2M"):
        parse_count(text, "here")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (650, "650"),
        (999, "999"),
        (1_800, "1.8k"),
        (25_000, "25k"),
        (25_060, "25.1k"),
        (100_000, "100k"),
        (270_499, "270k"),
        (999_499, "999k"),
        (999_500, "1M"),
        (1_234_567, "1.23M"),
        (86_000_000, "86M"),
        (2_500_000_000, "2.5G"),
        (123_456_000_000, "123G"),
    ],
)
def test_counts_are_written(value: int, text: str) -> None:
    assert short(value) == text


@settings(max_examples=30)
@given(st.integers(0, 900_000_000_000))
def test_a_written_count_is_read_as_the_count_it_rounds(value: int) -> None:
    assert parse_count(short(value), "here") == pytest.approx(value, rel=0.0051)
