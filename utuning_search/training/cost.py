"""What an image costs on this machine, measured before a search is sized to the time there is."""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.designs.design import Design
from utuning_search.training.runtime import Runtime

BATCH, REPEATS = 16, 3


def image_seconds(backbone: nn.Module, preprocessing: Preprocessing, runtime: Runtime) -> tuple[float, float]:
    """Seconds an image takes one worker to train on, with an adapter in every block, and to predict.

    The best of a few batches of noise: what else the machine does at the time can only add to it.
    """
    if runtime.device == "cpu":
        adapter_of(backbone).unfuse_attention()
    backbone.to(runtime.device)
    with torch.random.fork_rng(devices=[]):
        model = TunedModel(backbone, Design.preset("adapter"), 2).to(runtime.device)
    size = preprocessing.image_size
    images = torch.zeros(BATCH, preprocessing.channels, size, size, device=runtime.device)
    labels = torch.zeros(BATCH, dtype=torch.int64, device=runtime.device)

    def step() -> None:
        with runtime.autocast()():
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()
        for parameter in model.parameters_trained():
            parameter.grad = None

    @torch.no_grad()
    def predict() -> None:
        with runtime.autocast()():
            model(images)

    before = torch.get_num_threads()
    torch.set_num_threads(runtime.threads)
    try:
        return _best(step, runtime.device) / BATCH, _best(predict, runtime.device) / BATCH
    finally:
        torch.set_num_threads(before)


def _best(work: Callable[[], None], device: str) -> float:
    """Seconds of the fastest of some runs after a first one."""
    times = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])
