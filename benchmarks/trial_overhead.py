"""What a trial costs besides its training: ask + rungs + tell, after 100, 1,000 and 10,000 finished trials.

    python benchmarks/trial_overhead.py [--sizes 100,1000,10000] [--samplers random,tpe] [--storage S] [--json FILE]

Trainings are pretended, so everything that is timed is the trial flow, the sampler and the storage. A sampler that
models its history costs more the longer that is; random proposals show the flow alone. Each trial asks once, reports
at each rung of the task `digits` and is told at its end, with the budget looked at as often as a run does. The
journal is a file in a temporary folder. Printed are milliseconds of CPU, the median of 20 trials, and the ratio to the
smallest size in the same run; CPU, as other programs of the machine take none of that.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import optuna

from utuning_search.designs.spaces.space import Space
from utuning_search.search.budget import Budget, spent
from utuning_search.search.running import Next
from utuning_search.search.samplers.registry import sampler
from utuning_search.search.storage import open_storage
from utuning_search.testing.pretend import SETTING, PretendStudy

TIMED = 20


def filled(study: PretendStudy, count: int) -> None:
    """Add finished trials of random designs to a study's storage, as a run would have left them."""
    source = PretendStudy(space=study.spec.space, seed=1)
    template = [t for t in _some(source) if t.state.is_finished()]
    shuffled = random.Random(0)
    for index in range(count):
        found = template[index % len(template)]
        key = f"{shuffled.getrandbits(48):012x}"  # another design each, or most would be reused
        copied = optuna.trial.create_trial(
            state=found.state,
            values=found.values,
            params=found.params,
            distributions=found.distributions,
            user_attrs={**found.user_attrs, "key": key, "index": index},
        )
        study.optuna.add_trial(copied)


def _some(source: PretendStudy) -> list[optuna.trial.FrozenTrial]:
    source.play(100)
    return source.optuna.get_trials(deepcopy=False)


def timed(study: PretendStudy) -> list[float]:
    """Milliseconds of CPU of some trials, one after another."""
    found = []
    study.scheduler.records()  # a run reads its history once
    while len(found) < TIMED:
        started = time.process_time()
        spent(study.scheduler.history, Budget(trials=10**9), 0.0, 0, study.spec.task.recipe.epochs)
        running, step = study.scheduler.ask()
        if step is Next.TRAIN:
            study.train(running)
        found.append(1e3 * (time.process_time() - started))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="100,1000,10000")
    parser.add_argument("--samplers", default="random,tpe")
    parser.add_argument("--storage", choices=("memory", "journal"), default="journal")
    parser.add_argument("--space", default="full")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sizes, rows = [int(s) for s in given.sizes.split(",")], []
    print(f"{'sampler':<10}{'trials':>8}{'CPU ms':>12}{'ratio':>8}")
    for kind in given.samplers.split(","):
        first = None
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                storage = open_storage(None, Path(folder)) if given.storage == "journal" else None
                study = PretendStudy(sampler(kind), space=Space.load(given.space), storage=storage)
                filled(study, size)
                median = statistics.median(timed(study))
            first = first or median
            rows.append({"sampler": kind, "trials": size, "ms": median, "ratio": median / first})
            print(f"{kind:<10}{size:>8}{median:>12.1f}{median / first:>8.2f}", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps({"depth": SETTING.shape.depth, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
