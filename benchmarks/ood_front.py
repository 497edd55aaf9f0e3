"""Does the front for `ood_auroc` differ from that for accuracy?

    python benchmarks/ood_front.py --lay-out DATA DIR
    utuning-search run --space full --task DIR/few.toml --objectives accuracy,ood_auroc,parameters --no-pruning \
        --precision bf16 --data-dir DIR --name few ...
    python benchmarks/ood_front.py --study studies/few

DATA is as for `few_shot_ood.py`. Every fifth class is known, 16 training images of each are trained on and 1,000 others
compare; 20 test images of each other class are unknown, every other one of them in the search. Printed are both fronts
against parameters, how the two figures go together over all trials, and how much of the one front's hypervolume the
other's designs have: parameters on a logarithmic scale, a figure from that of the bare head to the best.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import few_shot_ood
import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from utuning_search.results.tables import TRIALS_CSV, read_table
from utuning_search.search.pareto import front, hypervolume

FIGURES = ("accuracy", "ood_auroc")
UNKNOWN = 20  # images a class
DRAWS, SEED = 2000, 0
TASK = """\
name = "cifar100-subset-few"
description = "ImageNet ViT-Ti/16 at 96 px on 16 shots of every fifth class of CIFAR-100, others unknown"

[backbone]
name = "vit_tiny_patch16_224"
checkpoint = "vit_tiny_patch16_224.fp16.safetensors"
image_size = 96

[data]
source = "imagefolder"
root = "known"
shots = 16
validation = 1000
views = 2
ood = "unknown"

[training]
epochs = 20
batch_size = 16
learning_rate = 0.005
warmup_epochs = 2
"""


def lay_out(data: Path, folder: Path) -> None:
    """Links to known and unknown images and to the weights, and the task."""
    few_shot_ood.links(data / few_shot_ood.DATA, folder, UNKNOWN)
    weights = few_shot_ood.BACKBONE.checkpoint
    (folder / weights).symlink_to((data / weights).resolve())
    (folder / "few.toml").write_text(TASK)


def front_by(figure: str, trials: pd.DataFrame) -> list[int]:
    """Rows of the non-dominated trials by a figure and parameters, the smallest first."""
    return front(np.column_stack([trials[figure], -trials["parameters"]]))


def volume(figure: str, trials: pd.DataFrame, rows: list[int]) -> float:
    """Hypervolume of some rows, in [0, 1]."""
    size = np.log(trials["parameters"])
    good = (size.max() - size) / (size.max() - size.min())
    low = trials[figure][trials["parameters"].idxmin()]
    better = (trials[figure] - low) / (trials[figure].max() - low)
    return hypervolume(np.column_stack([better, good])[rows])


def correlation(trials: pd.DataFrame) -> tuple[float, float, float]:
    """Spearman's of the two figures, with a 95% interval by bootstrap over trials."""
    draw = np.random.default_rng(SEED)
    values = trials[list(FIGURES)].to_numpy()
    drawn = [spearmanr(values[draw.integers(len(values), size=len(values))]).statistic for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(spearmanr(values).statistic), float(low), float(high)


def told(trials: pd.DataFrame) -> Iterator[str]:
    """The lines that are printed."""
    fronts = {figure: front_by(figure, trials) for figure in FIGURES}
    yield "| design | parameters | accuracy % | AUROC % | on the front for |\n|---|---|---|---|---|"
    for row in sorted({*fronts["accuracy"], *fronts["ood_auroc"]}, key=lambda i: trials["parameters"][i]):
        found, where = trials.loc[row], [f for f in FIGURES if row in fronts[f]]
        name = found["preset"] or found["design"]
        figures = " | ".join(f"{100 * found[f]:.1f}" for f in FIGURES)
        yield f"| {name} | {found['parameters']:,} | {figures} | {', '.join(where)} |"
    own, both = (set(fronts[f]) for f in FIGURES), set(fronts[FIGURES[0]]) & set(fronts[FIGURES[1]])
    sizes = [len(s) for s in own]
    yield f"\n{len(trials)} trials; fronts of {sizes[0]} and {sizes[1]} designs, {len(both)} on both"
    rho, low, high = correlation(trials)
    yield f"Spearman of accuracy and AUROC {rho:.2f} ({low:.2f} to {high:.2f})"
    for figure in FIGURES:
        whole = volume(figure, trials, fronts[figure])
        other = next(f for f in FIGURES if f != figure)
        share = volume(figure, trials, fronts[other]) / whole
        yield f"hypervolume for {figure}: {whole:.3f}; the designs of the front for {other} have {share:.1%} of it"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lay-out", type=Path, nargs=2, metavar=("DATA", "DIR"))
    parser.add_argument("--study", type=Path, help="a folder with trials.csv")
    arguments = parser.parse_args()
    if arguments.lay_out:
        lay_out(*arguments.lay_out)
    if arguments.study:
        trials = read_table(arguments.study / TRIALS_CSV)
        print("\n".join(told(trials[trials["state"] == "complete"].reset_index(drop=True))))


if __name__ == "__main__":
    main()
