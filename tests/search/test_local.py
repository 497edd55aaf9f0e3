"""run.toml: settings of another type are refused by name; what nobody reads is left alone."""

from pathlib import Path

import pytest

from utuning_search.common.errors import InputError
from utuning_search.search.local import read_local


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("owner = 5", "owner is str; got 5"),
        ("device = ['cpu']", "device is str; got ['cpu']"),
        ("storage = false", "storage is str; got False"),
        ("data_dir = { a = 1 }", "data_dir is str; got {'a': 1}"),
        ("budget = 48", "budget is a table; got 48"),
        ("budget = { trials = 'many' }", "budget.trials is int; got 'many'"),
        ("budget = { trials = 1.5 }", "budget.trials is int; got 1.5"),
        ("budget = { seconds = true }", "budget.seconds is int or float; got True"),
        ("budget = { trials = -5 }", "budget.trials is above 0; got -5"),
        ("budget = { seconds = nan }", "budget.seconds is above 0; got nan"),
        ("data_dir = '\\u0000'", r"data_dir has no zero byte; got '\x00'"),
        ("recommend = 1979-05-27", "recommend is a table; got"),
        ("recommend = { search_seconds = '5' }", "recommend.search_seconds is int or float; got '5'"),
    ],
)
def test_a_setting_of_another_type_is_refused(line: str, rule: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(line.replace("'", '"'))
    with pytest.raises(InputError) as refused:
        read_local(tmp_path / "run.toml")
    assert f"{tmp_path / 'run.toml'}: {rule}" in str(refused.value)


def test_other_settings_are_left_alone(tmp_path: Path) -> None:
    text = 'owner = "me"\nbudget = { trials = 5, seconds = 1 }\nlater = [1]\n'
    (tmp_path / "run.toml").write_text(text)
    assert read_local(tmp_path / "run.toml") == {"owner": "me", "budget": {"trials": 5, "seconds": 1}, "later": [1]}
    assert read_local(tmp_path / "none.toml") == {}
