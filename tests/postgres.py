"""A PostgreSQL server of a test's own: an unprivileged process in a temporary folder, reached by a socket in it."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from .leash import Leash

psycopg = pytest.importorskip("psycopg", reason="no psycopg here: pip install 'utuning-search[postgres]'")

HOMES = ("/usr/lib/postgresql", "/usr/local/pgsql", "/opt/homebrew/opt/postgresql")
GUARD = 60.0  # seconds; only a server that hangs takes as long
SETTINGS = {
    "fsync": "off",  # nothing of it outlives the tests
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "120",
    "shared_buffers": "16MB",
    "autovacuum": "off",
}


def programs() -> Path | None:
    """Where `initdb` and `postgres` are: in PATH, or where Debian's package puts them."""
    found = [Path(path).parent for path in (shutil.which("initdb"), shutil.which("postgres")) if path]
    found += [p.parent for home in HOMES for p in sorted(Path(home).glob("**/bin/initdb"), reverse=True)]
    return next((p for p in found if (p / "initdb").exists() and (p / "postgres").exists()), None)


class Server:
    """One server with as many databases as are asked for.

    Args:
        bin: Where its programs are.
        settings: Besides those of tests.
    """

    def __init__(self, bin: Path, settings: Mapping[str, str] | None = None) -> None:
        self._bin, self._settings = bin, {**SETTINGS, **(settings or {})}
        self.folder = Path(tempfile.mkdtemp(prefix="utuning-pg-"))  # short: a socket's path has 107 bytes at most
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:  # who may do everything may not run one
            names = {user.pw_name for user in pwd.getpwall()}
            name = next(n for n in ("postgres", "nobody") if n in names)
            user = pwd.getpwnam(name)
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._data, self._count = self.folder / "data", 0
        self._run(
            "initdb", "-D", str(self._data), "-U", "tester", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"
        )
        self.start()

    @property
    def group(self) -> int:
        """The id of its first process, and of the session that all of its processes are in."""
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [f"-c{name}={value}" for name, value in self._settings.items()]
        command = [str(self._bin / "postgres"), "-D", str(self._data), "-k", str(self.folder), *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True, **self._as
            )
        self._leash = Leash(self._process.pid)
        until = time.monotonic() + GUARD
        while True:
            with suppress(psycopg.OperationalError), self.connect("postgres"):
                return
            assert self._process.poll() is None, (self.folder / "log").read_text(errors="replace")
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it at once, with all connections cut; what was committed is there after `start`."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(GUARD)
        self._leash.off()

    def remove(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(GUARD)
        self._leash.off()
        shutil.rmtree(self.folder, ignore_errors=True)

    def database(self) -> str:
        """The storage URL of a new database."""
        self._count += 1
        name = f"studies{self._count}"
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://tester@/{name}?host={self.folder}"

    def cut(self, url: str) -> int:
        """End all connections to a database, as an administrator may; how many there were."""
        name = url.partition("@/")[2].partition("?")[0]
        with self.connect("postgres") as connection:
            sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            return len(connection.execute(sql, (name,)).fetchall())

    def connect(self, database: str) -> Any:
        return psycopg.connect(host=str(self.folder), user="tester", dbname=database, autocommit=True)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._bin / program), *arguments], cwd=self.folder, capture_output=True, text=True, **self._as
        )
        assert done.returncode == 0, done.stderr


def server() -> Iterator[Server]:
    """One, for a fixture; skips where none can be had."""
    bin = programs()
    if bin is None:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    found = Server(bin)
    try:
        yield found
    finally:
        found.remove()
