"""A trial as this project trains it, beside the loop that anyone writes and beside HF peft: the same work.

    python benchmarks/trial_speed.py [--task digits|vit-ti-96|vit-192-32] [--pairs N] [--where any|last-third]
                                     [--precision auto|fp32|bf16] [--as-used] [--data-dir DIR] [--json FILE]

Sides are processes of one family, and one of them works at a time:

naive  The same modules in fp32: images normalised once, each batch through the whole model, torch's fused attention
       and plain AdamW; measured at the same epochs.
peft   The same with HF peft's LoRA, for designs that are one; left out where peft is not installed.
ours   `ProxyTrainer.evaluate`, as a worker of a study runs it. Its caches are filled before, as they are after a
       study's first trials; what that took is told.

There is a design of every kind of tuner, at an operation, in a form and in blocks that are drawn by --seed; each pair
trains one of them on both sides, the order alternating. All train with the same seeds on the same batches for the same
epochs. Seconds are CPU seconds of one thread, so that what else the machine does at the time counts little; the ratio
of wall seconds stands beside them. --as-used then compares trials an hour as people see them: the naive loop with
torch's own number of threads, which trains one design, against a process of ours a core, which train as many; again in
pairs of one design each, and on a machine without other work.

The peak is that of a product of large matrices in fp32 and bf16, in the same run, before and after. Memory is the most
that a process held, libraries included, and what of it was its own, which is not shared with other processes.
"""

import argparse
import itertools
import json
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

SIDES = ("naive", "peft", "ours")
TASKS = ("digits", "vit-ti-96", "vit-192-32")
# A usual size of each kind, with options that keep it legal on a width of 64.
SIZES: dict[str, dict[str, Any]] = {
    "compacter": {"rank": 8, "terms": 4},
    "kronecker": {"rank": 1, "terms": 8},
    "grouped": {"groups": 4},
    "oft": {"parts": 8},
    "prefix": {"length": 8},
    "prompt": {"length": 8},
    "rescale": {},
    "scale_shift": {},
    "bias": {},
    "norm": {},
}
RANK = {"rank": 8}
PEAK_SIZE, PEAK_TURNS = 1024, 8
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_convolution")
GFLOP = 1e9


@dataclass(frozen=True)
class Order:
    """What a side is told to train, and where."""

    task: str
    data_dir: str | None
    precision: str
    seed: int
    where: str
    epochs: int | None
    images: Path | None = None


def designs(order: Order, depth: int) -> dict[str, Any]:
    """A design of every kind of tuner by label."""
    from utuning_search import Design, Placement
    from utuning_search.tuners import OUTSIDE_OPERATIONS, TUNERS

    draw, found = random.Random(order.seed), {}
    first = 1 if order.where == "any" else depth - depth // 3 + 1
    for kind, tuner in TUNERS.items():
        config = tuner(**SIZES.get(kind, RANK))
        operation = draw.choice([o for o in config.operations if o not in OUTSIDE_OPERATIONS])
        form = draw.choice(config.forms_at(operation))
        start, end = sorted(draw.choices(range(first, depth + 1), k=2))
        blocks = (start,) if config.once else tuple(range(start, end + 1))
        design = Design((Placement(operation, config, form, blocks=blocks),)).resolve(depth)
        found[f"{kind} at {operation}, {form}, blocks {start}-{end}"] = design
    bypass = Placement("block", TUNERS["adapter"](rank=8), "bypass", blocks=tuple(range(first, depth + 1)))
    found[f"adapter at block, bypass, blocks {first}-{depth}"] = Design((bypass,)).resolve(depth)
    labels = list(found)
    draw.shuffle(labels)  # so that fewer pairs are a sample of all
    return {label: found[label] for label in labels}


def loaded(order: Order) -> tuple[Any, Any]:
    """The task and its context."""
    from utuning_search import Task
    from utuning_search.training.context import load_search

    if order.task == "digits":
        task = Task.load("digits")
    elif order.task == "vit-ti-96":
        whole = Task.load("cifar100-subset")
        # A fifth of the task, so that measuring has the share of a trial that it has there.
        task = replace(
            whole,
            data=replace(whole.data, proxy=400, validation=200),
            recipe=replace(whole.recipe, epochs=2, rungs=(1,), warmup_epochs=0.5),
        )
    else:
        return _random_task()
    return task, load_search(task, order.data_dir, order.images)


def _random_task() -> tuple[Any, Any]:
    """A ViT of width 192 on 32 pixels with patches of 4, of random weights, and images of noise: only for speed."""
    import timm
    import torch

    from utuning_search import Task
    from utuning_search.backbones.loading import freeze
    from utuning_search.backbones.preprocessing import Preprocessing
    from utuning_search.backbones.registry import adapter_of
    from utuning_search.data.decoded import SearchData, Split
    from utuning_search.training.context import SearchContext

    torch.manual_seed(0)
    model = freeze(timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, patch_size=4))
    draw = torch.Generator().manual_seed(1)

    def split(count: int) -> Split:
        images = torch.randint(256, (count, 3, 32, 32), generator=draw, dtype=torch.uint8)
        return Split(images, torch.randint(10, (count,), generator=draw))

    data = SearchData(split(400), split(200), tuple(map(str, range(10))), "0" * 12)
    whole = Task.load("digits")
    task = replace(
        whole,
        backbone=replace(whole.backbone, name="vit_tiny_patch16_224"),
        data=replace(whole.data, proxy=400, validation=200),
        recipe=replace(whole.recipe, epochs=2, rungs=(1,), warmup_epochs=0.5),
    )
    half = (0.5,) * 3
    return task, SearchContext(model, Preprocessing(32, 3, half, half, "bicubic"), adapter_of(model).shape, data)


def side(name: str, order: Order, threads: int, pipe: Any) -> None:
    """A process: designs in, what training them took out."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    if name == "ours":
        from utuning_search.training.allocator import keep_freed_memory

        keep_freed_memory()
    task, context = loaded(order)
    if order.epochs is not None:
        rungs = tuple(r for r in task.recipe.rungs if r < order.epochs)
        task = replace(task, recipe=replace(task.recipe, epochs=order.epochs, rungs=rungs, warmup_epochs=0.5))
    known = designs(order, context.shape.depth)
    train = {"naive": Naive, "peft": Peft, "ours": Ours}[name](task, context, order)
    pipe.send((list(known), task, context.shape.depth))
    while (label := pipe.recv()) is not None:
        if label == "memory":
            pipe.send(_memory())
        elif label == "filling":
            pipe.send(train.filling)
        elif label.startswith("save "):
            context.data.save(Path(label.removeprefix("save ")))
            pipe.send(None)
        elif label == "peak":
            pipe.send(_peaks())
        elif label.startswith("flops "):
            pipe.send(train.flops(known[label.removeprefix("flops ")]))
        else:
            wall, cpu = time.perf_counter(), time.process_time()
            accuracy = train(known[label])
            pipe.send((time.process_time() - cpu, time.perf_counter() - wall, accuracy))


class Ours:
    """Designs trained as a worker trains them."""

    def __init__(self, task: Any, context: Any, order: Order) -> None:
        from utuning_search.training.proxy import ProxyTrainer
        from utuning_search.training.runtime import Runtime, resolve_precision

        self.precision = resolve_precision(order.precision, "cpu", task.backbone.name)
        self.trainer = ProxyTrainer(task, Runtime("cpu", self.precision, order.data_dir), context)
        began = time.process_time()
        for source, boundary in itertools.product(self.trainer._sources, range(context.shape.depth + 1)):
            self.trainer.cache.tokens(source, boundary)
            if source == "validation":
                self.trainer._exact.tokens(source, boundary)
        self.filling = time.process_time() - began

    def __call__(self, design: Any) -> float:
        *_, last = self.trainer.evaluate(design, 1)
        return last.accuracy

    def flops(self, design: Any) -> tuple[float, str]:
        """Of one trial, those of matrix products that it really does, and the precision of its training."""
        import torch
        import torch.nn.functional as F

        trainer, recipe = self.trainer, self.trainer.task.recipe
        inputs = trainer._inputs(trainer._fresh(design, 1), trainer.cache)
        labels, held_out = trainer.data.proxy.labels, trainer.data.validation.labels
        some = min(recipe.batch_size, len(labels))
        with torch.profiler.profile(with_flops=True) as step, trainer.runtime.autocast()():
            F.cross_entropy(inputs.forward(inputs.of("view_0")[:some]).float(), labels[:some]).backward()
        with torch.profiler.profile(with_flops=True) as look, torch.no_grad(), trainer.runtime.autocast()():
            inputs.forward(inputs.of("validation")[:some])
        trained, measured = (sum(e.flops for e in p.key_averages() if e.key in PRODUCTS) / some for p in (step, look))
        looks = len(recipe.rungs) + 1
        return trained * len(labels) * recipe.epochs + measured * len(held_out) * looks, self.precision


class Naive:
    """Designs trained by a plain loop on the same modules."""

    def __init__(self, task: Any, context: Any, order: Order) -> None:
        del order
        self.recipe, self.context = task.recipe, context
        normalise, data = context.preprocessing.normalise, context.data
        self.images, self.labels = normalise(data.proxy.images), data.proxy.labels
        self.held_out, self.answers = normalise(data.validation.images), data.validation.labels
        self.views = task.data.views

    def __call__(self, design: Any) -> float:
        import torch
        import torch.nn.functional as F

        from utuning_search.training.loop import schedule

        recipe, count = self.recipe, len(self.labels)
        model = self.model(design)
        trained = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate)
        draw, accuracy = torch.Generator().manual_seed(1), 0.0
        steps = -(-count // recipe.batch_size)
        for epoch in range(recipe.epochs):
            order = torch.randperm(count, generator=draw)
            view = torch.randint(self.views, (count,), generator=draw)
            for step, rows in enumerate(order.split(recipe.batch_size)):
                for group in optimizer.param_groups:
                    group["lr"] = recipe.learning_rate * schedule((epoch * steps + step + 1) / steps, recipe)
                images, mirrored = self.images[rows], view[rows] == 1
                images[mirrored] = images[mirrored].flip(-1)
                optimizer.zero_grad()
                F.cross_entropy(model(images), self.labels[rows]).backward()
                optimizer.step()
            if epoch + 1 in {*recipe.rungs, recipe.epochs}:
                model.eval()
                with torch.no_grad():
                    logits = torch.cat([model(part) for part in self.held_out.split(256)])
                accuracy = float((logits.argmax(1) == self.answers).float().mean())
                self.train(model)
        return accuracy

    def model(self, design: Any) -> Any:
        import torch

        from utuning_search.backbones.tuned_model import TunedModel

        torch.manual_seed(1)
        model = TunedModel(self.context.backbone, design, self.context.data.num_classes)
        self.train(model)
        return model

    def train(self, model: Any) -> None:
        """Training mode, of what is trained."""
        model.train()
        model.backbone.eval()


class Peft(Naive):
    """LoRA designs as HF peft attaches them to timm's model."""

    def model(self, design: Any) -> Any:
        import copy

        import torch
        from peft import LoraConfig, get_peft_model

        (placement,) = design.placements
        name = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}[placement.operation]
        names = [f"blocks.{b - 1}.{name}" for b in placement.blocks]
        torch.manual_seed(1)
        model = copy.deepcopy(self.context.backbone)
        model.head = torch.nn.Linear(model.num_features, self.context.data.num_classes)
        rank = placement.tuner.rank
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=names, modules_to_save=["head"])
        return get_peft_model(model, config).eval()

    def train(self, model: Any) -> None:
        """There is nothing in it that trains otherwise than it predicts."""


def fits_peft(design: Any) -> bool:
    """Whether peft's LoRA is the same design."""
    (placement,) = design.placements
    alike = placement.tuner.kind == "lora" and placement.form == "parallel"
    return alike and placement.operation in ("qkv", "proj", "fc1", "fc2")


def _peaks() -> dict[str, float]:
    """FLOP/s of a product of large matrices, in one thread, by precision."""
    import torch

    found = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(PEAK_SIZE, PEAK_SIZE).to(kind) for _ in range(2))
        seconds = []
        for _ in range(PEAK_TURNS):
            began = time.process_time()
            a @ b
            seconds.append(time.process_time() - began)
        found[name] = 2 * PEAK_SIZE**3 / min(seconds[1:])
    return found


def _memory() -> dict[str, float]:
    """MB (10^6 bytes): most that this process held, and what of it is its own now."""
    import resource

    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    own = next((float(line.split()[1]) for line in lines if line.startswith("RssAnon")), float("nan"))
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, "own": own * 1024 / 1e6}


class Family:
    """The processes of the sides."""

    def __init__(self, order: Order, sides: tuple[str, ...], threads: int = 1) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = {}, []
        self.folder = tempfile.TemporaryDirectory()
        for name in sides:
            if name == "ours" and "naive" in self.pipes:  # as workers of a study get them
                self.ask("naive", f"save {self.folder.name}")
                order = replace(order, images=Path(self.folder.name))
            self.pipes[name], theirs = context.Pipe()
            process = context.Process(target=side, args=(name, order, threads, theirs), daemon=True)
            process.start()
            theirs.close()
            self.processes.append(process)
            self.labels, self.task, self.depth = self.pipes[name].recv()

    def ask(self, name: str, what: str) -> Any:
        self.pipes[name].send(what)
        return self.pipes[name].recv()

    def close(self) -> None:
        for pipe in self.pipes.values():
            pipe.send(None)
        for process in self.processes:
            process.join()
        self.folder.cleanup()


def compare(order: Order, pairs: int, sides: tuple[str, ...]) -> dict[str, Any]:
    """Pairs of trainings, side by side, and what they say together."""
    family = Family(order, sides)
    known = designs(order, family.depth)
    before = family.ask("ours", "peak")
    rows: list[dict[str, Any]] = []
    print(f"{'design':<52}{'naive':>9}{'peft':>9}{'ours':>9}{'ratio':>7}{'wall':>7}{'accuracy':>16}")
    for index in range(pairs):
        label = family.labels[index % len(family.labels)]
        wanted = [s for s in sides if s != "peft" or fits_peft(known[label])]
        turn = wanted if index % 2 else wanted[::-1]
        took = {name: family.ask(name, label) for name in turn}
        (naive, naive_wall, reached), (ours, ours_wall, got) = took["naive"], took["ours"]
        row = {
            "design": label,
            **{f"{name}_cpu": cpu for name, (cpu, _, _) in took.items()},
            **{f"{name}_wall": wall for name, (_, wall, _) in took.items()},
            "ratio": naive / ours,
            "ratio_wall": naive_wall / ours_wall,
            "accuracy_difference": got - reached,
        }
        if "peft" in took:
            row |= {"ratio_peft": took["peft"][0] / ours, "peft_accuracy_difference": got - took["peft"][2]}
        rows.append(row)
        beside = f"{took['peft'][0]:>8.2f}s" if "peft" in took else f"{'':>9}"
        print(
            f"{label:<52}{naive:>8.2f}s{beside}{ours:>8.2f}s{naive / ours:>7.2f}{naive_wall / ours_wall:>7.2f}"
            f"{reached:>8.3f}{got:>8.3f}",
            flush=True,
        )
    after = family.ask("ours", "peak")
    peak = {name: max(before[name], after[name]) for name in before}
    images = family.task.data.proxy * family.task.recipe.epochs
    filling = family.ask("ours", "filling")
    memory = {name: family.ask(name, "memory") for name in sides}  # before what counts FLOPs, which needs more
    for row in rows:
        flops, precision = family.ask("ours", f"flops {row['design']}")
        row["gflops"] = flops / row["ours_cpu"] / GFLOP
    family.close()
    median = statistics.median
    found: dict[str, Any] = {
        "task": order.task,
        "where": order.where,
        "precision": precision,
        "pairs": pairs,
        "ratio": median(r["ratio"] for r in rows),
        "ratio_of_sums": sum(r["naive_cpu"] for r in rows) / sum(r["ours_cpu"] for r in rows),
        "ratio_wall": median(r["ratio_wall"] for r in rows),
        "images_a_second": {
            s: images / median(r[f"{s}_cpu"] for r in rows if f"{s}_cpu" in r) for s in ("naive", "ours")
        },
        "accuracy_difference": statistics.mean(r["accuracy_difference"] for r in rows),
        "peak_gflops": {name: value / GFLOP for name, value in peak.items()},
        "peak_fraction": median(r["gflops"] for r in rows) * GFLOP / peak[precision],
        "memory_mb": memory,
        "cache_seconds": filling,
        "rows": rows,
    }
    beside = [r["ratio_peft"] for r in rows if "ratio_peft" in r]
    if beside:
        found["ratio_peft"] = median(beside)
    return found


def as_used(order: Order, pairs: int) -> float:
    """Wall time a trial with torch's own threads, over that of a process a core, all of which train the same design."""
    import os

    from utuning_search.training.runtime import default_workers

    workers = default_workers("cpu")
    naive, ours = Family(order, ("naive",), threads=0), [Family(order, ("ours",)) for _ in range(workers)]
    ratios = []
    for number, label in enumerate(itertools.islice(itertools.cycle(naive.labels), pairs)):
        seconds = {}
        for families in ([naive], ours) if number % 2 else (ours, [naive]):
            side = "ours" if families is ours else "naive"
            began = time.perf_counter()
            for family in families:
                family.pipes[side].send(label)
            for family in families:
                family.pipes[side].recv()
            seconds[side] = (time.perf_counter() - began) / len(families)
        ratios.append(seconds["naive"] / seconds["ours"])
        print(f"as used: {label}: {ratios[-1]:.2f}x", flush=True)
    for family in (naive, *ours):
        family.close()
    found = statistics.median(ratios)
    print(f"as used, {os.cpu_count()} cores: {found:.2f}x, torch's threads against {workers} processes")
    return found


def missing(given: argparse.Namespace) -> str:
    """Why the task cannot be run here; empty where it can."""
    if given.task != "vit-ti-96":
        return ""
    wanted = ("cifar100-subset", "vit_tiny_patch16_224.fp16.safetensors")
    absent = [name for name in wanted if given.data_dir is None or not (Path(given.data_dir) / name).exists()]
    return f"skipped: vit-ti-96 reads {' and '.join(absent)} in --data-dir, {given.data_dir}" if absent else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=TASKS, default="digits")
    parser.add_argument("--pairs", type=int, help="default: one a design")
    parser.add_argument("--where", choices=("any", "last-third"), default="any")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, help="fewer than the task's, to look quickly")
    parser.add_argument("--as-used", action="store_true")
    parser.add_argument("--data-dir")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if why := missing(given):
        print(why)
        return
    order = Order(given.task, given.data_dir, given.precision, given.seed, given.where, given.epochs)
    sides = SIDES
    try:
        import peft  # noqa: F401  # only whether it is there
    except ImportError:
        print("peft is not installed: its side is left out", file=sys.stderr)
        sides = ("naive", "ours")
    depth = {"digits": 6}.get(given.task, 12)
    pairs = len(designs(order, depth)) if given.pairs is None else given.pairs
    found = compare(order, pairs, sides)
    print(
        f"{given.task}, {found['precision']}, {pairs} pairs: {found['ratio']:.2f}x the naive loop in CPU time"
        f" ({found['ratio_of_sums']:.2f}x of the sums, {found['ratio_wall']:.2f}x in wall time),"
        f" accuracy {found['accuracy_difference']:+.4f}, {found['peak_fraction']:.0%} of the peak,"
        f" images a second {found['images_a_second']['naive']:.0f} and {found['images_a_second']['ours']:.0f}"
    )
    if "ratio_peft" in found:
        print(f"{found['ratio_peft']:.2f}x peft")
    memory = found["memory_mb"]["ours"]
    print(f"memory a worker: {memory['peak']:.0f} MB at its peak, {memory['own']:.0f} MB its own")
    print(f"filling all caches: {found['cache_seconds']:.1f} s, once a worker")
    if given.as_used:
        found["ratio_as_used"] = as_used(order, pairs)
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
