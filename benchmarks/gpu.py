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
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from utuning_search import PRESETS, Design, Task
from utuning_search.backbones.loading import freeze
from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.training import pool as workers_of
from utuning_search.training import proxy, runtime
from utuning_search.training.augmentation import MARGIN, augmentation
from utuning_search.training.loop import Epoch, Examples, train
from utuning_search.training.recipe import Recipe
from utuning_search.training.transfer import to_device
from utuning_search.training.workers import Lost

TOLERANCE = 1e-3
CLASSES = 100
LEARNING_RATE = 1e-3
SHARES = (0.7, 0.4, 0.2)  # of the memory that training a batch needs, left to it
PATIENCE = 600.0  # seconds without any event of a worker
CORES = os.cpu_count() or 1
SIZES: dict[str, tuple[Any, Any, str]] = {  # elsewhere, on the CPU, what it is
    "model": ("vit_base_patch16_224", "vit_tiny_patch16_224", "a timm vision transformer"),
    "image_size": (224, 32, "pixels"),
    "batch": (128, 8, "images a step"),
    "images": (4096, 24, "in an epoch"),
    "repeats": (3, 1, "turns that are counted"),
    "loaders": (CORES, 0, "processes of the DataLoader"),
    "epochs": (None, 2, "of --task"),
    "seeds": (3, 1, "of `precision`"),
    "workers": (torch.cuda.device_count(), 1, "of `workers`"),
}


@dataclass(frozen=True)
class Setting:
    """A backbone with random weights, random images, and where they are."""

    device: str
    task: Task
    data_dir: str | None
    model: str
    image_size: int
    batch: int
    images: int
    repeats: int
    loaders: int
    seeds: int
    workers: int

    @property
    def about(self) -> str:
        return f"{self.model} at {self.image_size} px"

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(self.image_size, 3, (0.5,) * 3, (0.5,) * 3, "bicubic")

    def backbone(self, device: str, *, fused: bool | None = None) -> nn.Module:
        """With fused attention, or as the package has it: not on CPUs."""
        torch.manual_seed(0)
        model = freeze(timm.create_model(self.model, num_classes=0, img_size=self.image_size))
        if not (device != "cpu" if fused is None else fused):
            adapter_of(model).unfuse_attention()
        return model.to(device)

    def tuned(self, backbone: nn.Module, design: Design, device: str) -> TunedModel:
        torch.manual_seed(1)
        model = TunedModel(backbone, design, CLASSES).train()
        model.backbone.eval()
        return model.to(device)

    def examples(self, device: str = "cpu", count: int | None = None) -> Examples:
        draw = torch.Generator().manual_seed(2)
        shape = (count or self.images, 3, self.image_size, self.image_size)
        images = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)
        labels = torch.randint(CLASSES, (len(images),), generator=draw)
        return Examples(to_device(images, device), to_device(labels, device))

    def wait(self) -> None:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)


# Is it the same?


def one_step(setting: Setting, backbone: nn.Module, design: Design, device: str) -> tuple[Tensor, list[Tensor], float]:
    """Logits, the gradients of a step, and the loss after a step of the package's own training, all on the CPU."""
    model = setting.tuned(backbone, design, device)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():  # as trained weights would be: what starts at zero has no effect, and hides errors
        for p in model.parameters_trained():
            p.add_(0.02 * torch.randn(p.shape, generator=draw).to(device))
    images = setting.examples(device, 8)
    on_device = Examples(setting.preprocessing.normalise(images.inputs), images.labels)
    with torch.no_grad():
        logits = model.eval()(on_device.inputs).cpu()
    F.cross_entropy(model(on_device.inputs), on_device.labels).backward()
    gradients = [p.grad.cpu() for p in model.parameters_trained()]
    options = {"learning_rate": 1e-4, "seed": 0, "autocast": runtime.Runtime(device).autocast()}
    recipe = Recipe(epochs=2, batch_size=8, warmup_epochs=0.0)
    *_, last = train(model, model.parameters_trained(), [on_device], recipe, **options)
    return logits, gradients, last.loss


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
    print(f"check: {setting.about}, fp32; {setting.device} with fused attention against the CPU")
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
        moved = (v2.RandomCrop(size, padding=size // MARGIN), v2.RandomHorizontalFlip())
        normal = (v2.ToDtype(torch.float32, scale=True), v2.Normalize(preprocessing.mean, preprocessing.std))
        self._transform = v2.Compose([*moved, *normal])

    def __len__(self) -> int:
        return len(self._examples.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self._transform(self._examples.inputs[i]), int(self._examples.labels[i])


def epoch_from_loader(setting: Setting, model: TunedModel, loader: DataLoader, precision: str) -> float:
    """Seconds of an epoch as a plain training loop does it."""
    optimizer = torch.optim.AdamW(model.parameters_trained(), lr=LEARNING_RATE, fused=True)
    autocast = runtime.Runtime(setting.device, precision).autocast()
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
    setting: Setting, model: TunedModel, examples: Examples, precision: str, most: float = math.inf, **options: Any
) -> tuple[float, Epoch]:
    """Seconds of an epoch of the package's training, and what it tells; memory is short for `most` images and more."""

    def forward(images: Tensor) -> Tensor:
        if len(images) >= most:
            raise torch.OutOfMemoryError("the benchmark's own limit")
        return model(setting.preprocessing.normalise(images))

    options |= {"seed": 0, "autocast": runtime.Runtime(setting.device, precision).autocast()}
    recipe = Recipe(epochs=1, batch_size=setting.batch, warmup_epochs=0.0)
    setting.wait()
    began = time.perf_counter()
    *_, last = train(forward, model.parameters_trained(), [examples], recipe, learning_rate=LEARNING_RATE, **options)
    setting.wait()
    return time.perf_counter() - began, last


def data(setting: Setting) -> None:
    examples, resident = setting.examples(), setting.examples(setting.device)
    cuda, several = setting.device.startswith("cuda"), setting.loaders > 0
    options = {"num_workers": setting.loaders, "pin_memory": cuda, "persistent_workers": several}
    loader = DataLoader(OnHost(examples, setting.preprocessing), setting.batch, shuffle=True, **options)
    augment, backbone = augmentation(setting.image_size, 0, mirrored=True), setting.backbone(setting.device)
    print(f"data: {setting.about}, {setting.images} images in batches of {setting.batch}, U-Tuning")
    for precision in ("fp32", "bf16"):
        model, pairs = setting.tuned(backbone, Design.preset("u-tuning-dual"), setting.device), []
        for turn in range(setting.repeats + 1):
            slow = epoch_from_loader(setting, model, loader, precision)
            fast, _ = epoch_resident(setting, model, resident, precision, augment=augment)
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
def at_most(memory: float, device: str) -> Iterator[None]:
    """Leave so many bytes to this process on a GPU."""
    if not device.startswith("cuda"):
        yield
        return
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(memory / total, 1.0), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
        torch.cuda.empty_cache()


def accumulation(setting: Setting) -> None:
    backbone, examples = setting.backbone(setting.device), setting.examples(setting.device)
    cuda, base, needed = setting.device.startswith("cuda"), 0, 0

    def epoch(most: float = math.inf) -> tuple[float, Epoch]:
        model = setting.tuned(backbone, Design.preset("u-tuning-dual"), setting.device)
        return epoch_resident(setting, model, examples, "fp32", most)

    epoch()  # a warm-up
    if cuda:
        torch.cuda.empty_cache()
        base = torch.cuda.memory_reserved(setting.device)
        torch.cuda.reset_peak_memory_stats(setting.device)
        epoch()
        needed = torch.cuda.max_memory_reserved(setting.device) - base
    how = f"of {needed / 1e9:.2f} GB that training needs" if cuda else "of a batch's rows (the CPU has no limit)"
    print(f"accumulation: {setting.about}, batches of {setting.batch}, fp32; shares {how}")
    for share in SHARES:
        ratios, gaps, parts = [], [], 0
        for _ in range(setting.repeats):
            seconds, whole = epoch()
            with at_most(base + share * needed, setting.device):
                try:
                    short, parted = epoch(math.inf if cuda else share * setting.batch)
                except torch.OutOfMemoryError as error:
                    print(f"  {share:.0%}: out of memory with one image at a time: {str(error).splitlines()[0]}")
                    break
            ratios.append(short / seconds)
            gaps.append(abs(parted.loss - whole.loss))
            parts = parted.accumulation
        if ratios:
            felt = "" if parts > 1 else "  (the limit was not felt; give a larger --batch)"
            ratio, gap = statistics.median(ratios), max(gaps)
            print(f"  {share:.0%}: {parts} parts, {ratio:.2f}x the time, mean loss {gap:.1e} apart{felt}")
    print()


# Arithmetic and workers


def precision(setting: Setting) -> None:
    """The package's own trials, so with tokens kept where the design allows it."""
    task, design = setting.task, Design.preset("u-tuning-dual")
    names = ("fp32", "bf16")
    trainers = [proxy.ProxyTrainer(task, runtime.Runtime(setting.device, name, setting.data_dir)) for name in names]
    pairs = []
    for seed in range(setting.seeds + 1):
        pair = [list(trainer.evaluate(design, seed))[-1] for trainer in trainers]
        if seed:  # the first is a warm-up
            pairs.append(pair)
    print(f"precision: U-Tuning on task {task.name}, {task.recipe.epochs} epochs, {setting.seeds} seeds")
    count, sides = len(trainers[0].data.proxy.labels) * task.recipe.epochs, list(zip(*pairs, strict=True))
    speeds = [count / statistics.median(r.seconds for r in side) for side in sides]
    for name, side, speed in zip(names, sides, speeds, strict=True):
        reached = ", ".join(f"{100 * r.accuracy:.2f}%" for r in side)
        print(f"  {name}: {speed / speeds[0]:.2f}x, {speed:.0f} images a second; reached {reached}")
    change = statistics.mean(half.accuracy - full.accuracy for full, half in pairs)
    print(f"  bf16 against fp32: {100 * change:+.2f} points on average\n")


def trials_a_second(setting: Setting, workers: int, trials: int) -> float:
    """Of `trials` trials on a pool of warm workers."""
    job = workers_of.Job(Design.preset("u-tuning-dual"), 0)
    pool = workers_of.ProcessPool(
        setting.task, runtime.runtimes(runtime.Runtime(setting.device, data_dir=setting.data_dir), workers)
    )
    try:
        finish(pool, [job] * workers)
        began = time.perf_counter()
        finish(pool, [job] * trials)
        return trials / (time.perf_counter() - began)
    finally:
        pool.close()


def finish(pool: workers_of.ProcessPool, jobs: list[workers_of.Job]) -> None:
    """Run jobs, each on the first worker that is idle."""
    waiting, idle, left = list(jobs), list(range(pool.size)), len(jobs)
    while left:
        while waiting and idle:
            pool.start(idle.pop(), waiting.pop())
        events = pool.wait(PATIENCE)
        if not events:
            sys.exit(f"workers: no worker said anything in {PATIENCE:.0f} seconds")
        for worker, event in events:
            if isinstance(event, workers_of.Rung):
                pool.answer(worker, True)
            elif isinstance(event, (workers_of.Failed, Lost)):
                sys.exit(f"workers: a trial ended without a result: {event.reason}")
            else:
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


ANSWERS: tuple[Callable[[Setting], bool | None], ...] = (check, data, accumulation, precision, workers)
QUESTIONS = {answer.__name__: answer for answer in ANSWERS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", nargs="?", default="all", choices=[*QUESTIONS, "all"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--task", default="digits", help="of `precision` and `workers`")
    parser.add_argument("--data-dir")
    for name, (usual, tiny, text) in SIZES.items():
        kind, said = type(tiny), f"{text} (default: {'its own' if usual is None else usual}; {tiny} on the CPU)"
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=said)
    given = parser.parse_args()
    device, task = runtime.resolve_device(given.device), Task.load(given.task)
    cpu = device == "cpu"
    torch.set_num_threads(1 if cpu else CORES)
    sizes = {n: tiny if cpu else usual for n, (usual, tiny, _) in SIZES.items()}
    sizes |= {n: getattr(given, n) for n in SIZES if getattr(given, n) is not None}
    epochs = sizes.pop("epochs") or task.recipe.epochs
    recipe = replace(task.recipe, epochs=epochs, rungs=(), warmup_epochs=min(task.recipe.warmup_epochs, epochs / 2))
    setting = Setting(device, replace(task, recipe=recipe), given.data_dir, **sizes)
    what = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{device}, tiny sizes"
    print(f"torch {torch.__version__} on {what}\n")
    answers = [ask(setting) for name, ask in QUESTIONS.items() if given.question in (name, "all")]
    return 1 if False in answers else 0


if __name__ == "__main__":
    sys.exit(main())
