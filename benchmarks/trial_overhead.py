"""What a trial costs besides its training: ask + rungs + tell, after 100, 1,000 and 10,000 finished trials.

    python benchmarks/trial_overhead.py [--sizes 100,1000,10000] [--samplers random,tpe] [--storage S] [--json FILE]

Trainings are pretended, so everything that is timed is the trial flow, the sampler and the storage. A sampler that
models its history costs more the longer that is; random proposals show the flow alone. Each trial asks once, reports
at each rung of the task `digits` and is told at its end, with the budget looked at as often as a run does. The
journal is a file in a temporary folder; PostgreSQL is a server of its own there, reached by a socket, with its default
of durability and with turns. Printed are milliseconds of CPU of this process, the median of 20 trials, the ratio to the
smallest size in the same run, and milliseconds of wall time, in which servers and other programs take their part.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, InMemoryStorage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utuning_search.designs.spaces.space import Space
from utuning_search.search.budget import Budget, spent
from utuning_search.search.patience import patient
from utuning_search.search.running import Next
from utuning_search.search.samplers.registry import sampler
from utuning_search.search.storage import open_storage
from utuning_search.testing.pretend import SETTING, PretendStudy

TIMED = 20
TEMPLATES = 100  # finished trials that are copied
# Optuna takes 80 ms to add a trial of the space `full` to a database.
COPY = [
    """INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete)
    SELECT n, t.study_id, t.state, t.datetime_start, t.datetime_complete
    FROM generate_series({first}, {last}) n JOIN trials t ON t.number = mod(n, {templates}) ORDER BY n""",
    *(
        f"""INSERT INTO {table} (trial_id, {columns}) SELECT n.trial_id, {columns.replace("value_json", value)}
        FROM trials n JOIN trials t ON t.number = mod(n.number, {{templates}}) JOIN {table} o ON o.trial_id = t.trial_id
        WHERE n.number BETWEEN {{first}} AND {{last}}"""
        for table, columns, value in (
            ("trial_params", "param_name, param_value, distribution_json", ""),
            ("trial_values", "objective, value, value_type", ""),
            ("trial_intermediate_values", "step, intermediate_value, intermediate_value_type", ""),
            (
                "trial_user_attributes",
                "key, value_json",
                # Another design each, or most would be reused.
                """CASE key WHEN 'key' THEN '"' || left(md5(n.number::text), 12) || '"'
                WHEN 'index' THEN n.number::text ELSE value_json END""",
            ),
        )
    ),
    "ANALYZE",
]


def filled(study: PretendStudy, first: int, count: int) -> None:
    """Add finished trials of random designs to a study's storage, as a run would have left them, from `first` on."""
    source = PretendStudy(space=study.spec.space, seed=1)
    template = [t for t in _some(source) if t.state.is_finished()][:TEMPLATES]
    served = patient(study.storage)
    for index in range(first, count if served is None else min(count, TEMPLATES)):
        found = template[index % len(template)]
        key = f"{random.Random(index).getrandbits(48):012x}"  # another design each, or most would be reused
        copied = optuna.trial.create_trial(
            state=found.state,
            values=found.values,
            params=found.params,
            distributions=found.distributions,
            user_attrs={**found.user_attrs, "key": key, "index": index},
        )
        study.optuna.add_trial(copied)
    first = max(first, TEMPLATES)
    if served is not None and first < count:
        with served._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in COPY:
                connection.exec_driver_sql(statement.format(first=first, last=count - 1, templates=TEMPLATES))


def _some(source: PretendStudy) -> list[optuna.trial.FrozenTrial]:
    source.play(TEMPLATES)
    return source.optuna.get_trials(deepcopy=False)


def timed(study: PretendStudy) -> tuple[float, float]:
    """Milliseconds of CPU and of wall time of a trial: medians of some, one after another."""
    cpu, wall = [], []
    study.scheduler.records()  # a run reads its history once
    while len(cpu) < TIMED:
        started, began = time.process_time(), time.perf_counter()
        spent(study.scheduler.history, Budget(trials=10**9), 0.0, 0, study.spec.task.recipe.epochs)
        with study.scheduler.turn():
            running, step = study.scheduler.ask()
        if step is Next.TRAIN:
            study.train(running)
        cpu.append(1e3 * (time.process_time() - started))
        wall.append(1e3 * (time.perf_counter() - began))
    return statistics.median(cpu), statistics.median(wall)


@contextmanager
def storages(kind: str) -> Iterator[Callable[[], BaseStorage]]:
    """What opens a storage of a kind, each time as a process does that begins to run a study."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "memory":
            kept = InMemoryStorage()
            yield lambda: kept
        elif kind == "journal":
            yield lambda: open_storage(None, Path(folder))
        else:
            from tests.postgres import Server, programs  # needs a driver; found by the path above

            bin = programs()
            if bin is None:
                sys.exit("no PostgreSQL server here: apt-get install postgresql")
            server = Server(bin, {"fsync": "on", "full_page_writes": "on", "autovacuum": "on"})
            try:
                url = server.database()
                yield lambda: open_storage(url, Path(folder))
            finally:
                server.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="100,1000,10000")
    parser.add_argument("--samplers", default="random,tpe")
    parser.add_argument("--storage", choices=("memory", "journal", "postgres"), default="journal")
    parser.add_argument("--space", default="full")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space, rows, least, there = Space.load(given.space), [], {}, 0
    print(f"{'sampler':<10}{'trials':>8}{'CPU ms':>12}{'ratio':>8}{'wall ms':>12}")
    with storages(given.storage) as opened:
        for size in sorted(int(s) for s in given.sizes.split(",")):
            study = PretendStudy(space=space, storage=opened())
            filled(study, there, size)
            there = size
            for kind in given.samplers.split(","):
                cpu, wall = timed(PretendStudy(sampler(kind), space=space, storage=opened()))
                there += TIMED
                ratio = cpu / least.setdefault(kind, cpu)
                rows.append({"sampler": kind, "trials": size, "ms": cpu, "ratio": ratio, "wall_ms": wall})
                print(f"{kind:<10}{size:>8}{cpu:>12.1f}{ratio:>8.2f}{wall:>12.1f}", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps({"depth": SETTING.shape.depth, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
