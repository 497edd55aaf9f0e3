"""Training steps a second in bf16 against fp32, with fused and with plain attention.

    python benchmarks/precision.py [--device cpu|cuda] [--model vit_tiny_patch16_224] [--image-size 96] [--batch 32]

Weights are random: speed does not depend on them. Ratios are against fp32 with plain attention.
"""

import argparse
import statistics
import time

import timm
import torch
import torch.nn.functional as F

from utuning_search import Design
from utuning_search.backbones.loading import freeze
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.training.runtime import Runtime, resolve_device


def step_seconds(model: TunedModel, images: torch.Tensor, labels: torch.Tensor, runtime: Runtime, steps: int) -> float:
    """Median seconds of one training step."""
    optimizer = torch.optim.AdamW(model.parameters_trained(), lr=1e-3, fused=True)
    autocast, times = runtime.autocast(), []
    for _ in range(steps + 1):
        began = time.perf_counter()
        with autocast():
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if runtime.device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", default="vit_tiny_patch16_224")
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = resolve_device(arguments.device)
    images = torch.randn(arguments.batch, 3, arguments.image_size, arguments.image_size, device=device)
    labels = torch.randint(100, (arguments.batch,), device=device)
    seconds: dict[tuple[str, str], float] = {}
    for attention in ("plain", "fused"):
        backbone = freeze(timm.create_model(arguments.model, num_classes=0, img_size=arguments.image_size))
        if attention == "plain":
            adapter_of(backbone).unfuse_attention()
        model = TunedModel(backbone, Design.preset("u-tuning-dual"), 100).to(device)
        for precision in ("fp32", "bf16"):
            seconds[precision, attention] = step_seconds(
                model, images, labels, Runtime(device, precision), arguments.steps
            )
    base = seconds["fp32", "plain"]
    print(f"{arguments.model} at {arguments.image_size} px, batch {arguments.batch}, on {device}, U-Tuning dual")
    for (precision, attention), value in seconds.items():
        print(f"{precision} {attention}: {base / value:.2f}x ({arguments.batch / value:.0f} images a second)")


if __name__ == "__main__":
    main()
