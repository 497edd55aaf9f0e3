"""What a study loses when its processes are killed at any moment, and its disk is full: kill -9 and others, at random.

    python benchmarks/soak.py --minutes 10 --json FILE [--storage journal|postgres] [--seed N] [--workers N]
                              [--every S] [--keep FOLDER]

A study of small trainings on an image folder is run as users run it, killed, resumed, and in the end left alone for a
few trials; then its journal, its folder and the processes are looked at. All but `kills` and what stands beside it has
to be zero, and then the exit code is 0:

    lost           outcomes, or weights of complete trials, that were there and are gone or changed; indices without one
    failed         trials that count as a design's failure: the processes were killed, no design was at fault
    trained_twice  designs that were trained to an outcome more than once
    rungs_twice    reports that one trial holds twice
    zombies        trials that are left running or waiting
    orphans        processes that outlive their parent by more than GRACE seconds of CPU, which a busy machine does not
                   stretch, or by LONG seconds
    temp_files     hidden files in the study's folder that are no locks: they were being written
    errors         runs that ended by themselves, or with a traceback; one that says that workers were lost is none, nor
                   one that says in its one line that the disk was full

Where a tmpfs may be mounted (by root, on Linux) all of the study lies on one, which is made full for some seconds now
and then; half of these times something is killed meanwhile, and a run that ended is begun again on the full disk.

With `--storage postgres`, N workers in folders of their own share a study in a database on a server of its own, with
its default of durability. Besides, they are asked to end by SIGTERM, and the server is restarted or its connections
cut; rungs are counted as twice where the database saw a second value of one. See `soaking/shared.py`.

Beside `kills` by target stand `trials` (settled in the end), `stopped`, how many runs ended themselves because workers
were lost one after the other, and `full`, how many did so because the disk was full. Linux and macOS; needs `ps`.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from soaking.disk import Disk, met_it, small_disk
from soaking.shared import STRIKES, SharedSoak  # its server is that of the tests, found by the line above

from utuning_search.common.locks import LOCK
from utuning_search.search.storage import JOURNAL
from utuning_search.search.study import Study

ROOT = Path(__file__).resolve().parents[1]
NAME, ENDLESS = "soak", 1_000_000
GRACE = 15.0  # seconds of CPU in which a process finds that its parent is gone, with its imports if it has just begun
LONG = 300.0  # seconds in which it finds that whatever the machine does
LAST = 3  # trials that are left in peace in the end
PATIENCE = 60.0  # seconds within which a trial is expected to finish
GUARD = 900.0  # seconds after which a run hangs
PER_CLASS = 30
STARTED = ("spawn_main", "multiprocessing.forkserver")  # workers, and the process that they are copies of
TARGETS = {"tree": 2, "worker": 4, "parent": 2, "disk": 1}  # how often each is struck
FULL = 8.0  # seconds for which the disk is full at most
TASK = """
name = "soak"
[backbone]
name = "glyph_vit"
[data]
source = "imagefolder"
root = "photos"
proxy = 150
validation = 60
[training]
epochs = 3
batch_size = 50
rungs = [1]
"""
SPACE = """
name = "soak"
presets = ["linear-probe", "adapter"]
learning_rate = { low = 0.001, high = 0.04, log = true }
[[slots]]
name = "mlp"
operation = ["mlp", "attention"]
tuner = ["none", "adapter", "norm"]
form = ["sequential", "parallel"]
rank = { low = 1, high = 64 }
blocks = ["all", "last 1", "last 1/2", "first 1"]
"""
Log = list[dict[str, Any]]
ZEROS = ("lost", "failed", "trained_twice", "rungs_twice", "zombies", "orphans", "temp_files", "errors")
LOCKS = (LOCK, f".{JOURNAL}.lock")
FINISHED = (1, 2, 3)  # Optuna's numbers of complete, pruned, failed in a journal


def furnish(folder: Path) -> None:
    """Space, task and images."""
    (folder / "soak.toml").write_text(TASK)
    (folder / "space.toml").write_text(SPACE)
    digits = load_digits()
    for label in range(10):
        for number, pixels in enumerate(digits.images[digits.target == label][:PER_CLASS]):
            path = folder / "photos" / "train" / str(label) / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pixels * 15).astype(np.uint8)).save(path)


class Member(NamedTuple):
    """A process of a run: its id, its parent's, seconds of CPU so far, and its command."""

    pid: int
    above: int
    cpu: float
    command: str


class Soak:
    """One study that is killed again and again, and what was seen of it.

    Args:
        folder: In which it lies, with space, task and images; what it prints goes beside it.
        seed: Of moments and targets.
        workers: Of each run.
        every: Seconds between two strikes, about, where they do not wait for a trial.
        disk: That the folder is, where it is one of its own.
    """

    def __init__(self, folder: Path, seed: int, workers: int, every: float, disk: Disk | None) -> None:
        self.folder, self.workers, self.every, self.disk = folder, workers, every, disk
        self.was_full = False  # since the run was started
        self.draw = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.seen: dict[int, tuple[int, Any]] = {}  # state and values of finished trials
        self.counts: Counter[str] = Counter()
        self.process: subprocess.Popen[bytes] | None = None
        furnish(folder)

    @property
    def study(self) -> Path:
        return self.folder / "studies" / NAME

    @property
    def output(self) -> Path:
        return self.folder.parent / "output.txt"

    def start(self, trials: int) -> None:
        """Begin to run the study, or go on with it, in a process group of its own."""
        new = ["run", "--space=space.toml", "--task=soak.toml", f"--name={NAME}", "--data-dir=.", "--sampler=random"]
        command = ["resume", NAME] if self._there() else new
        line = [sys.executable, "-m", "utuning_search.cli", *command, f"--trials={trials}", "-q"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.was_full = False
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*line, f"--workers={self.workers}"],
                cwd=self.folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def members(self) -> list[Member]:
        """Every living process of the run."""
        table = subprocess.run(
            ["ps", "-A", "-ww", "-o", "pid=,ppid=,pgid=,time=,stat=,args="], capture_output=True, text=True, check=True
        ).stdout
        rows = [line.split(maxsplit=5) for line in table.splitlines()]
        group = str(self._process.pid)
        living = (r for r in rows if r[2] == group and not r[4].startswith("Z") and r[5:])
        return [Member(int(r[0]), int(r[1]), _seconds(r[3]), r[5]) for r in living]

    def strike(self) -> None:
        """Wait for a moment, and kill something; what is told to be lost later was there before it."""
        if self.draw.random() < 0.5:
            self._wait(self.draw.uniform(0.0, 2.0) * self.every)  # it may still start
        else:
            count = len(finished(read_log(self.study / JOURNAL))) + self.draw.choice((1, 2))
            self._wait(PATIENCE, lambda: len(finished(read_log(self.study / JOURNAL))) >= count)
            self._wait(self.draw.uniform(0.0, 2.0))
        targets = {kind: often for kind, often in TARGETS.items() if kind != "disk" or self.disk is not None}
        target = self.draw.choices(list(targets), list(targets.values()))[0]
        self.look()
        if self._process.poll() is not None:
            self.ended()
        elif target == "disk":
            self.fill()
        else:
            self._hit(target)

    def fill(self) -> None:
        """Have the disk full for some seconds, in which the run ends and is begun again, is killed, or goes on."""
        assert self.disk is not None
        self.kills["disk"] += 1
        try:
            self.disk.fill()
            self.was_full = True
            self._wait(self.draw.uniform(1.0, FULL))
            if self._process.poll() is not None:
                self.ended()
                self.start(ENDLESS)
                self.was_full = True
                self._wait(self.draw.uniform(1.0, FULL))
            elif self.draw.random() < 0.5:
                self._hit(self.draw.choice(("tree", "worker", "parent")))
        finally:
            self.disk.empty()

    def _hit(self, target: str) -> None:
        parent = self._process.pid
        if target == "worker":
            workers = [m.pid for m in self.members() if any(way in m.command for way in STARTED)]
            if not workers:
                return  # they are not there yet
            self._kill(self.draw.choice(workers))
        elif target == "tree":
            os.killpg(parent, signal.SIGKILL)
        else:
            self._kill(parent)
        self.kills[target] += 1
        if target != "worker":
            self._process.wait()
            self.buried()

    def buried(self) -> None:
        """Count processes that outlive their parent, and end them."""
        until, begun = time.monotonic() + LONG, {m.pid: m.cpu for m in self.members()}
        while (left := self.members()) and time.monotonic() < until:
            if any(m.cpu - begun.get(m.pid, 0.0) > GRACE for m in left):
                break
            time.sleep(0.2)
        for member in left:
            self.counts["orphans"] += 1
            self._kill(member.pid)
        self.process = None

    def ended(self) -> None:
        """Judge a run that ended by itself."""
        said = self.output.read_text(errors="replace")
        if "its workers train trials" in said and "Traceback" not in said:
            self.counts["stopped"] += 1
        elif self.was_full and met_it(self._process.returncode, said):
            self.counts["full"] += 1
            print(f"On a full disk: {said.strip()}", file=sys.stderr)
        else:
            self.counts["errors"] += 1
            print(f"It ended by itself, with exit code {self._process.returncode}:\n{said}", file=sys.stderr)
        self.buried()

    def look(self) -> None:
        """Keep what is finished; count what was, and is not any more."""
        now = finished(read_log(self.study / JOURNAL))
        gone = [trial for trial, outcome in self.seen.items() if now.get(trial) != outcome]
        self.counts["lost"] += len(gone)
        self.seen = now

    def finish(self) -> None:
        """Let the study go on in peace for a few trials, and judge all of it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(GUARD)
            self.buried()
            self.look()
        # What was given back comes first: of fewer trials some indices would be left without an outcome.
        self.start(max(_indices(read_log(self.study / JOURNAL)).values(), default=-1) + 1 + LAST)
        if self._process.wait(GUARD) != 0:
            self.ended()
        else:
            self.buried()
        self.look()
        if self._there():
            self._judge()

    def _there(self) -> bool:
        """Whether the study was created."""
        return (self.study / "spec.toml").exists()

    def _judge(self) -> None:
        log = read_log(self.study / JOURNAL)
        study = self._loaded()
        records = study.trials()
        settled = [r for r in records if r.settled]
        trained = Counter(r.key for r in settled if r.reused is None and r.state != "failed")
        rungs = Counter(
            (line["trial_id"], name)
            for line in log
            for name in line.get("user_attr", {})
            if line["op_code"] == 8 and re.match(r"rung:|measured:", name)
        )
        raw = study.scheduler.history.records
        gone = [r for r in settled if r.state == "complete" and r.reused is None and not self._weights(study, r.number)]
        # Places in the order of trials that have an outcome: one each, from 0 without a gap.
        numbers = {r.number for r in settled}
        places = {index for number, index in _indices(log).items() if number in numbers}
        self.counts["lost"] += len(gone) + len(set(range(len(settled))) - places)
        self.counts["failed"] += sum(r.state == "failed" for r in settled)
        self.counts["trained_twice"] += sum(count - 1 for count in trained.values())
        self.counts["rungs_twice"] += sum(count - 1 for count in rungs.values())
        self.counts["zombies"] += sum(r.state in ("running", "waiting") for r in raw)
        self.counts["temp_files"] += sum(p.name.startswith(".") and p.name not in LOCKS for p in self.study.rglob("*"))
        self.counts["trials"] = len(settled)

    @staticmethod
    def _weights(study: Study, number: int) -> bool:
        path = study.weights_file(number)
        return path.exists() and path.stat().st_size > 0

    def _loaded(self) -> Study:
        return Study.load(NAME, studies_dir=self.folder / "studies")

    @property
    def _process(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "no run was started"
        return self.process

    def _wait(self, seconds: float, condition: Callable[[], bool] = lambda: False) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and self._process.poll() is None and not condition():
            time.sleep(0.05)

    @staticmethod
    def _kill(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
            os.kill(pid, signal.SIGKILL)


def _seconds(text: str) -> float:
    """Of a time as `ps` writes it: [days-][hours:]minutes:seconds."""
    days, _, clock = text.rpartition("-")
    parts = [float(part) for part in clock.split(":")]
    return 86400 * int(days or 0) + sum(60**i * part for i, part in enumerate(reversed(parts)))


def read_log(journal: Path) -> Log:
    """The whole lines of a journal, whoever is writing it."""
    content = journal.read_bytes() if journal.exists() else b""
    return [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith(b"\n")]


def _indices(log: Log) -> dict[int, int]:
    """The place of each trial in the order of trials, by its number."""
    created = (line for line in log if line["op_code"] == 4)
    told = [(number, line.get("user_attrs") or {}) for number, line in enumerate(created)]
    told += [(line["trial_id"], line["user_attr"]) for line in log if line["op_code"] == 8]  # an enqueued one
    return {number: said["index"] for number, said in told if "index" in said}


def finished(log: Log) -> dict[int, tuple[int, Any]]:
    """State and values of each finished trial; trial ids are numbers, for a journal holds one study."""
    return {
        line["trial_id"]: (line["state"], line.get("values"))
        for line in log
        if line["op_code"] == 6 and line["state"] in FINISHED
    }


def soaked(soak: Soak, seconds: float) -> None:
    """Strike for some time, and judge what is left."""
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            if soak.process is None:
                soak.start(ENDLESS)
            soak.strike()
        soak.finish()
    finally:
        if soak.process is not None:
            for member in soak.members():
                Soak._kill(member.pid)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of moments and targets")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--storage", choices=("journal", "postgres"), default="journal")
    parser.add_argument("--every", type=float, default=8.0, help="seconds between strikes, about")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="work in FOLDER, which must not be there, and leave it"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.keep:
            arguments.keep.mkdir(parents=True)
        folder = (arguments.keep or Path(temporary)).resolve() / "disk"
        soak: Soak | SharedSoak
        with small_disk(folder, random.Random(arguments.seed)) as disk:
            if arguments.storage == "postgres":
                furnish(folder)
                soak = SharedSoak(folder, arguments.seed, arguments.workers, arguments.every, NAME, disk)
                soak.run(60 * arguments.minutes)
            else:
                soak = Soak(folder, arguments.seed, arguments.workers, arguments.every, disk)
                soaked(soak, 60 * arguments.minutes)
            if arguments.keep and disk is not None:
                shutil.copytree(folder, folder.with_name("left"))
    found = {
        "kills": soak.kills.total(),
        **{name: soak.counts[name] for name in ZEROS},
        **{f"kills_{kind}": soak.kills[kind] for kind in (TARGETS if arguments.storage == "journal" else STRIKES)},
        **{name: soak.counts[name] for name in ("stopped", "full", "trials")},
        "minutes": arguments.minutes,
        "seed": arguments.seed,
    }
    for name, value in found.items():
        print(f"{name:<14} {value:>8}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if found["kills"] and not any(found[name] for name in ZEROS) else 1


if __name__ == "__main__":
    sys.exit(main())
