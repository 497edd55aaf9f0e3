"""What images are scored by: a tuned model, and what the frozen backbone adds to it (Dong et al., TIP 2024).

`tuned` is the model by itself. USE (uncertainty score ensemble) adds to each of its scores how near an image lies to
the training images in the frozen backbone's features; nothing is trained. DSGF (domain-specific and general knowledge
fusion) puts the frozen features beside the tuned ones and trains a linear head on both (arXiv 2311.12076).

The abstracts say so much, but for two things, which are our reading: USE's parts are brought to one scale by mean and
deviation over images of known classes, and added; DSGF's head is trained after the tuner, which then stays as it is.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.tuned_model import HEAD_STD, TunedModel
from utuning_search.training.loop import Examples, predict, train
from utuning_search.training.ood_scores import KNN, SCORES, Floats, nearest, neighbours, of_logits
from utuning_search.training.recipe import Recipe
from utuning_search.training.transfer import to_device

TUNED, USE, DSGF = "tuned", "use", "dsgf"
METHODS = (TUNED, USE, DSGF)
FUSION_EPOCHS = 50  # of a linear head, on features that are computed once
LEAST = 1e-12  # of a deviation: scores of a degenerate model may all be equal


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a model computes of some images, fp32 on its device: features (images, dim), logits (images, classes)."""

    features: Tensor
    logits: Tensor


@dataclass(frozen=True, eq=False)
class Bank:
    """Training images as a model sees them.

    Attributes:
        features: (images, dim).
        k: Which nearest of them counts, see `ood_scores.neighbours`.
    """

    features: Tensor
    k: int


@torch.no_grad()
def outputs(model: TunedModel, images: Tensor, preprocessing: Preprocessing) -> Outputs:
    """What a model in evaluation mode computes of uint8 images (images, channels, size, size)."""
    device = str(model.head.weight.device)
    features = predict(lambda part: model.features(preprocessing.normalise(part)), to_device(images, device))
    return Outputs(features, model.head(features))


def bank(trained: Outputs, labels: Tensor) -> Bank:
    """Of training images and their classes."""
    return Bank(trained.features, neighbours(labels))


def scores(found: Outputs, known: Bank, *, own: bool = False) -> dict[str, Floats]:
    """Every score of `ood_scores.SCORES` by name, (images,); `own` says that these are the bank's own images."""
    return {
        name: nearest(found.features, known.features, known.k, own=own)
        if name == KNN
        else of_logits(name, found.logits)
        for name in SCORES
    }


def ensemble(
    tuned: Mapping[str, Floats], matched: Floats, scale: Mapping[str, Floats], scale_matched: Floats
) -> dict[str, Floats]:
    """USE: scores of the tuned model and nearness in the frozen features, each standardised, added up.

    Args:
        tuned: Scores by name, (images,).
        matched: `ood_scores.nearest` of the same images in the frozen features.
        scale, scale_matched: The same of images of known classes, which set the scales.
    """

    def standard(values: Floats, by: Floats) -> Floats:
        found: Floats = (values - by.mean()) / max(float(by.std()), LEAST)
        return found

    return {name: standard(own, scale[name]) + standard(matched, scale_matched) for name, own in tuned.items()}


def fused(frozen: Outputs, tuned: Outputs, head: nn.Linear) -> Outputs:
    """DSGF: both kinds of features side by side, under a head of their own."""
    features = torch.cat([frozen.features, tuned.features], dim=1)
    with torch.no_grad():
        return Outputs(features, head(features))


def fusion_head(frozen: Outputs, tuned: Outputs, labels: Tensor, recipe: Recipe, seed: int) -> nn.Linear:
    """A linear head trained on both kinds of features of the training images; a function of these and the seed.

    Args:
        frozen, tuned: Of the training images.
        labels: Their classes, (images,).
        recipe: Of the task: batches, rate, decay and balance; epochs are `FUSION_EPOCHS`.
        seed: Of the first weights and the order.
    """
    features = torch.cat([frozen.features, tuned.features], dim=1)
    head = nn.Linear(features.shape[1], tuned.logits.shape[1])
    generator = torch.Generator().manual_seed(seed)
    nn.init.trunc_normal_(head.weight, std=HEAD_STD, generator=generator)
    nn.init.zeros_(head.bias)
    head.to(features.device)
    examples = Examples(features, labels.to(features.device))
    long = replace(recipe, epochs=FUSION_EPOCHS, rungs=(), warmup_epochs=min(recipe.warmup_epochs, 1.0), proximal=0.0)
    steps = train(
        head,
        list(head.parameters()),
        [examples],
        long,
        learning_rate=recipe.learning_rate,
        seed=seed,
        autocast=nullcontext,
    )
    for _ in steps:  # one report, after the last epoch
        pass
    return head.requires_grad_(False)
