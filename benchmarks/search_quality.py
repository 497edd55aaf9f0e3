"""How good is a front after so many epochs: our search beside random search, Optuna's samplers, its hub and Syne Tune.

    python benchmarks/search_quality.py [--task digits-200] [--seeds 10] [--rivals random,tpe,...] [--epochs 384]
        [--json FILE] [--picture FILE] [--cache DIR] [--done FILE] [--data-dir DIR] [--workers 2]

Every search is given the same number of trained epochs, the same space `full` and the same trainings: a result is a
function of (task, design), so it is looked up in TunerBench, and trained and kept in the cache where nobody trained it
before. Who stops a training early pays for the epochs that were trained. Volumes are shares of the box from the linear
probe's accuracy and size to 100% and full fine-tuning; of a single training on validation images, each.

With `--done` searches that ended are kept as well, so that what was stopped goes on. They are of the package as it was:
take another file when it changed.

Printed are the volume at the end (median and quartiles over seeds), the epochs after which our median reaches a rival's
final median, the ratio of the budget to those, and the mean rank at the full budget. `epochs_ratio` in the JSON file is
that ratio by rival. Rivals may also be variants of ours, such as `ours-pareto`: the same with another pruner.
`optunahub` and `moasha` want their packages; the other rivals need nothing else.
"""

import argparse
import json
import multiprocessing
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata
from tunerbench.live import Curves
from tunerbench.play import Box
from tunerbench.rivals import RIVALS, VARIANTS
from tunerbench.table import known
from tunerbench.tasks import TASKS

TRAININGS = 24  # whole ones, in the usual budget
STEPS = 96  # points of a curve


class Job(NamedTuple):
    """One search."""

    task: str
    rival: str
    seed: int
    epochs: int
    cache: Path
    data_dir: str | None


class Done(NamedTuple):
    """What a search came to: volumes at each step of the budget, and how much was trained afresh for it."""

    rival: str
    seed: int
    volumes: list[float]
    trials: int
    trained: int


def work(job: Job) -> Done:
    """Run one search; in a process of its own."""
    import optuna
    import torch

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    curves = Curves(job.task, job.cache / f"{job.task}.jsonl", known(job.task), job.data_dir)
    found = {**RIVALS, **VARIANTS}[job.rival](curves, job.seed, job.epochs)
    return Done(job.rival, job.seed, Box(curves).course(found.points, steps(job.epochs)), found.trials, curves.trained)


def kept(path: Path | None, epochs: int) -> list[Done]:
    """Searches of that many epochs that were done before."""
    if path is None or not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Done(**row["search"]) for row in rows if row["epochs"] == epochs]


def keep(path: Path, one: Done, epochs: int) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"epochs": epochs, "search": one._asdict()}) + "\n")


def steps(epochs: int) -> list[int]:
    """Epochs at which volumes are compared."""
    return [round(epochs * (i + 1) / STEPS) for i in range(STEPS)]


def summary(volumes: dict[str, np.ndarray], epochs: int) -> dict[str, Any]:
    """Figures of all searches; `volumes` are (seeds, steps) by rival."""
    medians = {name: np.median(v, axis=0) for name, v in volumes.items()}
    at = np.array(steps(epochs))
    ratio = {}
    for name, median in medians.items():
        reached = at[medians["ours"] >= median[-1]] if "ours" in medians else at[:0]
        if name != "ours":
            ratio[name] = round(float(epochs / reached[0]), 2) if len(reached) else None
    finals = np.stack([v[:, -1] for v in volumes.values()])
    ranks = np.mean([rankdata(-column) for column in finals.T], axis=0)
    quartiles = {name: np.percentile(v[:, -1], (25, 50, 75)).round(4).tolist() for name, v in volumes.items()}
    return {
        "epochs_ratio": ratio,
        "average_rank": dict(zip(volumes, ranks.round(2).tolist(), strict=True)),
        "final_volume_quartiles": quartiles,
    }


def draw(volumes: dict[str, np.ndarray], epochs: int, title: str, path: Path) -> None:
    """Medians over seeds against epochs, quartiles shaded."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    at = steps(epochs)
    for name, values in volumes.items():
        low, middle, high = np.percentile(values, (25, 50, 75), axis=0)
        (line,) = axes.step(at, middle, where="post", label=name, linewidth=2.4 if name == "ours" else 1.2)
        axes.fill_between(at, low, high, step="post", alpha=0.12, color=line.get_color(), linewidth=0)
    axes.set_xlabel("epochs trained")
    axes.set_ylabel("share of the box that the front dominates")
    axes.set_title(title)
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def show(found: dict[str, Any], done: Sequence[Done]) -> None:
    print(f"{'':10} {'volume at the end':>22} {'rank':>6} {'ours is there after 1/x':>24} {'trials':>7}")
    for name, quartiles in found["final_volume_quartiles"].items():
        low, middle, high = quartiles
        ratio = found["epochs_ratio"].get(name)
        said = "" if name == "ours" else "not reached" if ratio is None else f"{ratio:.2f}"
        trials = np.mean([d.trials for d in done if d.rival == name])
        rank = found["average_rank"][name]
        print(f"{name:10} {middle:8.4f} [{low:.4f}, {high:.4f}] {rank:5.2f} {said:>24} {trials:7.0f}")
    print(f"{sum(d.trained for d in done)} trainings were not in the table")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="digits-200", choices=list(TASKS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rivals", default=",".join(n for n in RIVALS if n != "ours"))
    parser.add_argument("--epochs", type=int, help=f"of each search (default: {TRAININGS} whole trainings)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("tunerbench-cache"))
    parser.add_argument("--done", type=Path, help="JSON lines of searches that ended, of one task")
    parser.add_argument("--data-dir")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    names = ["ours", *(n for n in arguments.rivals.split(",") if n and n != "ours")]
    all_names = (*RIVALS, *VARIANTS)
    unknown = [n for n in names if n not in all_names]
    if unknown:
        parser.error(f"--rivals: {', '.join(unknown)} is unknown; there are {', '.join(all_names)}")
    task = TASKS[arguments.task]
    epochs = arguments.epochs or TRAININGS * task.recipe.epochs
    done = [d for d in kept(arguments.done, epochs) if d.rival in names and d.seed < arguments.seeds]
    there = {(d.rival, d.seed) for d in done}
    jobs = [
        Job(task.name, name, seed, epochs, arguments.cache, arguments.data_dir)
        for seed in range(arguments.seeds)
        for name in names
        if (name, seed) not in there
    ]
    with multiprocessing.get_context("spawn").Pool(arguments.workers, maxtasksperchild=8) as pool:
        for one in pool.imap_unordered(work, jobs):
            done.append(one)
            if arguments.done:
                keep(arguments.done, one, epochs)
            print(f"{one.rival} seed {one.seed}: {one.volumes[-1]:.4f}, {one.trained} trained", flush=True)
    done.sort(key=lambda d: d.seed)
    volumes = {name: np.array([d.volumes for d in done if d.rival == name]) for name in names}
    found = summary(volumes, epochs)
    show(found, done)
    title = f"{task.name}: {epochs} epochs, {arguments.seeds} seeds, median and quartiles"
    if arguments.picture:
        draw(volumes, epochs, title, arguments.picture)
    if arguments.json:
        about = {"task": task.name, "epochs": epochs, "seeds": arguments.seeds}
        courses = {name: {"epochs": steps(epochs), "volumes": v.round(5).tolist()} for name, v in volumes.items()}
        arguments.json.write_text(json.dumps({**about, **found, "courses": courses}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
