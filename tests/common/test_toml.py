"""TOML and what becomes of its tables: whatever cannot be read is refused by its file or key."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from utuning_search.common.errors import InputError
from utuning_search.common.toml import build, read_toml


@dataclass(frozen=True)
class Thing:
    share: float
    maybe: float | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    "text",
    ["a = ", "a = " + "[" * 3000, "a = " + "{b=" * 3000, "a = " + "9" * 5000, 'a = "\\ud800"', "a = 2026-02-30"],
    ids=["nothing", "brackets", "braces", "digits", "half a letter", "no such day"],
)
def test_what_is_no_toml_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "it.toml").write_text(text)
    with pytest.raises(InputError, match=r"it\.toml: the file is valid TOML; got "):
        read_toml(tmp_path / "it.toml")


def test_tables_and_nothing_are_values_too() -> None:
    found = build(Thing, {"share": 1, "maybe": None, "numbers": {"a": 1}, "anything": {"b": [None]}}, "it")
    assert found == Thing(1.0, None, {"a": 1.0}, {"b": [None]})
    assert isinstance(found.numbers["a"], float)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"share": 10**400}, "it, share: this is small enough for a float; got a larger one"),
        ({"share": None}, "it, share: this is of type float; got None"),
        ({"share": 1, "maybe": "2"}, "it, maybe: this is of type float; got '2'"),
        ({"share": 1, "numbers": [1]}, "it, numbers: this is a table; got [1]"),
        ({"share": 1, "numbers": {"a": True}}, "it, numbers, a: this is of type float; got True"),
        ({"share": 1, "anything": 5}, "it, anything: this is a table; got 5"),
    ],
)
def test_values_of_another_type_are_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refused:
        build(Thing, table, "it")
    assert str(refused.value) == f"{said}."
