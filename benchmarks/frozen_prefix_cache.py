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
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.training.loop import Examples, train
from utuning_search.training.proxy import Evaluator
from utuning_search.training.runtime import Runtime, resolve_device
from utuning_search.tuners import AdapterConfig


def epoch_seconds(evaluator: Evaluator, design: Design, boundary: int | None) -> float:
    """Seconds of one epoch of `design` from tokens at `boundary`; None takes its first tuned block."""
    torch.manual_seed(0)
    model = TunedModel(evaluator._model, design, evaluator.data.num_classes).to(evaluator.runtime.device)
    start = model.first_tuned_block if boundary is None else boundary
    views = [Examples(evaluator.cache.tokens(v, start), evaluator._labels) for v in evaluator._views]
    validation = Examples(evaluator.cache.tokens("validation", start), evaluator._validation_labels)
    recipe = dataclasses.replace(evaluator.task.recipe, epochs=1, rungs=(), warmup_epochs=0.0)
    options = {"learning_rate": 1e-3, "seed": 0, "autocast": evaluator.runtime.autocast()}
    began = time.perf_counter()
    for _ in train(
        lambda t: model.forward_from(t, start), model.parameters_trained(), views, validation, recipe, **options
    ):
        pass
    if evaluator.runtime.device.startswith("cuda"):
        torch.cuda.synchronize()
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
    evaluator = Evaluator(Task.load(arguments.task), runtime)
    depth = len(evaluator._model.blocks)
    print(f"{arguments.task} on {runtime.device}, {depth} blocks, adapters r=4 in the last k blocks")
    for tuned in (depth, depth // 2, 1, 0):
        placements = (Placement("mlp", AdapterConfig(4), blocks=f"last {tuned}"),) if tuned else ()
        design = Design(placements).resolve(depth)
        ratios = []
        for repeat in range(arguments.repeats + 1):
            slow, fast = epoch_seconds(evaluator, design, 0), epoch_seconds(evaluator, design, None)
            if repeat:  # the first one fills the caches
                ratios.append(slow / fast)
        print(f"last {tuned:>2} tuned: {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
