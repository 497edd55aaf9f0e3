"""Does a child that starts from its parent's trained weights need fewer epochs, and does it rank as from scratch?

    python benchmarks/inheritance.py [--task digits-200] [--pairs 40] [--short 5] [--seed 0] [--json FILE] [--cache DIR]

Parents are drawn from the best third of TunerBench's whole curves, children are edits of theirs as the default sampler
makes them; a quarter of the children only grew, a quarter only gained a tuner, the others are any edit. Of each pair
are trained: the parent, on a seed of its own; the child from scratch; and for --short epochs, with a schedule of that
length, the child from its parent's weights (at its rate, and "gently", at a third of it), the child from scratch, and
the parent once more from its own weights. No two trainings of a pair but the short ones share a seed. Whatever was
trained is in the cache, so that a run that was stopped goes on.

Printed are mean accuracies; rank correlations with the child from scratch, beside those that its parent's accuracy has
and a rung of its own training, and the regret of taking the best quarter by each; gains over the parent, and how often
their signs agree; the same by kind of edit; and the hypervolume that equal epochs buy in two replays, where children
are screened first, and where short trainings are taken at their word. ± is the standard error, by bootstrap over pairs
or half samples of them. Accuracies are in points.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tunerbench.inherited import trained
from tunerbench.judged import ACCURACIES, BASES, Replay, with_errors
from tunerbench.live import Curves
from tunerbench.play import SETTING, Box, last
from tunerbench.table import known, read
from tunerbench.tasks import TASKS

from utuning_search.common.seeds import derive_seed
from utuning_search.designs.design import Design
from utuning_search.designs.spaces.edits import RATE, Neighbourhoods
from utuning_search.designs.spaces.space import Space
from utuning_search.search.objectives.cost import full_fine_tuning
from utuning_search.search.samplers.candidates import Candidates
from utuning_search.training.context import load_search
from utuning_search.training.proxy import ProxyTrainer
from utuning_search.training.runtime import Runtime

KINDS = ("larger", "added", "others", "others")  # wanted of pairs, in turns
TRIES = 400
GENTLY = 1 / 3  # of the child's rate


def kind(near: Neighbourhoods, parent: Design, child: Design) -> str:
    """Whether a child has larger ranks or lengths only, further tuners only, or is another edit."""
    one, other = (near.space.params_of(d, near.depth) or {} for d in (parent, child))
    changed = [n for n in one.keys() & other.keys() if one[n] != other[n] and n != RATE]
    if one.keys() - other.keys():
        return "others"  # something is gone: a bypass stands alone
    if changed and all(n.endswith(".tuner") and one[n] == "none" for n in changed):
        return "added"
    sizes = all(n.endswith((".rank", ".length")) and float(other[n]) > float(one[n]) for n in changed)
    return "larger" if changed and sizes else "others"


def drawn(near: Neighbourhoods, parents: list[Design], pair: int, seed: int) -> tuple[Design, Design, str]:
    """A pair's parent, its child, and what kind of edit that is."""
    parent, wanted = parents[pair % len(parents)], KINDS[pair % len(KINDS)]
    rng = np.random.default_rng(derive_seed(seed, f"pair {pair}"))
    most = full_fine_tuning(SETTING)
    edits = Candidates(near, rng, (), lambda d: d.num_parameters(SETTING.shape, SETTING.num_classes) <= most)
    children = (child for _ in range(TRIES) for child in edits.edits([parent], 1, (parent.key,)))
    for child in children:
        found = kind(near, parent, child)
        if found == wanted:
            break
    return parent, child, found


def rung_of(task: str, short: int) -> int:
    """Epochs after which a child's own training is looked at: as many as a short training has, or a few less."""
    return max(r for r in TASKS[task].recipe.rungs if r <= short)


def measured(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row a pair: its kind, the child's parameters, and accuracies."""
    task, short = TASKS[arguments.task], arguments.short
    whole = [r for r in read(task.name) if task.recipe.epochs in r.curve and r.repeat == 0]
    least = np.quantile([last(r.curve) for r in whole], 2 / 3)
    near = Neighbourhoods(Space.load("full"), SETTING.shape.depth, task.recipe.learning_rate)
    good = {
        r.design: last(r.curve) for r in whole if last(r.curve) >= least and near.space.contains(r.design, near.depth)
    }
    order = np.random.default_rng(derive_seed(arguments.seed, "parents")).permutation(len(good))
    parents = [list(good)[int(i)] for i in order]
    curves = Curves(task.name, arguments.cache / f"{task.name}.jsonl", known(task.name), arguments.data_dir)
    context = load_search(task, arguments.data_dir)
    trainer = ProxyTrainer(task, Runtime(data_dir=arguments.data_dir), context)
    brief = replace(task.recipe, epochs=short, rungs=())

    kept = arguments.cache / f"inheritance-{task.name}-{short}-{arguments.seed}.jsonl"
    found = {row["pair"]: row for row in map(json.loads, kept.read_text().splitlines())} if kept.exists() else {}
    for pair in range(arguments.pairs):
        if pair not in found:
            parent, child, edit = drawn(near, parents, pair, arguments.seed)
            seeds = [derive_seed(arguments.seed, f"{what} of pair {pair}") for what in ("parent", "short")]
            first = trained(trainer, context, parent, task.recipe, seeds[0])
            curve = curves.of(child)
            slow = Design(child.placements, GENTLY * (child.learning_rate or brief.learning_rate))
            found[pair] = {
                "pair": pair,
                "kind": edit,
                "parameters": child.num_parameters(SETTING.shape, SETTING.num_classes),
                "known": good[parent],
                "parent": first.accuracy,
                "continued": trained(trainer, context, parent, brief, seeds[1], first).accuracy,
                "inherited": trained(trainer, context, child, brief, seeds[1], first).accuracy,
                "gentle": trained(trainer, context, slow, brief, seeds[1], first).accuracy,
                "short": trained(trainer, context, child, brief, seeds[1]).accuracy,
                "rung": curve.get(rung_of(task.name, short), 0.0),
                "scratch": last(curve),
                "designs": [parent.to_dict(), child.to_dict()],
            }
            kept.parent.mkdir(parents=True, exist_ok=True)
            with kept.open("a") as file:
                file.write(json.dumps(found[pair]) + "\n")
        yield found[pair]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="digits-200", choices=list(TASKS))
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--short", type=int, default=5, help="epochs of short trainings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("tunerbench-cache"))
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for row in measured(arguments):
        rows.append(row)
        print(row["pair"], row["kind"], {name: round(100 * row[name], 2) for name in ACCURACIES}, flush=True)
    columns = {name: 100 * np.array([row[name] for row in rows]) for name in ACCURACIES}
    columns["parameters"] = np.array([row["parameters"] for row in rows])
    kinds = np.array([row["kind"] for row in rows])
    rng = np.random.default_rng(arguments.seed)
    groups = {"all": np.ones(len(rows), bool), **{name: kinds == name for name in dict.fromkeys(KINDS)}}
    groups["larger or added"] = kinds != "others"
    found = {
        name: with_errors({n: v[own] for n, v in columns.items()}, rng) for name, own in groups.items() if own.sum() > 2
    }
    box = Box(Curves(arguments.task, arguments.cache / f"{arguments.task}.jsonl", known(arguments.task)))
    epochs, rung = TASKS[arguments.task].recipe.epochs, rung_of(arguments.task, arguments.short)
    replay = Replay(columns, box, arguments.short, epochs, rung, rng)
    volumes = {
        f"{replay.screening} epochs, whole trainings of those chosen by": replay.screened(),
        f"{replay.believing} epochs, short trainings taken at their word": replay.believed(),
    }
    print(f"\n{'':36}" + "".join(f"{f'{name} ({groups[name].sum()})':>22}" for name in found))
    for figure in found["all"]:
        print(f"{figure:36}" + "".join(f"{f'{v[figure][0]:.2f} ± {v[figure][1]:.2f}':>22}" for v in found.values()))
    for spent, by_score in volumes.items():
        print(f"\nvolume and gains: {spent}\n{'':36}" + f"{'':22}" + "".join(f"{f'over {b}':>22}" for b in BASES))
        for name, (volume, gains) in by_score.items():
            print(f"{name:36}{volume:22.4f}" + "".join(f"{f'{g:+.4f} ± {e:.4f}':>22}" for g, e in gains.values()))
    if arguments.json:
        arguments.json.write_text(json.dumps({"pairs": rows, "figures": found, "volumes": volumes}) + "\n")


if __name__ == "__main__":
    main()
