"""Pretrains the embedded backbone on printed letters, and measures what it transfers to digits.

    python -m utuning_search.backbones.embedded.pretrain                # about 11 minutes on one CPU core
    python -m utuning_search.backbones.embedded.pretrain --check FILE   # half a minute: only measures FILE

The weights are written in fp16 without the head of 52 letters. Everything reported is measured on
the rounded weights, as written. Digits are never seen in training: they only measure the result.
"""

import argparse
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from utuning_search.backbones.embedded.architecture import WEIGHTS, VisionTransformer, glyph_vit
from utuning_search.backbones.embedded.glyphs import LETTERS, as_bytes, letters

WHAT = "timm VisionTransformer (utuning_search.backbones.embedded.architecture), pretrained on printed letters"
HELD_OUT = 5_000  # letters that measure a model, of another seed than its training letters
PROBE_LETTERS = 10_000  # letters that fit the linear probe of letters, of a third seed
PROBE_DIGITS = 800  # digits that fit the linear probe of digits; the other 997 are held out


@dataclass(frozen=True)
class Recipe:
    """How the letters are learned. `rate` is the peak learning rate, `noise` is in model units.

    The noise is the only augmentation: letters are drawn in random poses already.
    """

    letters: int = 60_000
    epochs: int = 12
    seed: int = 0
    batch: int = 128
    rate: float = 2e-3
    decay: float = 0.05
    smoothing: float = 0.1
    noise: float = 0.1
    warmup: float = 0.05  # part of all steps

    def rate_at(self, step: int, steps: int) -> float:
        """The factor of the peak rate before step 0 <= step <= steps: a ramp, then a cosine."""
        ramp = max(1, round(self.warmup * steps))
        if step < ramp:
            return (step + 1) / ramp
        return 0.5 * (1 + math.cos(math.pi * (step - ramp) / max(1, steps - ramp)))


def as_input(images: NDArray[np.uint8]) -> Tensor:
    """Bytes (number, 8, 8) of 0..255 as the model's input (number, 1, 8, 8) of -1..1."""
    return torch.from_numpy(images).unsqueeze(1).float().div(255).sub(0.5).div(0.5)


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """scikit-learn's handwritten digits: images (1797, 8, 8) of 0..255, labels (1797,)."""
    bunch = load_digits()
    return as_bytes(bunch.images), bunch.target.astype(np.int64)


def groups(model: VisionTransformer) -> list[dict[str, Any]]:
    """AdamW's parameter groups: only matrices decay, so no bias, norm, class token or position."""
    free = model.no_weight_decay()
    named = list(model.named_parameters())
    return [
        {"params": [p for name, p in named if p.ndim > 1 and name not in free]},
        {"params": [p for name, p in named if p.ndim <= 1 or name in free], "weight_decay": 0.0},
    ]


def pretrain(recipe: Recipe) -> VisionTransformer:
    """A model with its head of 52 letters, trained in fp32; leaves torch's generator as it was."""
    images, labels = letters(recipe.letters, recipe.seed)
    inputs, targets = as_input(images), torch.from_numpy(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = glyph_vit(len(LETTERS))
        loss = nn.CrossEntropyLoss(label_smoothing=recipe.smoothing)
        optimizer = torch.optim.AdamW(groups(model), lr=recipe.rate, weight_decay=recipe.decay, fused=True)
        steps = recipe.epochs * math.ceil(len(inputs) / recipe.batch)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: recipe.rate_at(step, steps))
        model.train()
        for _ in range(recipe.epochs):
            for chosen in torch.split(torch.randperm(len(inputs)), recipe.batch):
                batch = inputs[chosen]
                batch = batch + recipe.noise * torch.randn_like(batch)
                loss(model(batch), targets[chosen]).backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
    return model.eval()


def rounded_backbone(model: VisionTransformer) -> dict[str, Tensor]:
    """The weights without the head, in fp16; the model itself is rounded to them, its head not."""
    state = model.state_dict()
    weights = {name: value.half().contiguous() for name, value in state.items() if not name.startswith("head.")}
    model.load_state_dict(state | weights)
    return weights


@torch.inference_mode()
def outputs(model: VisionTransformer, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the model gives for images (number, 8, 8): logits, or without a head (number, 64)."""
    model.eval()
    parts = [model(batch).numpy() for batch in torch.split(as_input(images), 500)]
    joined: NDArray[np.float32] = np.concatenate(parts)
    return joined


def letter_accuracy(model: VisionTransformer, seed: int) -> float:
    """The part of HELD_OUT fresh letters that a model with its head names; seed is its own."""
    images, labels = letters(HELD_OUT, seed + 1)
    return float((outputs(model, images).argmax(axis=1) == labels).mean())


def linear_probe(features: NDArray[np.float32], labels: NDArray[np.int64], train: int, seed: int) -> float:
    """Accuracy of a logistic regression fitted on `train` stratified rows, on the other rows.

    The features are (number, width); each is scaled to unit variance on the training rows.
    """
    fit_x, test_x, fit_y, test_y = train_test_split(
        features.astype(np.float64), labels, train_size=train, stratify=labels, random_state=seed
    )
    scaler = StandardScaler().fit(fit_x)
    head = LogisticRegression(max_iter=1_000, tol=1e-3).fit(scaler.transform(fit_x), fit_y)
    return float(head.score(scaler.transform(test_x), test_y))


def measure(weights: Mapping[str, Tensor], seed: int) -> dict[str, float]:
    """The linear probes of letters and of digits for weights trained with this seed."""
    model = glyph_vit()
    model.load_state_dict(weights)
    images, labels = letters(PROBE_LETTERS + HELD_OUT, seed + 2)
    pictures, names = digits()
    return {
        "letters_linear_probe": linear_probe(outputs(model, images), labels, PROBE_LETTERS, 0),
        "digits_linear_probe": linear_probe(outputs(model, pictures), names, PROBE_DIGITS, 0),
    }


def read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights of a file that this script wrote, and what it says about them."""
    with safe_open(file, framework="pt") as opened:
        said = opened.metadata()
        if not said or "seed" not in said:
            raise ValueError(f"{file}: no seed in its metadata; was it written by this script?")
        return {name: opened.get_tensor(name) for name in opened.keys()}, said  # noqa: SIM118


def main() -> None:
    """Pretrains, writes and measures; with --check, only measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="default: %(default)s")
    parser.add_argument("--letters", type=int, default=Recipe.letters)
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--check", type=Path, metavar="FILE", help="only measure this file")
    args = parser.parse_args()
    torch.set_num_threads(1)  # layers this small lose by a second thread

    if args.check is None:
        recipe = Recipe(letters=args.letters, epochs=args.epochs, seed=args.seed)
        print(f"pretraining: {recipe}", flush=True)
        started = time.perf_counter()
        model = pretrain(recipe)
        print(f"trained in {time.perf_counter() - started:.0f} s", flush=True)
        weights = rounded_backbone(model)
        found = {"letter_accuracy": letter_accuracy(model, recipe.seed)}
        found |= measure(weights, recipe.seed)
        metadata = {"what": WHAT, "seed": str(recipe.seed), "letters": str(recipe.letters)}
        metadata |= {"epochs": str(recipe.epochs)}
        metadata |= {name: f"{value:.4f}" for name, value in found.items()}
        save_file(weights, args.out, metadata=metadata)

    file = args.check or args.out
    weights, said = read(file)
    print(f"{file}: {file.stat().st_size:,} bytes")
    for name, text in sorted(said.items()):
        print(f"  recorded {name}: {text}")
    for name, value in measure(weights, int(said["seed"])).items():
        print(f"  measured {name}: {value:.4f}")


if __name__ == "__main__":
    main()
