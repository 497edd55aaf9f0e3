"""What do cheap measurements say of the whole one: an epoch, a small task, another backbone?

    python benchmarks/proxies.py [--task digits-200] [--cache DIR ...] [--studies studies] [--json FILE]

Reads whole trainings of TunerBench, of caches of `search_quality.py` and of recorded studies; trains nothing. For each
task it prints Kendall's tau between rungs and the end: among all designs, among those of similar rate (within a factor
of 1.5) and of similar size (2), which are what a search of fronts compares, and of one kind, which is that of the
largest tuner ("in place": scale-shifts, biases, norms). A rung is "fair to rates" less what the learning rate explains
of it where ends are equal, and "to tuners" less what the rate that suits the design (designs/rates.py) explains. Then,
in the same groups, which share of the best 10% a rung has among its best 10% (a third, of fewer than 100 designs), and
what is lost where a pruner stops the worst among designs of similar size.

After ± stands the standard deviation over bootstrap samples of designs. "Another seed" is what the end of one training
says of the end of another, by a simulation with the noise of repeated trainings. A rung has the seed and the images of
its own end, so it may agree more with it than another seed does; tau across seeds is what was measured of repeats.

Only whole curves count. Where a pruner decided they are those that it liked, so a rung's tau is too low, and what
stopping at it loses too.
"""

import argparse
import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from tunerbench.evidence import evidence
from tunerbench.ranks import redrawn, tau, weightings
from tunerbench.rungs import BOOTSTRAPS, DRAWS, LEAST, Figure, Rungs, figure


def between(one: Rungs, other: Rungs) -> dict[str, Any]:
    """Tau of the ends of designs that two tasks have in common; another seed's is that of neither order's noise."""
    rows = [{t.name: i for i, t in enumerate(of.known.first)} for of in (one, other)]
    names = sorted(rows[0].keys() & rows[1].keys())
    found: dict[str, Any] = {"designs": len(names)}
    if len(names) >= LEAST:
        pairs, weights = ~np.eye(len(names), dtype=bool), weightings(len(names), BOOTSTRAPS)
        ends = [of.end[[row[n] for n in names]] for of, row in zip((one, other), rows, strict=True)]
        again = [
            [tau(a, b, pairs, weights[:1]) for a, b in redrawn(end, of.known.images, of.noise, DRAWS)]
            for end, of in zip(ends, (one, other), strict=True)
        ]
        ceiling = float(np.sqrt(np.prod([np.mean(a) for a in again])))
        found |= {"tau": figure(tau(ends[0], ends[1], pairs, weights)), "tau_another_seed": round(ceiling, 4)}
    return found


def say(value: Figure, percent: bool = False) -> str:
    form = "{:.0%}" if percent else "{:.2f}"
    return " ± ".join(form.format(v) for v in value)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"\n| {title} | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def show_task(name: str, found: dict[str, Any], images: int, median: float) -> None:
    rungs, last = found["rungs"], found["epochs"]
    noise = found["noise_factor"] * np.sqrt(median * (1 - median) / images)
    print(f"\n## {name}: {found['designs']} designs trained to epoch {last}, {found['short']} more in part\n")
    print(f"Seeds move the end by {noise:.1%} at {median:.0%} ({found['repeats']} repeats).")
    for what, level, place in (("twice the learning rate", 1, 0), ("twice the rate that suits", 2, 1)):
        if len(found["ahead"][rungs[0]]) > level:
            ahead = ", ".join(f"{found['ahead'][e][level][place]:+.1%} after {e}" for e in rungs)
            print(f"Where ends are equal, {what} is ahead by {ahead}.")
    if found["across_seeds"]:
        print("Tau across seeds: " + ", ".join(f"{e}: {say(v)}" for e, v in found["across_seeds"].items()))
    columns = ["designs", *(f"epoch {e}" for e in rungs), "another seed"]
    for what, percent in (("tau", False), ("recall", True)):
        rows = [
            [group, str(row["designs"]), *(say(v, percent) for v in row[what].values()),
             say([row[f"{what}_another_seed"]], percent)]
            for group, row in found["agreement"].items()
        ]  # fmt: skip
        show("Kendall's tau" if what == "tau" else "share of the best found", columns, rows)
    best = f"lost of the best {found['best']:.0%}"
    for fair, stopping in found["stopping"].items():
        schedules, corrected = found["schedules"][fair], f", {fair}" if fair else ""
        rows = []
        for rung, row in stopping.items():
            spared = [f"{s * (1 - int(rung) / last):.0%}" if rung.isdigit() else "" for s in (1 / 3, 1 / 2)]
            rows.append([rung, say(row["third"], True), spared[0], say(row["half"], True), spared[1]])
        show(f"{best}, asked once{corrected}", ["worst third stopped", "saved", "worst half", "saved"], rows)
        saved = list(next(iter(schedules.values())))
        show(
            f"{best}, asked at{corrected}",
            [f"{s} of epochs saved" for s in saved],
            [[rungs, *(say(row[s], True) for s in saved)] for rungs, row in schedules.items()],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", action="append", help="may be repeated (default: every one there is)")
    parser.add_argument("--cache", type=Path, action="append", default=[], help="of search_quality.py; may be repeated")
    parser.add_argument("--studies", type=Path, help="a folder of recorded studies")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    known = {e.task: e for e in evidence(given.cache, given.studies)}
    wanted = given.task or list(known)
    found: dict[str, Any] = {}
    tasks = {}
    for name in wanted:
        if name not in known or len(known[name].first) < LEAST:
            count = len(known[name].first) if name in known else 0
            print(f"\n## {name}: {count} whole trainings, too few of which to say anything")
            continue
        tasks[name] = Rungs(known[name])
        found[name] = tasks[name].report()
        show_task(name, found[name], known[name].images, float(np.median(tasks[name].end)))
    pairs = {f"{a} and {b}": between(tasks[a], tasks[b]) for a, b in combinations(tasks, 2)}
    rows = [
        [name, str(p["designs"]), *([say(p["tau"]), say([p["tau_another_seed"]])] if "tau" in p else ["too few", ""])]
        for name, p in pairs.items()
    ]
    if rows:
        show("between tasks", ["designs in common", "Kendall's tau of the ends", "another seed"], rows)
    if given.json:
        given.json.write_text(json.dumps({**found, "between tasks": pairs}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
