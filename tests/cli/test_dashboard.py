"""`dashboard`: the real library, asked over HTTP for what a browser asks it for."""

import json
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIServer

import pytest
from optuna.storages import BaseStorage, InMemoryStorage

from utuning_search.cli import dashboard
from utuning_search.search.storage import open_storage
from utuning_search.testing.pretend import PretendStudy

from .commands import command, refused

NAME = "smoke-tiny"


@contextmanager
def served(storage: BaseStorage) -> Iterator[int]:
    """The port at which a storage is served."""
    with dashboard.server(storage, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def get(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://{dashboard.HOST}:{port}{path}") as answer:
        return json.load(answer)


def test_it_shows_fronts_and_curves(tmp_path: Path) -> None:
    study = PretendStudy(storage=open_storage(None, tmp_path))
    study.play(5)
    with served(study.storage) as port:
        (found,) = get(port, "/api/studies")["study_summaries"]
        detail = get(port, f"/api/studies/{found['study_id']}")
        place = dashboard.address(study.storage, "pretend", port)
        assert place == f"http://127.0.0.1:{port}/dashboard/studies/{found['study_id']}"
        with urllib.request.urlopen(place) as page:
            assert b"<html" in page.read()
    assert [t.number for t in study.optuna.best_trials] == [t["number"] for t in detail["best_trials"]]
    curves = {t["number"]: {s["step"]: s["value"] for s in t["intermediate_values"]} for t in detail["trials"]}
    assert curves == {r.number: r.rungs for r in study.scheduler.records()}
    assert all(curves.values())


@pytest.mark.usefixtures("studied")
def test_the_command_prints_the_address_and_ends_at_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def serve_forever(self: WSGIServer) -> None:
        asked.append(self.server_address[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(dashboard._Server, "serve_forever", serve_forever)
    said = command("dashboard", NAME, "--port", "0")
    assert (said.code, said.err, asked) == (0, "", ["127.0.0.1"])
    assert said.out.startswith("Dashboard  http://127.0.0.1:")


@pytest.mark.usefixtures("studied")
def test_a_taken_port_and_one_that_is_none() -> None:
    with dashboard.server(InMemoryStorage(), 0) as server:
        said = refused("dashboard", NAME, "--port", str(server.server_port))
    assert "it is free" in said
    assert "--port: it is from 0" in refused("dashboard", NAME, "--port", "65536")


@pytest.mark.usefixtures("place")
def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    assert "pip install 'utuning-search[dashboard]'" in refused("dashboard", NAME)


def test_an_error_of_the_database_is_said_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    said = StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    stream = dashboard._Masked("postgresql://me:hunter2@host/db")
    stream.write('connection to "me:hunter2@host" failed')
    stream.write("\n")
    assert "hunter2" not in said.getvalue()
    assert said.getvalue().count("\n") == 1
