"""What rungs know of the end, and what the Pareto-aware pruner saves and loses, replayed on an unpruned study.

    utuning-search run --space full --sampler random --no-pruning --name unpruned
    python benchmarks/pruning.py studies/unpruned [--orders 200]

Spearman's rank correlation of each rung with the end; then, over random orders of the same trials, the share of
trials pruned, the share of epochs spent, and how many designs of the true front were lost.
"""

import argparse
import random
import statistics
from pathlib import Path

import numpy as np

from utuning_search import Study
from utuning_search.results.tables import table
from utuning_search.search.history import Peers
from utuning_search.search.objectives.registry import USUAL
from utuning_search.search.pruners.base import Rung
from utuning_search.search.pruners.pareto import ParetoPruner
from utuning_search.search.trials import TrialRecord


def replay(records: list[TrialRecord], pruner: ParetoPruner, front: set[int]) -> tuple[float, float, int]:
    """(share pruned, share of epochs spent, front designs lost) for one order of the trials."""
    peers: dict[int, list[tuple[float, float]]] = {}
    pruned, epochs, lost = 0, 0, 0
    last = max(records[0].rungs)
    for record in records:
        spent = last
        for epoch, accuracy in sorted(record.rungs.items())[:-1]:
            own = (accuracy, -float(record.parameters))
            measured = {e: {"accuracy": a} for e, a in record.rungs.items() if e <= epoch}
            rung = Rung(epoch, record.number, measured, gains([own]), gains(peers.get(epoch, [])), [], USUAL)
            stops = pruner.prunes(rung)
            peers.setdefault(epoch, []).append(own)
            if stops:
                spent, pruned, lost = epoch, pruned + 1, lost + (record.number in front)
                break
        epochs += spent
    return pruned / len(records), epochs / (last * len(records)), lost


def gains(rows: list[tuple[float, float]]) -> Peers:
    """Trials as (accuracy, parameters negated)."""
    array = np.array(rows).reshape(-1, 2)
    return Peers(array[:, :1], array[:, 1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--orders", type=int, default=200)
    arguments = parser.parse_args()
    study = Study.load(arguments.study.name, studies_dir=arguments.study.parent)
    records = [r for r in study.trials() if r.state == "complete" and r.reused is None]
    frame = table(records)
    rungs = [c for c in frame.columns if c.startswith("accuracy_epoch_")]
    print(f"{len(records)} trials, a front of {len(study.front())}; rank correlation with the end:")
    correlations = frame[[*rungs, "parameters"]].corrwith(frame["accuracy"], method="spearman")
    for name, value in correlations.items():
        print(f"  {name}: {value:.2f}")
    front, shuffled = {r.number for r in study.front()}, random.Random(0)
    for pruner in (ParetoPruner(), ParetoPruner(ahead=1), ParetoPruner(ahead=3, share=0), ParetoPruner(ahead=5)):
        outcomes = [replay(shuffled.sample(records, len(records)), pruner, front) for _ in range(arguments.orders)]
        pruned, epochs, lost = (statistics.mean(column) for column in zip(*outcomes, strict=True))
        print(
            f"{pruner}: {pruned:.0%} pruned, {epochs:.0%} of the epochs, {lost:.2f} of {len(front)} front designs lost"
        )


if __name__ == "__main__":
    main()
