"""Variables of the environment are as they were once they are not needed, whatever happened."""

import os

import pytest

from utuning_search.common.environment import environment


def test_variables_are_set_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UTUNING_THERE", "before")
    monkeypatch.delenv("UTUNING_ABSENT", raising=False)
    seen = []

    def look() -> None:
        seen.extend([os.environ["UTUNING_THERE"], os.environ["UTUNING_ABSENT"]])
        raise ValueError("meanwhile")

    with pytest.raises(ValueError, match="meanwhile"), environment(UTUNING_THERE="now", UTUNING_ABSENT="too"):
        look()
    assert seen == ["now", "too"]
    assert os.environ["UTUNING_THERE"] == "before"
    assert "UTUNING_ABSENT" not in os.environ
