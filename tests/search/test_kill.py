"""Real processes and real signals: a study killed at any moment, or out of disk, loses nothing and repeats nothing.

Moments are events in the journal, not times: what a process does between the event and the signal differs from
run to run, and the outcome may not. The budget is never reached before the signal, and the study that was never
stopped is taken as far as the stopped one got.
"""

import errno
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal import JournalFileBackend

from utuning_search.cli.main import main
from utuning_search.designs.design import Design
from utuning_search.search.budget import Budget
from utuning_search.search.runner import LOSSES
from utuning_search.search.storage import JOURNAL, JournalLock
from utuning_search.search.study import Study
from utuning_search.training.pool import Job, ProcessPool, Rung
from utuning_search.training.runtime import Runtime
from utuning_search.training.task import Task

from ..leash import Leash, end_with_parent

GUARD = 240  # seconds; only a hang takes as long
ENDLESS = 10_000
TASK = """
name = "tiny"
[backbone]
name = "glyph_vit"
[data]
source = "digits"
proxy = 100
validation = 60
[training]
epochs = 3
batch_size = 50
rungs = [1]
"""
SPACE = """
name = "mini"
presets = ["linear-probe", "adapter"]
learning_rate = [0.005, 0.0001, 0.02]
[[slots]]
name = "mlp"
operation = "mlp"
tuner = ["none", "adapter", "norm"]
form = ["sequential", "parallel"]
rank = [1, 10]
blocks = ["all", "last 1"]
"""
Log = list[dict[str, Any]]


class Place:
    """A folder with a space, a task and a `studies` folder; commands run in it, in this process or in another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = (str(folder / "mini.toml"), str(folder / "tiny.toml"))
        for file, text in zip(self.files, (SPACE, TASK), strict=True):
            Path(file).write_text(text)

    def new(self, name: str, trials: int) -> list[str]:
        """Arguments that start a study."""
        return ["run", f"--space={self.files[0]}", f"--task={self.files[1]}", f"--name={name}", f"--trials={trials}"]

    def here(self, *arguments: str) -> int:
        """Run a command in this process."""
        return main([*arguments, f"--studies-dir={self.folder / 'studies'}"])

    def study(self, name: str) -> Study:
        return Study.load(name, studies_dir=self.folder / "studies")

    def journal(self, name: str) -> Path:
        return self.folder / "studies" / name / JOURNAL


def run_command(folder: Path, output: Path, arguments: tuple[str, ...]) -> None:
    """What a process is that was asked for a command: in a session of its own, with a file for what it says."""
    os.setsid()
    os.chdir(folder)
    with output.open("w", encoding="utf-8", buffering=1) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        sys.stdout = sys.stderr = file
        sys.exit(main(list(arguments)))


class Command:
    """`utuning-search` as a process, and its workers, in a process group of their own.

    It is forked off this process, which has imported torch; its workers are started as ever.
    """

    def __init__(self, place: Place, name: str, *arguments: str) -> None:
        self.journal, self.output = place.journal(name), place.folder / f"{name}.txt"
        context = multiprocessing.get_context("fork")
        given = (place.folder, self.output, (*arguments, "--workers=1"))
        self.process = context.Process(target=run_command, args=given)
        self.process.start()
        self.pid = self.process.pid or 0
        wait_for(lambda: self.process.exitcode is not None or os.getpgid(self.pid) == self.pid)
        self.leash = Leash(self.pid)

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *error: object) -> None:
        for pid, _, _ in self.members():
            os.kill(pid, signal.SIGKILL)
        self.ended()
        self.leash.off()

    def ended(self) -> int | None:
        """Its exit code, once it has ended."""
        self.process.join(GUARD)
        return self.process.exitcode

    def until(self, event: Callable[[Log], bool]) -> None:
        """Wait until the journal shows an event."""

        def seen() -> bool:
            assert self.process.exitcode is None, f"it ended by itself: {self.output.read_text()}"
            return event(read_log(self.journal))

        wait_for(seen)

    def members(self) -> list[tuple[int, int, str]]:
        """(process id, parent's id, command) of every living process of the group."""
        return [(pid, parent, line) for pid, parent, group, line in processes() if group == self.pid]

    def workers(self) -> list[int]:
        """Their parent is the process that they are copies of, where there is one."""
        members = self.members()
        copied = {pid for pid, parent, line in members if parent == self.pid and "forkserver" in line}
        return [p for p, parent, line in members if parent in copied or (parent == self.pid and "spawn_main" in line)]


def processes() -> Iterator[tuple[int, int, int, str]]:
    """(process id, parent's id, group, command) of the living; a zombie is dead and only not yet buried."""
    table = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,pgid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    for line in table.splitlines():
        pid, parent, group, state, *command = line.split(maxsplit=4)
        if not state.startswith("Z"):
            yield int(pid), int(parent), int(group), "".join(command)


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(GUARD * 20):
        if condition():
            return
        time.sleep(0.05)  # what is looked at takes some time of a core too
    pytest.fail(f"nothing happened for {GUARD} s")


def read_log(journal: Path) -> Log:
    """The whole lines of a journal, whoever is writing it."""
    content = journal.read_bytes() if journal.exists() else b""
    return [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith(b"\n")]


def finished(log: Log) -> int:
    """Trials that were told as complete or pruned; Optuna's operation 6 sets a state."""
    return sum(line["op_code"] == 6 and line.get("state") in (1, 2) for line in log)


def attributes(log: Log, prefix: str) -> int:
    """How often an attribute of a trial was set whose name starts so."""
    return sum(name.startswith(prefix) for _, told in told_of(log) for name in told)


def told_of(log: Log) -> Iterator[tuple[int, dict[str, Any]]]:
    """(trial, attributes) of each line that sets some: as it is created (4), or one at a time (8)."""
    created = 0
    for line in log:
        if line["op_code"] == 4:
            yield created, line.get("user_attrs") or {}
            created += 1
        elif line["op_code"] == 8:
            yield line["trial_id"], line["user_attr"]


def outcomes(study: Study) -> list[tuple[object, ...]]:
    """Settled trials in order, with the weights of the trained ones; interrupted trials have numbers too."""
    settled = [r for r in study.trials() if r.settled]
    position = {r.number: i for i, r in enumerate(settled)}
    return [
        (
            *(r.key, r.design, r.state, r.preset, r.parameters, r.accuracy, r.epochs, dict(r.rungs), r.reason),
            None if r.reused is None else position[r.reused],
            study.weights_file(r.number).read_bytes() if study.weights_file(r.number).exists() else b"",
        )
        for r in settled
    ]


def check_equal(place: Place, name: str) -> None:
    """A study equals the one that was never stopped, which is taken as far as this one."""
    study, whole = place.study(name), place.study("whole")
    found = outcomes(study)
    assert whole.run(Budget(trials=len(found)), workers=0)
    assert found == outcomes(whole)[: len(found)]
    log = read_log(place.journal(name))
    interrupted = {trial for trial, told in told_of(log) if "interrupted" in told}
    indices = {trial: told["index"] for trial, told in told_of(log) if "index" in told}
    counted = [index for trial, index in indices.items() if trial not in interrupted]
    assert sorted(counted) == list(range(len(found))), "a trial was lost or repeated"
    assert all(r.settled or r.state == "interrupted" for r in study.trials())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """With a study `whole` that is never stopped while it runs."""
    made = Place(tmp_path_factory.mktemp("kill"))
    assert made.here(*made.new("whole", 9), "--workers=0", "-q") == 0
    assert len(outcomes(made.study("whole"))) == 9
    return made


def test_killed_at_three_moments_and_resumed(place: Place) -> None:
    arguments = place.new("killed", ENDLESS)
    moments: list[tuple[Callable[[Log], bool], bool]] = [
        (lambda log: attributes(log, "index") > 0, True),  # the first trial is chosen; its worker still starts
        (lambda log: finished(log) >= 1 and on_its_way(log), False),  # one is being trained
        (lambda log: finished(log) >= before + 2, True),  # one was just finished
    ]
    for event, whole_group in moments:
        before = finished(read_log(place.journal("killed")))
        with Command(place, "killed", *arguments) as command:
            command.until(event)
            if whole_group:
                os.killpg(command.pid, signal.SIGKILL)
            else:
                command.process.kill()
            assert command.ended() == -signal.SIGKILL
            left = files(command.journal.parent)
            wait_for(lambda command=command: not command.members())  # type: ignore[misc]  # a default argument
            assert files(command.journal.parent) == left, "a worker went on writing"
        assert finished(read_log(place.journal("killed"))) >= before
        arguments = ["resume", "killed", f"--trials={ENDLESS}"]
    target = len(outcomes(place.study("killed"))) + 2
    assert place.here("resume", "killed", f"--trials={target}", "--workers=0", "-q") == 0
    assert len(outcomes(place.study("killed"))) == target
    check_equal(place, "killed")


def on_its_way(log: Log) -> bool:
    """Whether a trial was chosen and has not ended: nearly always so, and so not missed by looking now and then."""
    return attributes(log, "index") > finished(log)


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_killed_worker_and_ctrl_c(place: Place) -> None:
    """The killed worker's trial is tried again; Ctrl-C ends the run, says how to go on and leaves no trial running."""
    with Command(place, "stopped", *place.new("stopped", ENDLESS)) as command:
        command.until(lambda log: finished(log) > 0 and on_its_way(log))
        (worker,) = command.workers()
        os.kill(worker, signal.SIGKILL)
        command.until(lambda log: attributes(log, "interrupted") > 0)
        before = finished(read_log(command.journal))
        command.until(lambda log: finished(log) > before + 1 and on_its_way(log))
        os.killpg(command.pid, signal.SIGINT)  # as a terminal does
        assert command.ended() == 130
        output = command.output.read_text()
        assert "utuning-search resume stopped" in output
        assert "Traceback" not in output
        wait_for(lambda: not command.members())
    records = place.study("stopped").trials()
    assert all(r.settled or r.state == "interrupted" for r in records)
    assert any("SIGKILL" in r.reason for r in records if r.state == "interrupted")
    target = len(outcomes(place.study("stopped"))) + 2
    assert place.here("resume", "stopped", f"--trials={target}", "--workers=0", "-q") == 0
    check_equal(place, "stopped")


def test_workers_that_are_killed_while_they_start_end_the_run(place: Place) -> None:
    """With one clear line; no design counts as failed, and the study goes on as if nothing had been."""
    struck: set[int] = set()
    with Command(place, "unlucky", *place.new("unlucky", ENDLESS)) as command:

        def ended() -> bool:
            for worker in set(command.workers()) - struck:
                with suppress(ProcessLookupError):  # one that the run has ended meanwhile
                    os.kill(worker, signal.SIGKILL)
                    struck.add(worker)
            return command.process.exitcode is not None

        wait_for(ended)
        assert command.process.exitcode == 2
        said = command.output.read_text()
    # Whether the last one's replacement is seen before the run ends depends on how fast this process looks.
    assert len(struck) - LOSSES in (0, 1)
    (line,) = [line for line in said.splitlines() if "error" in line]
    assert f"{LOSSES} lost in a row; the last: its worker process was killed by SIGKILL" in line
    assert "Traceback" not in said
    assert {r.state for r in place.study("unlucky").trials()} == {"interrupted"}
    assert place.here("resume", "unlucky", "--trials=3", "--workers=0", "-q") == 0
    check_equal(place, "unlucky")


def train_for_ever(folder: Path, pipe: Connection) -> None:
    """Start a worker on a trial of very many epochs, tell its process id once it trains, and wait."""
    end_with_parent()
    path = folder / "endless.toml"
    path.write_text(TASK.replace("epochs = 3", "epochs = 1000000"))
    pool = ProcessPool(Task.load(str(path)), [Runtime()])
    pool.start(0, Job(Design(()), seed=0))
    events: list[tuple[int, Any]] = []
    while not events:
        events = pool.wait(1)
    assert isinstance(events[0][1], Rung)
    pool.answer(0, True)
    (worker,) = multiprocessing.active_children()
    pipe.send(worker.pid)
    signal.pause()


def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    """At once, not at its next report, which may be hours away."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    parent = context.Process(target=train_for_ever, args=(tmp_path, theirs))
    parent.start()
    theirs.close()
    assert ours.poll(GUARD)
    worker = ours.recv()
    try:
        parent.kill()
        parent.join()
        wait_for(lambda: worker not in [pid for pid, *_ in processes()])
    finally:
        if worker in [pid for pid, *_ in processes()]:
            os.kill(worker, signal.SIGKILL)


def hold_for_ever(journal: Path, pipe: Connection) -> None:
    """Lock a journal as a write does, say so, and wait."""
    end_with_parent()
    JournalLock(journal).acquire()
    pipe.send(None)
    signal.pause()


def test_a_process_killed_while_it_writes_holds_up_nobody(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study.create(*place.files, name="held", studies_dir=place.folder / "studies")
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    writer = context.Process(target=hold_for_ever, args=(place.journal("held"), theirs))
    writer.start()
    assert ours.poll(GUARD)
    writer.kill()
    writer.join()

    def sleep(seconds: float) -> None:
        pytest.fail(f"waited {seconds} s for a lock that nobody holds")

    monkeypatch.setattr(time, "sleep", sleep)
    assert study.run(Budget(trials=1), workers=0)


@pytest.mark.parametrize("write", [14, 20, 26, 33])
def test_ctrl_c_amid_a_write(place: Place, monkeypatch: pytest.MonkeyPatch, write: int) -> None:
    """It strikes once the write is done; impatience does not help it: the trial is given back all the same."""
    study = Study.create(*place.files, name=f"amid-{write}", studies_dir=place.folder / "studies")
    real, handler, seen = JournalFileBackend.append_logs, signal.getsignal(signal.SIGINT), [6]  # of its creation

    def append_logs(self: JournalFileBackend, logs: Log) -> None:
        seen[0] += 1
        if seen[0] >= write:
            signal.raise_signal(signal.SIGINT)
        real(self, logs)

    with monkeypatch.context() as patch:
        patch.setattr(JournalFileBackend, "append_logs", append_logs)
        assert not study.run(Budget(trials=ENDLESS), workers=0)
    assert seen[0] >= write
    assert signal.getsignal(signal.SIGINT) is handler
    assert all(r.settled or r.state == "interrupted" for r in study.trials()), "a trial was left running"
    assert study.run(Budget(trials=len(outcomes(study)) + 2), workers=0)
    check_equal(place, study.name)


def test_ctrl_c_while_the_data_is_loaded(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Study.create(*place.files, name="early", studies_dir=place.folder / "studies")

    def load_search(task: Task, data_dir: str | None, **others: Any) -> None:
        del task, data_dir, others
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr("utuning_search.search.study.load_search", load_search)
        assert place.here("resume", "early", "--workers=0", "-q") == 130
    assert "utuning-search resume early" in capsys.readouterr().out
    assert place.study("early").trials() == []


@pytest.mark.parametrize("line", [-1, 25], ids=["last", "middle"])
def test_a_torn_journal_is_repaired_and_resumed(place: Place, capsys: pytest.CaptureFixture[str], line: int) -> None:
    name = f"torn{line}"
    study = Study.create(*place.files, name=name, studies_dir=place.folder / "studies")
    assert study.run(Budget(trials=6), workers=0)
    journal = place.journal(name)
    lines = journal.read_bytes().splitlines(keepends=True)
    sound, half = b"".join(lines[:line]), lines[line][: len(lines[line]) // 2]
    journal.write_bytes(sound + half)
    torn = files(journal.parent)
    for command in ("front", "resume"):
        capsys.readouterr()
        assert place.here(command, name) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert f"utuning-search repair {name} " in error
    now = files(journal.parent)
    assert {path: now[path] for path in torn} == torn
    assert place.here("repair", name) == 0
    assert journal.read_bytes() == sound
    assert journal.with_suffix(".damaged").read_bytes() == half
    assert place.here("resume", name, "--trials=8", "--workers=0", "-q") == 0
    assert len(outcomes(place.study(name))) == 8
    check_equal(place, name)


def no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_no_room_for_weights(place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = Path.open, [2]

    def open_file(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.suffix == ".safetensors" and "wb" in arguments:
            if left[0] == 0:
                with real(self, "wb") as file:
                    file.write(b"the first half")
                raise no_space()
            left[0] -= 1
        return real(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_file)
        capsys.readouterr()
        assert place.here(*place.new("full", 6), "--workers=0", "-q") == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert re.search(r"weights/\d+\.safetensors: it can be written; got No space left on device.*resume", error)
    study = place.study("full")
    assert len(outcomes(study)) == 2
    assert all(r.settled or r.state == "interrupted" for r in study.trials())
    assert len(list((study.folder / "weights").iterdir())) == 2, "the first half of a file was left"
    assert place.here("resume", "full", "--trials=6", "--workers=0", "-q") == 0
    check_equal(place, "full")


def test_no_room_for_the_journal(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of which only the first half fits is taken back, so that no repair is needed."""
    real, left = JournalFileBackend.append_logs, [40]

    def append_logs(self: JournalFileBackend, logs: Log) -> None:
        if left[0] == 0:
            with Path(self._file_path).open("ab") as file:
                file.write(json.dumps(logs[0]).encode()[:20])
            raise no_space()
        left[0] -= 1
        real(self, logs)

    with monkeypatch.context() as patch:
        patch.setattr(JournalFileBackend, "append_logs", append_logs)
        capsys.readouterr()
        assert place.here(*place.new("crowded", 6), "--workers=0", "-q") == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert re.search(r"journal\.log: it can be written; got No space left on device.*resume", error)
    assert place.here("resume", "crowded", "--trials=6", "--workers=0", "-q") == 0
    check_equal(place, "crowded")
