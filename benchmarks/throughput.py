"""How many trials a second do N workers settle together on one PostgreSQL server, where a training takes no time?

    python benchmarks/throughput.py [--workers 1,2,4,8,16] [--seconds 10] [--json FILE]

Everything but the training is real: processes, connections, turns, proposals (at random, in the space `full`), rungs,
and what is told. The server is one of its own in a temporary folder, with its default of durability: each write is on
disk before it counts. Printed are trials a second, milliseconds of CPU a trial in the workers and in the server, and
what each worker may be busy with besides: the seconds a trial has to take so that N workers are no limit. Needs a
PostgreSQL server's programs (Debian's package `postgresql`) and the extra `postgres`.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier as BarrierType
from pathlib import Path
from typing import Any

import optuna

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.postgres import Server, programs  # found by the line above
from utuning_search.designs.spaces.space import Space
from utuning_search.search.budget import Budget
from utuning_search.search.interrupts import Interrupts
from utuning_search.search.patience import patient
from utuning_search.search.runner import Runner
from utuning_search.search.storage import open_storage
from utuning_search.testing.pretend import PretendStudy
from utuning_search.training.pool import Done, Event, Job, Pool, Rung
from utuning_search.training.proxy import Result

IDLE = 0.002  # seconds for which a worker without a trial waits
TICKS = os.sysconf("SC_CLK_TCK")


class NoOp(Pool):
    """One worker that trains in no time."""

    def __init__(self, study: PretendStudy) -> None:
        self._study = study
        self._run: Iterator[Event] | None = None

    @property
    def size(self) -> int:
        return 1

    def start(self, worker: int, job: Job) -> None:
        del worker
        self._run = self._events(job)

    def wait(self, seconds: float) -> list[tuple[int, Event]]:
        del seconds
        if self._run is None:
            time.sleep(IDLE)
            return []
        event = next(self._run)
        if not isinstance(event, Rung):
            self._run = None
        return [(0, event)]

    def answer(self, worker: int, go_on: bool) -> None:
        del worker
        if not go_on:
            self._run = None

    def pause(self) -> None:
        pass  # nobody is asked to end

    def close(self) -> None:
        self._run = None

    def _events(self, job: Job) -> Iterator[Event]:
        for report in self._study.reports(job.design):
            yield Rung(report)
        last = self._study.reported(job.design, self._study.spec.task.recipe.epochs)
        yield Done(Result(last.pop("accuracy"), b"", 0.0, 1, last))


def study_in(url: str) -> PretendStudy:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return PretendStudy(space=Space.load("full"), storage=open_storage(url, Path()))


def work(url: str, owner: int, seconds: float, ready: BarrierType, spent: Any) -> None:
    """What a worker does; it puts its seconds of CPU in the end."""
    study = study_in(url)
    study.scheduler.leases.owner = f"worker {owner}"
    ready.wait()
    begun = time.process_time()
    with Interrupts() as interrupts:
        Runner(study.scheduler, NoOp(study), Budget(trials=10**9, seconds=seconds), interrupts, None).loop()
    spent.put(time.process_time() - begun)


def server_cpu(server: Server) -> float:
    """Seconds of CPU of all processes of a server so far, those that ended included."""
    total = 0
    for pid in Path("/proc").glob("[0-9]*"):
        try:
            fields = (pid / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[3]) == server.group:  # a session; each of its processes has a group of its own
            total += int(fields[11]) + int(fields[12]) + (int(fields[13]) + int(fields[14]))
    return total / TICKS


def measured(server: Server, workers: int, seconds: float) -> dict[str, float]:
    url = server.database()
    created = study_in(url)
    served = patient(created.storage)
    assert served is not None
    served._engine.dispose()  # a connection is no two processes'
    context = multiprocessing.get_context("fork")  # what a worker takes to start is not what is asked
    ready, spent = context.Barrier(workers + 1), context.Queue()
    processes = [context.Process(target=work, args=(url, i, seconds, ready, spent)) for i in range(workers)]
    for process in processes:
        process.start()
    ready.wait()
    begun, before = time.monotonic(), server_cpu(server)
    cpu = sum(spent.get() for _ in processes)
    passed, used = time.monotonic() - begun, server_cpu(server) - before
    for process in processes:
        process.join()
    study = study_in(url)
    records = study.scheduler.records()
    settled = sum(r.settled for r in records)
    numbers = [t.user_attrs["index"] for t in study.optuna.get_trials() if "interrupted" not in t.user_attrs]
    assert len(numbers) == len(set(numbers)), "two trials have one place in the order"
    assert settled, "nothing was trained"
    rate = settled / passed
    return {
        "workers": workers,
        "trials": settled,
        "trials_a_second": rate,
        "worker_cpu_ms": 1e3 * cpu / settled,
        "server_cpu_ms": 1e3 * used / settled,
        "seconds_a_trial": workers / rate,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", default="1,2,4,8,16")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    bin = programs()
    if bin is None:
        sys.exit("no PostgreSQL server here: apt-get install postgresql")
    server, rows = Server(bin, {"fsync": "on", "full_page_writes": "on"}), []
    print(f"{'workers':>8}{'trials/s':>10}{'CPU ms, worker':>16}{'server':>8}{'s a trial':>11}")
    try:
        for workers in map(int, given.workers.split(",")):
            row = measured(server, workers, given.seconds)
            rows.append(row)
            own, other = row["worker_cpu_ms"], row["server_cpu_ms"]
            print(
                f"{workers:>8}{row['trials_a_second']:>10.1f}{own:>16.0f}{other:>8.0f}{row['seconds_a_trial']:>11.2f}"
            )
            sys.stdout.flush()
    finally:
        server.remove()
    if given.json is not None:
        given.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
