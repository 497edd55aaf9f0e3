"""What a GPU gives: each question is answered by a ratio of two sides that take turns in one run.

    python benchmarks/gpu.py [check|data|accumulation|precision|workers|all] [--device cuda]

check         For every known method, logits and one training step on the device against those on the CPU, in fp32.
data          An epoch from uint8 images that stay on the device, augmented there, against one from a DataLoader with
              torchvision's transforms on the CPU.
accumulation  An epoch with so little memory that batches are taken in parts, against one that has enough.
precision     bf16 against fp32: accuracy reached and images a second. benchmarks/precision.py has the time of a step.
workers       Trials an hour with one worker a GPU, against one worker.

On the CPU sizes are tiny: that only shows that the script runs. Weights and images are random but in `precision` and
`workers`, which train on --task. Ends with 1 if `check` finds a difference.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from utuning_search import PRESETS, Design, Task
from utuning_search.backbone import Preprocessing, freeze, unfuse_attention
from utuning_search.engine import (
    Done,
    Evaluator,
    Failed,
    Job,
    Lost,
    ProcessPool,
    Result,
    Rung,
    Runtime,
    default_workers,
    resolve_device,
    runtimes,
)
from utuning_search.full_training import MARGIN, augmentation
from utuning_search.insertion import TunedModel
from utuning_search.memory import to_device
from utuning_search.task import Recipe
from utuning_search.training import Examples, Report, train

TOLERANCE = 1e-3
CLASSES = 100
LEARNING_RATE = 1e-3
SHARES = (0.7, 0.4, 0.2)  # of the memory that training a batch needs, left to it
PATIENCE = 600.0  # seconds without any event of a worker


@dataclass(frozen=True)
class Setting:
    """A backbone with random weights, random images, and where they are."""

    device: str
    model: str
    size: int
    batch: int
    images: int
    repeats: int
    loaders: int
    task: Task
    data_dir: str | None
    seeds: int
    workers: int

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(self.size, 3, (0.5,) * 3, (0.5,) * 3, "bicubic")

    def backbone(self, device: str, *, fused: bool | None = None) -> nn.Module:
        """With fused attention, or as the package has it: not on CPUs."""
        torch.manual_seed(0)
        model = freeze(timm.create_model(self.model, num_classes=0, img_size=self.size))
        if not (device != "cpu" if fused is None else fused):
            unfuse_attention(model)
        return model.to(device)

    def tuned(self, backbone: nn.Module, design: Design, device: str) -> TunedModel:
        torch.manual_seed(1)
        model = TunedModel(backbone, design, CLASSES).train()
        model.backbone.eval()
        return model.to(device)

    def examples(self, count: int | None = None) -> Examples:
        draw = torch.Generator().manual_seed(2)
        shape = (count or self.images, 3, self.size, self.size)
        images = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)
        return Examples(images, torch.randint(CLASSES, (len(images),), generator=draw))

    def wait(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)

    def recipe(self, epochs: int = 1) -> Recipe:
        return Recipe(epochs=epochs, batch_size=self.batch, learning_rate=LEARNING_RATE, warmup_epochs=0.0)


# Is it the same?


def one_step(setting: Setting, backbone: nn.Module, design: Design, device: str) -> tuple[Tensor, list[Tensor], float]:
    """Logits, the gradients of a step, and the loss after a step of the package's own training, all on the CPU."""
    model = setting.tuned(backbone, design, device)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():  # as trained weights would be: what starts at zero has no effect, and hides errors
        for p in model.parameters_trained():
            p.add_(0.02 * torch.randn(p.shape, generator=draw).to(device))
    examples = setting.examples(8)
    inputs, labels = (t.to(device) for t in (setting.preprocessing.normalise(examples.inputs), examples.labels))
    with torch.no_grad():
        logits = model.eval()(inputs).cpu()
    F.cross_entropy(model(inputs), labels).backward()
    gradients = [p.grad.cpu() for p in model.parameters_trained()]
    on_device = Examples(inputs, labels)
    options = {"learning_rate": 1e-4, "seed": 0, "autocast": Runtime(device).autocast()}
    recipe = replace(setting.recipe(2), batch_size=8)
    *_, report = train(model, model.parameters_trained(), [on_device], on_device, recipe, **options)
    return logits, gradients, report.loss


def difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest difference, as a share of its tensor's largest value; those near zero are read against the others."""
    largest = max(float(t.abs().max()) for t in theirs)
    return max(
        float((a - b).abs().max()) / max(float(b.abs().max()), 1e-3 * largest)
        for a, b in zip(ours, theirs, strict=True)
    )


def check(setting: Setting) -> bool:
    """Compare every known method with itself on the CPU; whether all agree."""
    torch.backends.cudnn.allow_tf32 = False  # torch's default for convolutions, and no error
    torch.backends.cuda.matmul.allow_tf32 = False
    print(f"check: {setting.model} at {setting.size} px, fp32; {setting.device} with fused attention against the CPU")
    print("differences as shares of a tensor's largest value")
    print(f"{'method':<20}{'logits':>10}{'gradients':>11}{'loss after':>12}")
    agree = True
    # Fused there in any case, so that two things are compared on the CPU too.
    there, here = setting.backbone(setting.device, fused=True), setting.backbone("cpu", fused=False)
    for preset in PRESETS:
        design = Design.preset(preset.name).resolve(len(here.blocks))
        logits, gradients, loss = one_step(setting, there, design, setting.device)
        wanted, expected, right = one_step(setting, here, design, "cpu")
        found = (difference([logits], [wanted]), difference(gradients, expected), abs(loss - right) / right)
        good = all(math.isfinite(f) and f <= TOLERANCE for f in found)
        agree = agree and good
        print(f"{preset.name:<20}{found[0]:>10.1e}{found[1]:>11.1e}{found[2]:>12.1e}  {'' if good else 'DIFFERS'}")
    print(f"check: {'all agree' if agree else 'NOT all agree'} within {TOLERANCE:g}\n")
    return agree


# Where the images are


class OnHost(Dataset[tuple[Tensor, int]]):
    """Images in host memory, augmented one by one as torchvision's users do."""

    def __init__(self, examples: Examples, preprocessing: Preprocessing) -> None:
        self._examples = examples
        size = preprocessing.image_size
        self._transform = v2.Compose(
            [
                v2.RandomCrop(size, padding=size // MARGIN),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(preprocessing.mean, preprocessing.std),
            ]
        )

    def __len__(self) -> int:
        return len(self._examples.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self._transform(self._examples.inputs[i]), int(self._examples.labels[i])


def epoch_from_loader(setting: Setting, model: TunedModel, loader: DataLoader, runtime: Runtime) -> float:
    """Seconds of an epoch as a plain training loop does it."""
    optimizer = torch.optim.AdamW(model.parameters_trained(), lr=LEARNING_RATE, fused=True)
    autocast = runtime.autocast()
    setting.wait()
    began = time.perf_counter()
    for images, labels in loader:
        images, labels = (t.to(setting.device, non_blocking=True) for t in (images, labels))
        with autocast():
            logits = model(images)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
    setting.wait()
    return time.perf_counter() - began


def epoch_resident(
    setting: Setting,
    model: Callable[[Tensor], Tensor],
    parameters: list[nn.Parameter],
    examples: Examples,
    runtime: Runtime,
    augment: Callable[[Tensor], Tensor] | None = None,
) -> tuple[float, Report]:
    """Seconds of an epoch of the package's training, and what it reports."""
    setting.wait()
    began = time.perf_counter()
    *_, report = train(
        lambda images: model(setting.preprocessing.normalise(images)),
        parameters,
        [examples],
        Examples(examples.inputs[:1], examples.labels[:1]),
        setting.recipe(),
        learning_rate=LEARNING_RATE,
        seed=0,
        autocast=runtime.autocast(),
        augment=augment,
    )
    setting.wait()
    return time.perf_counter() - began, report


def data(setting: Setting) -> None:
    design, examples = Design.preset("u-tuning-dual"), setting.examples()
    loader = DataLoader(
        OnHost(examples, setting.preprocessing),
        setting.batch,
        shuffle=True,
        num_workers=setting.loaders,
        pin_memory=setting.device.startswith("cuda"),
        persistent_workers=setting.loaders > 0,
    )
    resident = Examples(to_device(examples.inputs, setting.device), to_device(examples.labels, setting.device))
    augment = augmentation(setting.size, 0, mirrored=True)
    backbone = setting.backbone(setting.device)
    print(f"data: {setting.images} images at {setting.size} px, batches of {setting.batch}, {setting.model}, U-Tuning")
    for precision in ("fp32", "bf16"):
        runtime = Runtime(setting.device, precision)
        model = setting.tuned(backbone, design, setting.device)
        pairs = []
        for turn in range(setting.repeats + 1):
            slow = epoch_from_loader(setting, model, loader, runtime)
            fast, _ = epoch_resident(setting, model, model.parameters_trained(), resident, runtime, augment)
            if turn:  # the first starts the loader's processes
                pairs.append((slow, fast))
        ratios = [slow / fast for slow, fast in pairs]
        speeds = [setting.images / statistics.median(side) for side in zip(*pairs, strict=True)]
        print(
            f"  {precision}: resident is {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f}) a "
            f"DataLoader of {setting.loaders} processes: {speeds[1]:.0f} against {speeds[0]:.0f} images a second"
        )
    print()


# Short memory


@contextmanager
def limited(setting: Setting, share: float, base: int, needed: int) -> Iterator[Callable[[TunedModel], Callable]]:
    """Leave `share` of what training needs; on the CPU, where that cannot be done, of a batch's rows instead."""
    if not setting.device.startswith("cuda"):

        def wrap(model: TunedModel) -> Callable[[Tensor], Tensor]:
            def forward(images: Tensor) -> Tensor:
                if len(images) > share * setting.batch:
                    raise torch.OutOfMemoryError("a benchmark's own limit")
                return model(images)

            return forward

        yield wrap
        return
    device = torch.device(setting.device)
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min((base + share * needed) / total, 1.0), device)
    try:
        yield lambda model: model
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        torch.cuda.empty_cache()


def accumulation(setting: Setting) -> None:
    design, backbone = Design.preset("u-tuning-dual"), setting.backbone(setting.device)
    runtime, examples = Runtime(setting.device), setting.examples()
    examples = Examples(to_device(examples.inputs, setting.device), to_device(examples.labels, setting.device))
    cuda = setting.device.startswith("cuda")

    def epoch(wrap: Callable[[TunedModel], Callable]) -> tuple[float, Report]:
        model = setting.tuned(backbone, design, setting.device)
        return epoch_resident(setting, wrap(model), model.parameters_trained(), examples, runtime)

    epoch(lambda model: model)  # a warm-up
    base = needed = 0
    if cuda:
        torch.cuda.empty_cache()
        base = torch.cuda.memory_reserved(setting.device)
        torch.cuda.reset_peak_memory_stats(setting.device)
        epoch(lambda model: model)
        needed = torch.cuda.max_memory_reserved(setting.device) - base
    how = f"of {needed / 1e9:.2f} GB that training needs" if cuda else "of a batch's rows (the CPU has no limit)"
    print(f"accumulation: batches of {setting.batch} images at {setting.size} px, {setting.model}, fp32; shares {how}")
    for share in SHARES:
        ratios, gaps, parts = [], [], 0
        for _ in range(setting.repeats):
            seconds, whole = epoch(lambda model: model)
            with limited(setting, share, base, needed) as wrap:
                try:
                    short, report = epoch(wrap)
                except torch.OutOfMemoryError as error:
                    print(f"  {share:.0%}: out of memory with one image at a time: {str(error).splitlines()[0]}")
                    break
            ratios.append(short / seconds)
            gaps.append(abs(report.loss - whole.loss))
            parts = report.accumulation
        if ratios:
            warning = "" if parts > 1 else "  (the limit was not felt; give a larger --batch)"
            print(
                f"  {share:.0%}: {parts} parts, {statistics.median(ratios):.2f}x the time, "
                f"mean loss {max(gaps):.1e} apart{warning}"
            )
    print()


# Arithmetic and workers


def precision(setting: Setting) -> None:
    """The package's own trials, so with tokens kept where the task's design allows it."""
    task, sides = setting.task, {}
    print(f"precision: U-Tuning on task {task.name}, {task.recipe.epochs} epochs, {setting.seeds} seeds")
    for name in ("fp32", "bf16"):
        evaluator = Evaluator(task, Runtime(setting.device, name, setting.data_dir))
        design = Design.preset("u-tuning-dual").resolve(len(evaluator._model.blocks))
        results = []
        for seed in range(setting.seeds + 1):
            *_, result = evaluator.evaluate(design, max(seed - 1, 0))
            if seed:  # the first is a warm-up
                results.append(result)
        count = len(evaluator.data.proxy.labels) * task.recipe.epochs
        sides[name] = (results, count / statistics.median(r.seconds for r in results))
    for name, (results, speed) in sides.items():
        accuracies = ", ".join(f"{100 * r.accuracy:.2f}%" for r in results)
        print(f"  {name}: {speed / sides['fp32'][1]:.2f}x, {speed:.0f} images a second; reached {accuracies}")
    change = statistics.mean(r.accuracy for r in sides["bf16"][0]) - statistics.mean(
        r.accuracy for r in sides["fp32"][0]
    )
    print(f"  bf16 is {100 * change:+.2f} points of fp32's mean accuracy\n")


def trials_a_second(setting: Setting, workers: int, trials: int) -> float:
    """Of `trials` trials on a pool of warm workers."""
    depth = len(Evaluator(setting.task, Runtime(data_dir=setting.data_dir))._model.blocks)
    job = Job(Design.preset("u-tuning-dual").resolve(depth), 0)
    pool = ProcessPool(setting.task, runtimes(Runtime(setting.device, data_dir=setting.data_dir), workers))
    try:
        finish(pool, [job] * workers)
        began = time.perf_counter()
        finish(pool, [job] * trials)
        return trials / (time.perf_counter() - began)
    finally:
        pool.close()


def finish(pool: ProcessPool, jobs: list[Job]) -> None:
    """Run jobs, each on the first worker that is idle."""
    waiting, idle, left = list(jobs), list(range(pool.size)), len(jobs)
    while left:
        while waiting and idle:
            pool.start(idle.pop(), waiting.pop())
        events = pool.wait(PATIENCE)
        if not events:
            sys.exit(f"workers: no worker said anything in {PATIENCE:.0f} seconds")
        for worker, event in events:
            if isinstance(event, Rung):
                pool.answer(worker, True)
            elif isinstance(event, (Failed, Lost)):
                sys.exit(f"workers: a trial ended without a result: {event.reason}")
            elif isinstance(event, Done):
                assert isinstance(event.result, Result)
                idle.append(worker)
                left -= 1


def workers(setting: Setting) -> None:
    if setting.workers < 2:
        why = f"{setting.workers} worker" if setting.device == "cpu" else "fewer than two GPUs"
        print(f"workers: skipped, there is nothing to compare with {why}; --workers K asks for K\n")
        return
    trials = 4 * setting.workers
    one, many = (trials_a_second(setting, k, trials) for k in (1, setting.workers))
    print(f"workers: U-Tuning on task {setting.task.name}, {trials} trials")
    print(f"  {setting.workers} workers: {many / one:.2f}x one, {3600 * many:.0f} trials an hour\n")


QUESTIONS: dict[str, Callable[[Setting], bool | None]] = {
    "check": check,
    "data": data,
    "accumulation": accumulation,
    "precision": precision,
    "workers": workers,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", nargs="?", default="all", choices=[*QUESTIONS, "all"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", help="a timm vision transformer (default: ViT-B/16; ViT-Ti/16 on the CPU)")
    parser.add_argument("--image-size", type=int, help="pixels (default: 224; 32 on the CPU)")
    parser.add_argument("--batch", type=int, help="images a step (default: 128; 8 on the CPU)")
    parser.add_argument("--images", type=int, help="in an epoch (default: 4096; 24 on the CPU)")
    parser.add_argument("--repeats", type=int, help="turns that are counted (default: 3; 1 on the CPU)")
    parser.add_argument("--loaders", type=int, help="the DataLoader's processes (default: one a core; 0 on the CPU)")
    parser.add_argument("--task", default="digits", help="of `precision` and `workers`")
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int, help="of the task (default: its own; 2 on the CPU)")
    parser.add_argument("--seeds", type=int, help="of `precision` (default: 3; 1 on the CPU)")
    parser.add_argument("--workers", type=int, help="of `workers` (default: one a GPU; 1 on the CPU)")
    given = parser.parse_args()
    device = resolve_device(given.device)
    cpu = device == "cpu"
    torch.set_num_threads(1 if cpu else os.cpu_count() or 1)

    def choose(name: str, usual: int, tiny: int) -> int:
        value = getattr(given, name)
        return value if value is not None else tiny if cpu else usual

    task = Task.load(given.task)
    epochs = choose("epochs", task.recipe.epochs, 2)
    warmup = min(task.recipe.warmup_epochs, epochs / 2)
    setting = Setting(
        device=device,
        model=given.model or ("vit_tiny_patch16_224" if cpu else "vit_base_patch16_224"),
        size=choose("image_size", 224, 32),
        batch=choose("batch", 128, 8),
        images=choose("images", 4096, 24),
        repeats=choose("repeats", 3, 1),
        loaders=choose("loaders", os.cpu_count() or 1, 0),
        task=replace(task, recipe=replace(task.recipe, epochs=epochs, rungs=(), warmup_epochs=warmup)),
        data_dir=given.data_dir,
        seeds=choose("seeds", 3, 1),
        workers=choose("workers", default_workers(device) if not cpu else 1, 1),
    )
    what = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{device}, tiny sizes"
    print(f"torch {torch.__version__} on {what}\n")
    answers = [ask(setting) for name, ask in QUESTIONS.items() if given.question in (name, "all")]
    return 1 if False in answers else 0


if __name__ == "__main__":
    sys.exit(main())
