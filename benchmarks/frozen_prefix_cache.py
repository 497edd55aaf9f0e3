"""Time of one epoch with tokens cached before the first tuned block, against tokens cached at the embedding.

    python benchmarks/frozen_prefix_cache.py [--device cpu|cuda] [--task digits] [--data-dir DIR] [--repeats 3]

Same designs, same images, same results within rounding: "same work, faster".
"""

import argparse
import dataclasses
import statistics
import time

import torch

from utuning_search import Design, Placement, Task
from utuning_search.training.loop import measure
from utuning_search.training.measuring import wait_for
from utuning_search.training.proxy import ProxyTrainer
from utuning_search.training.runtime import Runtime, resolve_device
from utuning_search.tuners import AdapterConfig


def epoch_seconds(trainer: ProxyTrainer, design: Design, boundary: int | None) -> float:
    """Seconds of one epoch of `design` from tokens at `boundary`; None takes its first tuned block."""
    model = trainer._fresh(design, 0)
    start = model.first_tuned_block if boundary is None else boundary
    views, validation = trainer.examples_from(start)
    recipe = dataclasses.replace(trainer.task.recipe, epochs=1, rungs=(), warmup_epochs=0.0)
    began = time.perf_counter()
    for _ in trainer._epochs(model, lambda t: model.forward_from(t, start), views, recipe, 0):
        measure(lambda t: model.forward_from(t, start), validation)
    wait_for(trainer.runtime.device)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--task", default="digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runtime = Runtime(resolve_device(arguments.device), "fp32", arguments.data_dir)
    trainer = ProxyTrainer(Task.load(arguments.task), runtime)
    depth = len(trainer._backbone.blocks)
    print(f"{arguments.task} on {runtime.device}, {depth} blocks, adapters r=4 in the last k blocks")
    for tuned in (depth, depth // 2, 1, 0):
        placements = (Placement("mlp", AdapterConfig(4), blocks=f"last {tuned}"),) if tuned else ()
        design = Design(placements).resolve(depth)
        ratios = []
        for repeat in range(arguments.repeats + 1):
            slow, fast = epoch_seconds(trainer, design, 0), epoch_seconds(trainer, design, None)
            if repeat:  # the first one fills the caches
                ratios.append(slow / fast)
        print(f"last {tuned:>2} tuned: {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
