"""Where the time of a trial goes: CPU seconds of its parts, in one thread, as a worker trains it.

    python benchmarks/trial_profile.py [--task digits] [--precision fp32|bf16] [--preset adapter] [--epochs N]
                                       [--proxy N] [--validation N] [--data-dir DIR] [--repeats 3]

Python's own profiler, on the clock of the process: it tells which function of ours spent what, and adds little, as
nearly all of the time is in torch. Each part is the median of some trials; those of start-up are taken once.
"""

import argparse
import cProfile
import pickle
import pstats
import statistics
import time
from dataclasses import replace


def spent(stats: pstats.Stats, *names: str) -> float:
    """Seconds within functions of these names, `module.py:function`, and in what they call."""
    known = stats.stats  # type: ignore[attr-defined]  # pstats' own types leave it out
    wanted = [name.partition(":")[::2] for name in names]
    return float(
        sum(row[3] for (file, _, own), row in known.items() if any(file.endswith(f) and own == n for f, n in wanted))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="digits")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--preset", default="adapter")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--proxy", type=int)
    parser.add_argument("--validation", type=int)
    parser.add_argument("--data-dir")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    began = time.process_time()
    from utuning_search.training.pool import ProxyTrainer, Result, Runtime, load_search, torch

    imported = time.process_time() - began
    from utuning_search import Design, Task

    torch.set_num_threads(1)
    try:
        from utuning_search.training.allocator import keep_freed_memory

        keep_freed_memory()
    except ImportError:  # before there was one
        pass
    task = Task.load(given.task)
    sizes = {name: getattr(given, name) for name in ("proxy", "validation") if getattr(given, name) is not None}
    task = replace(task, data=replace(task.data, **sizes))
    if given.epochs is not None:
        rungs = tuple(r for r in task.recipe.rungs if r < given.epochs)
        task = replace(task, recipe=replace(task.recipe, epochs=given.epochs, rungs=rungs, warmup_epochs=0.5))
    began = time.process_time()
    trainer = ProxyTrainer(task, Runtime("cpu", given.precision, given.data_dir), load_search(task, given.data_dir))
    loaded = time.process_time() - began
    rows: list[dict[str, float]] = []
    design = Design.preset(given.preset)
    for _ in range(given.repeats + 1):  # the first one fills the caches
        profile = cProfile.Profile(time.process_time)
        profile.enable()
        *_, result = trainer.evaluate(design, 1)
        profile.disable()
        assert isinstance(result, Result)
        stats = pstats.Stats(profile)
        whole = spent(stats, "proxy.py:evaluate")
        backward = spent(stats, "_tensor.py:backward")
        parts = {
            "forward": spent(stats, "loop.py:_accumulate") - backward,
            "backward": backward,
            "optimizer": spent(stats, "flat_adamw.py:step") or spent(stats, "optimizer.py:wrapper"),
            "data": spent(stats, "loop.py:_batch"),
            "measuring, at rungs and at the end": spent(stats, "loop.py:predict"),
        }
        began = time.process_time()
        pickle.loads(pickle.dumps(result))
        parts["pickling a result"] = time.process_time() - began
        rows.append({**parts, "the rest": whole - sum(parts.values()), "a trial": whole})
    print(f"{given.task}, {given.preset}, {given.precision}, {task.recipe.epochs} epochs of {task.data.proxy} images")
    middle = {name: statistics.median(row[name] for row in rows[1:]) for name in rows[0]}
    for name, seconds in middle.items():
        print(f"{name:<46}{seconds:>8.3f} s{seconds / middle['a trial']:>7.1%}")
    print(f"{'start-up, once a worker: imports':<46}{imported:>8.3f} s")
    print(f"{'start-up: backbone and images':<46}{loaded:>8.3f} s")


if __name__ == "__main__":
    main()
