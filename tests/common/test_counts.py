"""Counts in shorthand, as they are read and as they are written."""

import pytest

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
    ("value", "text"), [(650, "650"), (1_800, "1.8k"), (25_000, "25k"), (270_000, "0.27M"), (86_000_000, "86M")]
)
def test_counts_are_written(value: int, text: str) -> None:
    assert short(value) == text
