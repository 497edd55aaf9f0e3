"""The supervisor: what processes say arrives, how each ended is known, and none is left behind."""

import importlib
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from utuning_search.training import workers as module
from utuning_search.training.workers import LOOK, SILENCE, STARTING, Channel, Ended, Workers, _Process

PATIENCE = 240.0
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def deeds(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("deeds")


@pytest.fixture
def no_tracker() -> None:
    """As in a fresh interpreter, whose first process starts Python's resource tracker."""
    multiprocessing.resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]  # private


@pytest.fixture
def no_server() -> None:
    """As in a fresh interpreter, whose first process starts what processes are copies of."""
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]  # private


@pytest.fixture(autouse=True, scope="module")
def _cold() -> Iterator[None]:
    """What these processes are copies of has imported nothing, and others would miss it."""
    yield
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]  # private


@pytest.fixture
def workers() -> Iterator[Workers[Any]]:
    made: Workers[Any] = Workers()
    yield made
    made.close()
    assert not multiprocessing.active_children()


@pytest.mark.usefixtures("no_server", "no_tracker")
def test_processes_talk_are_spared_ctrl_c_and_are_replaced(workers: Workers[Any], deeds: ModuleType) -> None:
    for number, greeting in enumerate(("first", "second")):
        workers.launch(number, deeds.echo, greeting)
    for process in multiprocessing.active_children():
        os.kill(process.pid or 0, signal.SIGINT)  # from its first moment on
    pids = {}
    while len(pids) < 2:
        for number, (greeting, pid) in workers.wait(PATIENCE):
            assert greeting == ("first", "second")[number]
            pids[number] = pid
    assert workers.wait(0) == []
    os.kill(pids[1], signal.SIGINT)
    workers.send(1, "still there")
    assert workers.wait(PATIENCE) == [(1, "still there")]
    os.kill(pids[0], signal.SIGKILL)
    assert workers.wait(PATIENCE) == [(0, Ended(-signal.SIGKILL))]
    assert workers.wait(0) == [], "its end is told twice"
    workers.launch(0, deeds.echo, "third")
    ((number, (greeting, pid)),) = workers.wait(PATIENCE)
    assert (number, greeting) == (0, "third")
    assert pid not in pids.values()
    workers.send(0, None)
    assert workers.wait(PATIENCE) == [(0, Ended(0))]
    assert [p.pid for p in multiprocessing.active_children()] == [pids[1]]  # which the fixture closes


@pytest.mark.usefixtures("no_server")
def test_processes_have_the_environment_of_now_and_share_what_was_imported(
    deeds: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of the places that this program imports from, whichever folder it is in."""
    (tmp_path / "colorsys.py").write_text("raise AssertionError('of the folder')")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "imported_once.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    workers: Workers[Any] = Workers(imports=["colorsys", "imported_once", "no.such.module"])  # the last is not there
    seen = []
    for value in ("first", "second"):
        monkeypatch.setenv("UTUNING_LOOKED_AT", value)
        workers.launch(0, deeds.look_around, "UTUNING_LOOKED_AT", "imported_once")
        seen.append(workers.wait(PATIENCE)[0][1])
        assert workers.wait(PATIENCE) == [(0, Ended(0))]
    assert [environment for _, environment, _ in seen] == ["first", "second"]
    if module.START == "forkserver":
        assert seen[0][0] == seen[1][0] != os.getpid()
        assert all(imported for _, _, imported in seen)


def test_a_copy_of_a_program_that_has_processes_starts_fresh_ones(
    workers: Workers[Any], deeds: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inherited() -> None:
        raise ChildProcessError("no child of ours")

    monkeypatch.setattr(multiprocessing.forkserver, "ensure_running", inherited)
    workers.launch(0, deeds.look_around, "PATH", "os")
    ((_, (parent, _, _)),) = workers.wait(PATIENCE)
    assert parent == os.getpid()
    assert workers.wait(PATIENCE) == [(0, Ended(0))]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are copies on Linux")
def test_a_process_starts_though_what_it_would_be_a_copy_of_is_killed(
    workers: Workers[Any], deeds: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: object) -> None:
        raise EOFError("unexpected EOF")

    with monkeypatch.context() as patch:
        patch.setattr(ForkServerProcess, "_Popen", staticmethod(killed))
        workers.launch(0, deeds.echo, "in time")
    assert workers.wait(PATIENCE)[0][1][0] == "in time"
    os.kill(multiprocessing.forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]  # private
    workers.launch(1, deeds.echo, "later")
    assert workers.wait(PATIENCE)[0][1][0] == "later"


def test_a_message_to_a_process_that_is_gone_is_no_error(workers: Workers[Any], deeds: ModuleType) -> None:
    workers.launch(0, deeds.echo, "here")
    (process,) = multiprocessing.active_children()
    process.kill()
    process.join()
    for _ in range(3):
        workers.send(0, "anyone?")
    assert workers.wait(PATIENCE) == [(0, Ended(-signal.SIGKILL))]


def test_a_process_that_says_nothing_any_more_is_ended(
    workers: Workers[Any], deeds: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAVING", 0.1)
    workers.launch(0, deeds.leave_the_room)
    assert workers.wait(PATIENCE) == [(0, Ended(-signal.SIGKILL))]
    assert not multiprocessing.active_children()


def test_a_process_that_could_not_be_started_is_closed_too(
    workers: Workers[Any], deeds: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(_: BaseProcess) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(BaseProcess, "start", start)
    with pytest.raises(OSError, match="no more"):
        workers.launch(0, deeds.echo, "never")
    workers.close()
    assert workers.wait(0) == []


@pytest.mark.parametrize(
    ("exitcode", "reason"),
    [
        (3, "its worker process ended with exit code 3"),
        (0, "its worker process ended with exit code 0"),
        (-signal.SIGTERM, "its worker process was killed by SIGTERM"),
        (-signal.SIGKILL, "its worker process was killed by SIGKILL (out of memory?)"),
    ],
)
def test_how_a_process_ended_is_told(exitcode: int, reason: str) -> None:
    assert Ended(exitcode).reason == reason


def test_a_process_that_is_stopped_is_noticed(
    workers: Workers[Any], deeds: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE", 2.0)
    workers.launch(0, deeds.echo, "here")
    ((_, (_, pid)),) = workers.wait(PATIENCE)
    os.kill(pid, signal.SIGSTOP)
    ((number, ended),) = workers.wait(PATIENCE)
    assert (number, ended) == (0, Ended(-signal.SIGKILL))
    assert ended.reason == "its worker process did not answer for 2 s"  # type: ignore[union-attr]  # it is Ended
    assert not multiprocessing.active_children()


class Dummy:
    """A process that is none; its end of the pipe is a test's."""

    exitcode = -signal.SIGKILL

    def __init__(self) -> None:
        self.killed = False
        self.pid = None  # so that nobody closes it

    def kill(self) -> None:
        self.killed = True

    def join(self, timeout: float = 0.0) -> None:
        del timeout


@pytest.fixture
def dummy(workers: Workers[Any]) -> tuple[Dummy, Any]:
    """A process of `workers` that begins, and its end of the pipe."""
    ours, theirs = multiprocessing.Pipe()
    made = Dummy()
    workers._running[0] = _Process(made, ours)
    return made, theirs


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that goes on by its only entry at each look."""
    step, now = [0.125], [0.0]

    def monotonic() -> float:
        now[0] += step[0]
        return now[0]

    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=monotonic))
    return step


def looks(workers: Workers[Any], count: int) -> list[Any]:
    return [event for _ in range(count) for event in workers._look(0)]


@pytest.mark.usefixtures("ticking")
def test_signs_of_life_are_no_messages_and_end_silence(workers: Workers[Any], dummy: tuple[Dummy, Any]) -> None:
    """Whatever a process works on, and however long: it beats meanwhile."""
    process, theirs = dummy
    channel = Channel(theirs)
    for _ in range(4):
        channel.beat()
        assert looks(workers, int(SILENCE / 0.125) - 5) == []
    assert not process.killed
    ((number, ended),) = looks(workers, 10)
    assert (number, ended.silent) == (0, SILENCE)
    assert process.killed
    channel.beat()  # to nobody


@pytest.mark.usefixtures("ticking")
def test_a_process_may_take_longer_to_start(workers: Workers[Any], dummy: tuple[Dummy, Any]) -> None:
    process, _ = dummy
    assert looks(workers, int(STARTING / 0.125) - 5) == []
    ((number, ended),) = looks(workers, 10)
    assert (number, ended.began, ended.silent) == (0, False, STARTING)
    assert process.killed


def test_time_in_which_this_process_was_stopped_is_no_silence(
    workers: Workers[Any], dummy: tuple[Dummy, Any], ticking: list[float]
) -> None:
    """Ctrl-Z, or a machine that slept."""
    process, theirs = dummy
    Channel(theirs).beat()
    looks(workers, 1)
    ticking[0] = 100 * SILENCE
    assert looks(workers, int(SILENCE / LOOK) - 1) == []
    assert not process.killed


def never(channel: Channel) -> None:
    raise AssertionError(channel)


@pytest.mark.usefixtures("no_server")  # it has the standard error of its first moment
@pytest.mark.parametrize("ours", [False, True])
def test_a_process_that_cannot_import_what_it_is_for_is_told_from_one_that_began(
    ours: bool, workers: Workers[Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """So does one whose main module starts workers again; ours is known not to."""
    nowhere = ModuleType("nowhere")
    monkeypatch.setitem(sys.modules, "nowhere", nowhere)
    nowhere.never = never  # type: ignore[attr-defined]  # it is made here
    monkeypatch.setattr(never, "__module__", "nowhere")
    monkeypatch.setattr(module, "_main_is_ours", lambda: ours)
    workers.launch(0, never)
    ((_, ended),) = workers.wait(PATIENCE)
    assert (ended.exitcode, ended.began, ended.unimportable, workers.begun) == (1, False, True, False)
    assert ended.reason.startswith("its worker process ended with exit code 1 while it was starting")
    assert ('if __name__ == "__main__":' in ended.reason) != ours
    assert "nowhere" in capfd.readouterr().err
    assert not Ended(1).unimportable
    assert not Ended(-signal.SIGKILL, began=False).unimportable


def test_a_script_without_a_guard_is_told_of_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from utuning_search.training.workers import Workers\n"
        "workers = Workers()\nworkers.launch(0, print)\nprint(workers.wait(240)[0][1].reason)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        line = [sys.executable, *arguments]
        return subprocess.run(line, input=stdin, capture_output=True, text=True, env=environment, check=False)

    assert "exit code 1 while it was starting; a script that starts workers has to call it under `if" in (
        run(str(script)).stdout
    )
    said = run("-", stdin=script.read_text())
    assert said.returncode != 0
    assert (
        "the program that starts them is a file; got <stdin>. Put it into a file and call it under `if" in said.stderr
    )
    guarded = (
        script.read_text().replace("workers = ", 'if __name__ == "__main__":\n  workers = ').replace("\nw", "\n  w")
    )
    script.write_text(guarded.replace("\nprint", "\n  print"))
    assert "began" not in run(str(script)).stdout
    assert "ended with exit code 0" in run(str(script)).stdout


@pytest.mark.parametrize("deed", ["send", "receive"])
def test_a_process_whose_parent_is_gone_ends_quietly(deed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    ours, theirs = multiprocessing.Pipe()
    channel = Channel(theirs)
    ours.close()
    with pytest.raises(SystemExit) as left:
        channel.send("anyone?") if deed == "send" else channel.receive()
    assert left.value.code == 0
    theirs.close()
