"""What an image costs on this machine, measured before a search is sized to the time there is."""

import torch
import torch.nn.functional as F
from torch import nn

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.designs.design import Design
from utuning_search.training.measuring import fastest, threads
from utuning_search.training.runtime import Runtime
from utuning_search.training.trainer import settle

BATCH, REPEATS = 16, 3


def image_seconds(backbone: nn.Module, preprocessing: Preprocessing, runtime: Runtime) -> tuple[float, float]:
    """Seconds an image takes one worker to train on, with an adapter in every block, and to predict.

    The best of a few batches of noise: what else the machine does at the time can only add to it.
    """
    settle(backbone, runtime.device)
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

    with threads(runtime.threads):
        # One after the other: each alone is what a worker does for a while.
        training, inference = (fastest([work], runtime.device, turns=REPEATS)[0] / BATCH for work in (step, predict))
    return training, inference
