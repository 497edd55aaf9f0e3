"""Launchers: the workers that they start join a study, wherever they run."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from utuning_search.cli.launched import work
from utuning_search.cli.launching import Ended, Launch
from utuning_search.search.study import Study

from .hosts import NAME, NEW, Host, refused

TRIALS = 4


def check_study(host: Host, url: str) -> None:
    study = Study.load(NAME, studies_dir=host.folder / "studies", storage=url)
    assert sum(r.settled for r in study.trials()) == TRIALS
    assert not [r for r in study.trials() if r.state == "running"]


def test_workers_as_tasks_on_two_nodes(
    database: str, hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="no ray here: pip install 'utuning-search[ray]'")
    utils = pytest.importorskip("ray.cluster_utils")
    from utuning_search.cli import launch_ray

    host, _ = hosts
    cluster, real, found = utils.Cluster(), launch_ray.launch, []

    def launch(wanted: Launch, on_change: Callable[[int, int], None]) -> list[Ended]:
        found.extend(real(wanted, on_change))
        return found

    monkeypatch.setattr(launch_ray, "launch", launch)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, num_gpus=0, object_store_memory=80 << 20, include_dashboard=False)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        code, out, err = host.here(*NEW, f"--trials={TRIALS}", "--launcher=ray", "--workers=2", "-q")
        assert code == 0, (out, err)
        assert "front.csv" in out
        check_study(host, database)
        assert [e.reason for e in found] == ["", ""]
        assert len({e.where for e in found}) == 2, "both ran on one node"
        assert not ray.is_initialized()
    finally:
        cluster.shutdown()


def test_workers_as_jobs(database: str, hosts: tuple[Host, Host]) -> None:
    """Processes on this machine, as submitit has them where there is no Slurm. No secret is left in files."""
    pytest.importorskip("submitit", reason="no submitit here: pip install 'utuning-search[submitit]'")
    host, _ = hosts
    secret = database.replace("tester@", "tester:s3cr3t@")
    given = ("--launcher=submitit:cluster=local,timeout_min=10", "--workers=2", f"--storage={secret}", "-q")
    code, out, err = host.here(*NEW, f"--trials={TRIALS}", *given)
    assert code == 0, (out, err)
    check_study(host, database)
    files = [p for p in (host.folder / "studies").rglob("*") if p.is_file()]
    assert len([p for p in files if p.suffix == ".out"]) == 2
    assert not [p for p in files if b"s3cr3t" in p.read_bytes()]
    line = refused(host.here("worker", NAME, "--launcher=submitit:cluster=local,no_such=1", "-q"))
    assert "--launcher submitit: its options are submitit's" in line


@pytest.mark.usefixtures("database")
def test_what_cannot_be_launched(hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and nothing is written."""
    host, _ = hosts
    monkeypatch.setattr("utuning_search.cli.launch_ray.check", lambda _: None)
    cases = {
        "--launcher=rey": "Did you mean",
        "--launcher=ray:num_cpus": "options are written like ray:KEY=VALUE",
        "--launcher=ray --log=tensorboard=runs": "--log: workers of --launcher write no logs",
        "--launcher=ray --device=cuda:1": "--device",
        "--launcher=ray --workers=0": "--workers: with --launcher it is at least 1",
        "--launcher=ray --storage=sqlite:///x.db": "it goes with a study in a PostgreSQL database",
    }
    for given, said in cases.items():
        assert said in refused(host.here(*NEW, "--trials=1", *given.split())), given
    assert not (host.folder / "studies").exists()


@pytest.mark.usefixtures("database")
def test_without_its_library_it_says_what_to_install(hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ray", "submitit"):
        monkeypatch.setitem(sys.modules, name, None)
        line = refused(hosts[0].here(*NEW, "--trials=1", f"--launcher={name}"))
        assert f"pip install 'utuning-search[{name}]'" in line


def test_what_a_launched_worker_says(database: str, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert "it holds the study 'none'" in work(("none", f"--studies-dir={tmp_path}", "--workers=0", "-q"), database)
    assert signal.getsignal(signal.SIGTERM) is before


class Job:
    """A job of submitit's that has ended."""

    job_id = "7"

    def __init__(self, error: Exception | None, result: str = "") -> None:
        self._error, self._result = error, result

    def exception(self) -> Exception | None:
        return self._error

    def result(self) -> str:
        return self._result

    @property
    def paths(self) -> Any:
        class Paths:
            stderr = "logs/7.err"

        return Paths


def test_how_a_job_ended_is_told() -> None:
    pytest.importorskip("submitit", reason="no submitit here: pip install 'utuning-search[submitit]'")
    from utuning_search.cli.launch_submitit import _ended

    assert _ended(Job(None, "a line")) == Ended("job 7", "a line")
    assert _ended(Job(ValueError("Traceback\nlast"))) == Ended("job 7", "last (see logs/7.err)")


@pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="no SIGUSR2 here")
def test_a_job_whose_time_is_over_is_submitted_again_once_its_trials_were_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from utuning_search.cli import launch_submitit

    came: list[str] = []
    handlers = {
        signal.SIGUSR2: lambda *_: came.append("submitted again"),
        signal.SIGTERM: lambda *_: came.append("asked to end"),
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}

    def work(arguments: tuple[str, ...]) -> str:
        for _ in range(len(arguments)):
            signal.raise_signal(signal.SIGUSR2)
        came.append("given back")
        return ""

    monkeypatch.setattr(launch_submitit, "work", work)
    try:
        assert launch_submitit.Worker()(("one",)) == ""
        assert came == ["asked to end", "given back", "submitted again"]
        came.clear()
        launch_submitit.Worker()(())
        assert came == ["given back"]
        signal.raise_signal(signal.SIGUSR2)
        assert came[1:] == ["submitted again"], "submitit's own handler is not back"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
