"""A study in a PostgreSQL database, run by several workers in folders of their own, and what is done to them."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from soaking.disk import Disk, met_it
from tests.postgres import Server, programs
from utuning_search.common.locks import LOCK
from utuning_search.search.layout import SPEC
from utuning_search.search.study import Study

ROOT = Path(__file__).resolve().parents[2]
ENDLESS, LAST = 1_000_000, 3
GUARD = 900.0  # seconds after which a run hangs
LONG = 120.0  # seconds in which a process finds that its parent is gone, or ends after SIGTERM
AWAY = 6.0  # seconds for which a database is away at most
FULL = 8.0  # and for which the disk is full
# How often each happens: a worker's processes are killed, its parent alone, it is asked to end; to the database, and to
# the disk that all workers' folders and the store of their files lie on.
STRIKES = {"tree": 4, "parent": 2, "term": 2, "restart": 2, "cut": 1, "disk": 1}
# Rungs that were written once more, as something else: what the database sees, whoever wrote it.
WATCH = """
CREATE TABLE again (trial_id int, key text);
CREATE FUNCTION note() RETURNS trigger AS $$ BEGIN
    INSERT INTO again VALUES (NEW.trial_id, NEW.key); RETURN NEW; END $$ LANGUAGE plpgsql;
CREATE TRIGGER again AFTER UPDATE ON trial_user_attributes FOR EACH ROW
    WHEN (NEW.key ~ '^(rung|measured):' AND OLD.value_json IS DISTINCT FROM NEW.value_json) EXECUTE FUNCTION note();
"""
FINISHED = """
SELECT t.number, t.state::text, array_agg(v.value ORDER BY v.objective)
FROM trials t LEFT JOIN trial_values v USING (trial_id)
WHERE t.state IN ('COMPLETE', 'PRUNED', 'FAIL') GROUP BY t.number, t.state
"""


class SharedSoak:
    """One study, its workers and its server.

    Args:
        folder: With space, task and images.
        seed: Of moments and targets.
        workers: Processes that share it.
        every: Seconds between two strikes, in the mean.
        name: Of the study.
        disk: That the folder is, where it is one of its own.
    """

    def __init__(self, folder: Path, seed: int, workers: int, every: float, name: str, disk: Disk | None) -> None:
        bin = programs()
        if bin is None:
            sys.exit("no PostgreSQL server here: apt-get install postgresql")
        self.folder, self.every, self.name = folder, every, name
        self.draw = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.seen: dict[int, Any] = {}
        self.server = Server(bin, {"fsync": "on", "full_page_writes": "on"})
        self.url = self.server.database()
        self.database = self.url.partition("@/")[2].partition("?")[0]
        self.workers: list[subprocess.Popen[bytes] | None] = [None] * workers
        self.started: Counter[int] = Counter()
        self.disk = disk
        self.met: set[int] = set()  # hosts whose worker was there when the disk was full

    def run(self, seconds: float) -> None:
        """Strike for some time, then let one worker end the study, and judge all of it."""
        try:
            until = time.monotonic() + seconds
            self._start(0)
            self._wait_for_study()
            while time.monotonic() < until:
                for host, process in enumerate(self.workers):
                    if process is None:
                        self._start(host)
                time.sleep(self.draw.uniform(0.5, 1.5) * self.every)
                self._look()
                self._strike()
            self._finish()
            self._judge()
        finally:
            for process in self.workers:
                if process is not None:
                    self._kill_group(process)
            self.server.remove()

    def _host(self, host: int) -> Path:
        return self.folder / f"host{host}"

    def _printed(self, host: int) -> Path:
        return self.folder.parent / f"output{host}.txt"  # not on a disk that may be full

    def _output(self, host: int) -> str:
        return self._printed(host).read_text(errors="replace")

    def _start(self, host: int, *more: str) -> None:
        new = ["run", "--space=../space.toml", "--task=../soak.toml", f"--name={self.name}", f"--trials={ENDLESS}"]
        new += ["--sampler=random", f"--artifacts={self.folder / 'store'}"]
        command = ["worker", self.name, "--wait=5m", *more] if self.started.total() else new
        self.started[host] += 1
        place = self._host(host)
        place.mkdir(exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPTUNA_STORAGE": self.url}
        line = [sys.executable, "-m", "utuning_search.cli", *command, "-q", "--workers=0", "--data-dir=.."]
        self.met.discard(host)
        with self._printed(host).open("wb") as output:
            self.workers[host] = subprocess.Popen(
                line, cwd=place, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _wait_for_study(self) -> None:
        until = time.monotonic() + GUARD
        while not (self._host(0) / "studies" / self.name / SPEC).exists():
            if time.monotonic() > until or self.workers[0] is None or self.workers[0].poll() is not None:
                sys.exit(f"no study was created:\n{self._output(0)}")
            time.sleep(0.2)
        with self.server.connect(self.database) as connection:
            connection.execute(WATCH)

    def _strike(self) -> None:
        strikes = {kind: often for kind, often in STRIKES.items() if kind != "disk" or self.disk is not None}
        kind = self.draw.choices(list(strikes), list(strikes.values()))[0]
        self.kills[kind] += 1
        if kind == "cut":
            self.server.cut(self.url)
            return
        if kind == "restart":
            self.server.stop()
            time.sleep(self.draw.uniform(0.0, AWAY))
            self.server.start()
            return
        if kind == "disk":
            self._fill()
            return
        self._hit(kind)

    def _fill(self) -> None:
        """Have the disk full for some seconds, in which workers end and are begun again, are killed, or go on."""
        assert self.disk is not None
        try:
            self.disk.fill()
            self.met = set(range(len(self.workers)))
            time.sleep(self.draw.uniform(1.0, FULL))
            if self._begin_again():
                self.met = set(range(len(self.workers)))
                time.sleep(self.draw.uniform(1.0, FULL))
            elif self.draw.random() < 0.5:
                self._hit(self.draw.choice(("tree", "parent")))
        finally:
            self.disk.empty()
        self._begin_again()

    def _begin_again(self) -> bool:
        """Start workers that ended by themselves once more; whether there were any."""
        ended = [(host, process) for host, process in enumerate(self.workers) if process and process.poll() is not None]
        for host, process in ended:
            self._ended(host, process)
            self._buried(process)
            self._start(host)
        return bool(ended)

    def _hit(self, kind: str) -> None:
        host = self.draw.randrange(len(self.workers))
        process = self.workers[host]
        if process is None:
            return
        if process.poll() is not None:
            self._ended(host, process)
        elif kind == "tree":
            self._kill_group(process)
            process.wait()
        elif kind == "parent":
            process.kill()
            process.wait()
        else:
            process.send_signal(signal.SIGTERM)
            self._await_end(host, process)
        self._buried(process)
        self.workers[host] = None

    def _await_end(self, host: int, process: subprocess.Popen[bytes]) -> None:
        """Of a worker that was asked to end: it does, with exit code 0, wherever it was."""
        try:
            code = process.wait(LONG)
        except subprocess.TimeoutExpired:
            code = None
            process.kill()
            process.wait()
        young = (-signal.SIGTERM, -signal.SIGINT, 130)  # Python, its libraries or the command were still starting
        if host in self.met and met_it(code, self._output(host)):
            self.counts["full"] += 1
        elif code not in (0, *young):
            self.counts["errors"] += 1
            print(f"After SIGTERM it ended with {code}:\n{self._output(host)}", file=sys.stderr)

    def _ended(self, host: int, process: subprocess.Popen[bytes]) -> None:
        """Of a worker that ended by itself, which none should but where its disk was full."""
        if host in self.met and met_it(process.returncode, self._output(host)):
            self.counts["full"] += 1
            print(f"On a full disk: {self._output(host).strip()}", file=sys.stderr)
            return
        self.counts["errors"] += 1
        print(f"It ended by itself, with exit code {process.returncode}:\n{self._output(host)}", file=sys.stderr)

    def _buried(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + LONG
        while _alive(process.pid) and time.monotonic() < until:
            time.sleep(0.1)
        if _alive(process.pid):
            self.counts["orphans"] += 1
            self._kill_group(process)

    @staticmethod
    def _kill_group(process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    def _look(self) -> None:
        """Keep what is finished; count what was, and is not any more."""
        with self.server.connect(self.database) as connection:
            now = {number: (state, values) for number, state, values in connection.execute(FINISHED).fetchall()}
        changed = {n: (outcome, now.get(n)) for n, outcome in self.seen.items() if now.get(n) != outcome}
        self.counts["lost"] += len(changed)
        if changed:
            print(f"Outcomes that were others before: {changed}", file=sys.stderr)
        self.seen = now

    def _finish(self) -> None:
        for host, process in enumerate(self.workers):
            if process is not None:
                if process.poll() is not None:
                    self._ended(host, process)
                else:
                    process.send_signal(signal.SIGTERM)
                    self._await_end(host, process)
                self._buried(process)
                self.workers[host] = None
        # What was given back comes first: of fewer trials some indices would be left without an outcome.
        indices = (t.user_attrs.get("index", -1) for t in self._loaded().optuna.get_trials(deepcopy=False))
        self._start(0, f"--trials={max(indices, default=-1) + 1 + LAST}")
        last = self.workers[0]
        if last is not None and last.wait(GUARD) != 0:
            self._ended(0, last)
        self._look()

    def _judge(self) -> None:
        study = self._loaded()
        settled = [r for r in study.trials() if r.settled]
        trained = Counter(r.key for r in settled if r.reused is None and r.state != "failed")
        trials = study.optuna.get_trials(deepcopy=False)
        indices = [t.user_attrs.get("index") for t in trials if t.number in {r.number for r in settled}]
        kept = [r for r in settled if r.state == "complete" and r.reused is None]
        with self.server.connect(self.database) as connection:
            (again,) = connection.execute("SELECT count(*) FROM again").fetchone()
        gone = [r.number for r in kept if not study.found_weights(r.number).exists()]
        missing = sorted(set(range(len(settled))) - set(indices))
        doubled = [index for index, count in Counter(indices).items() if count > 1]
        self.counts["lost"] += len(gone) + len(missing)
        if gone or missing:
            print(
                f"Trials without weights: {gone}; indices without a trial: {missing}, twice: {doubled}", file=sys.stderr
            )
        self.counts["failed"] += sum(r.state == "failed" for r in settled)
        self.counts["trained_twice"] += sum(count - 1 for count in trained.values())
        self.counts["rungs_twice"] += again
        self.counts["zombies"] += sum(not t.state.is_finished() for t in trials)
        last = self._host(0) / "studies"  # the others' are swept when they are run again
        self.counts["temp_files"] += sum(p.name.startswith(".") and not p.name.endswith(LOCK) for p in last.rglob("*"))
        self.counts["trials"] = len(settled)
        self.counts["begun"] = self.started.total()

    def _loaded(self) -> Study:
        return Study.load(self.name, studies_dir=self._host(0) / "studies", storage=self.url)


def _alive(group: int) -> bool:
    """Whether a process of a group lives."""
    table = subprocess.run(["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
    return any(
        line.split()[0] == str(group) and not line.split()[1].startswith("Z")
        for line in table.splitlines()
        if line.strip()
    )
