"""Models in folders and in a cache of the Hugging Face hub, laid out as huggingface_hub documents it; no network."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from huggingface_hub import constants
from torch import nn

from .helpers import randomise

REPOSITORY, NAME = "me/small", "hf-hub:me/small"
COMMITS = ("a" * 40, "b" * 40)
ARGS = {"img_size": 8, "patch_size": 2, "in_chans": 1, "embed_dim": 16, "depth": 2, "num_heads": 2}
ARCHITECTURE = "vit_tiny_patch16_224"
CONFIG: dict[str, Any] = {
    "architecture": ARCHITECTURE,
    "num_classes": 3,
    "model_args": ARGS,
    "pretrained_cfg": {
        "input_size": [1, 8, 8],
        "fixed_input_size": True,
        "interpolation": "bilinear",
        "crop_pct": 0.8,
        "mean": [0.4],
        "std": [0.3],
        "num_classes": 3,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
    },
}


def small_model(seed: int = 0) -> nn.Module:
    """What the configuration describes, with a head of three classes and random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = timm.create_model(ARCHITECTURE, num_classes=3, **ARGS)
    return randomise(model, seed=seed).eval()


def write_model(folder: Path, seed: int = 0, config: dict[str, Any] | None = None) -> Path:
    """A folder as timm saves a model."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config), encoding="utf-8")
    safetensors.torch.save_file(small_model(seed).state_dict(), folder / "model.safetensors")
    return folder


class Cache:
    """A cache of the hub that is all there is: huggingface_hub is offline.

    Args:
        place: A folder for it.
        monkeypatch: Of the test.
    """

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        # Where HF_HOME and HF_HUB_OFFLINE are kept once they have been read.
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(place))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def snapshot(self, commit: str, repository: str = REPOSITORY) -> Path:
        return self.place / f"models--{repository.replace('/', '--')}" / "snapshots" / commit

    def add(self, commit: str, *, seed: int = 0, branch: str = "main", config: dict[str, Any] | None = None) -> Path:
        """A commit of the repository, at which the branch is from now on."""
        folder = write_model(self.snapshot(commit), seed, config)
        self.point(commit, branch)
        return folder

    def point(self, commit: str, branch: str = "main", repository: str = REPOSITORY) -> None:
        ref = self.snapshot(commit, repository).parents[1] / "refs" / branch
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit, encoding="utf-8")
