"""What a proposal of the default sampler costs after so many trials, beside what a trial costs.

    python benchmarks/proposal_time.py [--sizes 12,48,200,500,1000,2000] [--repeats 5] [--threads 1] [--json FILE]

Histories are of designs drawn from `full`, with pretended accuracies; what is in the worst fifth of the earlier ones
at a rung was pruned there, so about half of them are, as in a search. The trial is one of the task `digits`, trained to
its last epoch. Printed are medians over proposals of different seeds, in seconds of the clock and of the CPU, and the
latter's ratio to the trial's: a busy machine stretches the clock, and several BLAS threads take more CPU than time.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from utuning_search.designs.design import Design
from utuning_search.designs.spaces.edits import Neighbourhoods
from utuning_search.designs.spaces.space import Space
from utuning_search.search.objectives.registry import USUAL
from utuning_search.search.samplers.base import Request
from utuning_search.search.samplers.ehvi import EHVISampler
from utuning_search.search.trials import TrialRecord
from utuning_search.testing.pretend import SETTING, SHAPE, pretended_accuracy
from utuning_search.training.proxy import ProxyTrainer
from utuning_search.training.runtime import Runtime
from utuning_search.training.task import Task

TASK = Task.load("digits")
SPACE = Space.load("full")
WORST = 0.2  # of the earlier trials at a rung, which are pruned
METHOD = "adapter"  # whose trial is timed: of middling cost among the known methods


def history(count: int) -> list[TrialRecord]:
    """Trials as a study of `full` would have left them; the first of a longer history are those of a shorter one."""
    near, rng = Neighbourhoods(SPACE, SHAPE.depth, TASK.recipe.learning_rate), np.random.default_rng(0)
    records: list[TrialRecord] = []
    at: dict[int, list[float]] = {epoch: [] for epoch in (*TASK.recipe.rungs, TASK.recipe.epochs)}
    seen: set[str] = set()
    while len(records) < count:
        design = near.draw(rng)
        if design.key in seen:
            continue
        seen.add(design.key)
        records.append(_record(len(records), design, at))
    return records


def _record(number: int, design: Design, at: dict[int, list[float]]) -> TrialRecord:
    rungs: dict[int, float] = {}
    for epoch, earlier in at.items():
        rungs[epoch] = pretended_accuracy(design, epoch / TASK.recipe.epochs)
        pruned = bool(earlier) and rungs[epoch] < np.quantile(earlier, WORST) and epoch < TASK.recipe.epochs
        earlier.append(rungs[epoch])
        if pruned:
            break
    return TrialRecord(
        number=number,
        state="pruned" if pruned else "complete",
        key=design.key,
        design=design,
        preset="",
        parameters=design.num_parameters(SHAPE, SETTING.num_classes),
        accuracy=rungs[epoch],
        epochs=epoch,
        seconds=1.0,
        rungs=rungs,
        reused=None,
        reason="",
        measured={e: {"accuracy": a} for e, a in rungs.items()},
    )


def request(records: Sequence[TrialRecord], seed: int) -> Request:
    """For the next proposal."""

    def refuse(_: object) -> Design:
        raise AssertionError("no sampler of Optuna's is asked")

    return Request(
        space=SPACE,
        objectives=USUAL,
        setting=SETTING,
        recipe=TASK.recipe,
        validation=TASK.data.validation,
        seed=seed,
        history=records,
        limits={},
        suggest=refuse,
    )


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock and of the CPU."""
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - cpu


def trial() -> tuple[float, float]:
    """Of a whole training, by a trainer that has its data and backbone already."""
    trainer = ProxyTrainer(TASK, Runtime())
    design = Design(Design.preset(METHOD).placements, TASK.recipe.learning_rate).resolve(SHAPE.depth)
    next(iter(trainer.evaluate(design, 0)))  # what is made once a study
    return timed(lambda: list(trainer.evaluate(design, 0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="12,48,200,500,1000,2000")
    parser.add_argument("--repeats", type=int, default=5, help="proposals of each size")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    sizes = [int(s) for s in given.sizes.split(",")]
    with threadpool_limits(given.threads):
        clock, cpu = trial()
        print(f"a trial: {clock:.2f} s, {cpu:.2f} s of CPU")
        records, rows = history(max(sizes)), []
        EHVISampler().propose(request(records[:4], 0))  # imports and caches
        print(f"{'trials':>8}{'pruned':>8}{'seconds':>9}{'CPU':>8}{'of a trial':>12}")
        for size in sizes:
            some = records[:size]
            asked = [request(some, seed) for seed in range(given.repeats)]
            taken = [timed(partial(EHVISampler().propose, one)) for one in asked]
            wall, own = (statistics.median(column) for column in zip(*taken, strict=True))
            pruned = sum(r.state == "pruned" for r in some)
            rows.append({"trials": size, "pruned": pruned, "seconds": wall, "cpu": own, "ratio": own / cpu})
            print(f"{size:>8}{pruned:>8}{wall:>9.3f}{own:>8.3f}{own / cpu:>12.1%}", flush=True)
    if given.json:
        found = {"trial": {"seconds": clock, "cpu": cpu}, "threads": given.threads, "proposals": rows}
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
