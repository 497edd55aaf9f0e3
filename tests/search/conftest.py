"""A database that machines share, and two of them."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .hosts import Host

if TYPE_CHECKING:
    from ..postgres import Server


@pytest.fixture
def database(postgres: "Server", monkeypatch: pytest.MonkeyPatch) -> str:
    found = postgres.database()
    monkeypatch.setenv("OPTUNA_STORAGE", found)
    monkeypatch.setattr("utuning_search.search.leases.BEAT", 0.3)
    monkeypatch.setattr("utuning_search.search.leases.LEASE", 3.0)
    monkeypatch.setattr("utuning_search.search.runner.WATCH", 0.3)
    return found


@pytest.fixture
def hosts(tmp_path: Path) -> tuple[Host, Host]:
    return Host(tmp_path / "one"), Host(tmp_path / "two")
