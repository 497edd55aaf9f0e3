"""What does it cost to run a frozen model block by block, beside timm's own forward pass?

    python benchmarks/block_walk.py [--json FILE] [--device cpu|cuda] [--pairs 30] [--batch 8] [--image-size 96]

One training step of the head alone: forward pass, loss, backward pass and optimizer, on the same images with the same
weights. Both sides take turns, who begins too; a pair gives one ratio, and the median of the ratios is told. Memory is
the most that tensors of one step take at a time, in MiB, beside what was there; on a CPU as torch's profiler sees it.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from utuning_search import Design
from utuning_search.backbones.loading import freeze
from utuning_search.backbones.supported import check_supported
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.training.measuring import wait_for
from utuning_search.training.runtime import resolve_device

NAMES = ("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto")
CLASSES = 100
WARM_UP = 3  # pairs


def step_of(model: Callable[[Tensor], Tensor], head: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """One training step of `head`, whose logits `model` gives."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def seconds(step: Callable[[], None], device: str) -> float:
    wait_for(device)
    began = time.perf_counter()
    step()
    wait_for(device)
    return time.perf_counter() - began


def peak(step: Callable[[], None], device: str) -> float:
    """MiB that tensors of a step take at most, beside those that were there."""
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    taken = most = 0
    for _, size in changes:
        taken += size
        most = max(most, taken)
    return most / 2**20


def compare(name: str, arguments: argparse.Namespace, device: str) -> dict[str, Any]:
    """Ratios of one backbone."""
    torch.default_generator.manual_seed(0)
    size = check_supported(name, arguments.image_size)
    backbone = freeze(timm.create_model(name, pretrained=False, num_classes=0, **size)).to(device)
    images = torch.randn(arguments.batch, 3, arguments.image_size, arguments.image_size, device=device)
    labels = torch.randint(CLASSES, (arguments.batch,), device=device)
    ours = TunedModel(backbone, Design(), CLASSES).to(device)
    head = nn.Linear(ours.head.in_features, CLASSES).to(device)
    with torch.no_grad():
        assert torch.allclose(ours.features(images), backbone(images), atol=1e-6)
    walked = step_of(ours, ours.head, images, labels)
    plain = step_of(lambda x: head(backbone(x)), head, images, labels)
    pairs = []
    for i in range(WARM_UP + arguments.pairs):
        first, second = (walked, plain) if i % 2 else (plain, walked)
        taken = {id(step): seconds(step, device) for step in (first, second)}
        pairs.append((taken[id(walked)], taken[id(plain)]))
    pairs = pairs[WARM_UP:]
    ratios = sorted(a / b for a, b in pairs)
    return {
        "backbone": name,
        "ratio": statistics.median(ratios),
        "quartiles": [ratios[len(ratios) // 4], ratios[-(len(ratios) // 4) - 1]],
        "walked_ms": 1e3 * statistics.median(a for a, _ in pairs),
        "plain_ms": 1e3 * statistics.median(b for _, b in pairs),
        "walked_mib": peak(walked, device),
        "plain_mib": peak(plain, device),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=96)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = resolve_device(arguments.device)
    found = [compare(name, arguments, device) for name in NAMES]
    for entry in found:
        low, high = entry["quartiles"]
        times = f"{entry['walked_ms']:.1f} ms block by block, {entry['plain_ms']:.1f} ms as timm runs it"
        print(f"{entry['backbone']:32} ratio {entry['ratio']:.3f} (half of all {low:.3f} to {high:.3f}); {times}")
        print(
            f"{'':32} memory {entry['walked_mib']:.1f} MiB block by block, {entry['plain_mib']:.1f} MiB as timm runs it"
        )
    if arguments.json:
        settings = {"device": device, "pairs": arguments.pairs, "batch": arguments.batch, "px": arguments.image_size}
        versions = {"torch": torch.__version__, "timm": timm.__version__}
        arguments.json.write_text(json.dumps({**settings, **versions, "backbones": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
