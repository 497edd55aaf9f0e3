"""A model's scores of known and of unknown images, by itself and with what the frozen backbone adds."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from utuning_search.backbones.preprocessing import Preprocessing
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.results.ood.scoring import (
    DSGF,
    TUNED,
    USE,
    Outputs,
    bank,
    ensemble,
    fused,
    fusion_head,
    outputs,
    scores,
)
from utuning_search.training.loop import accuracy_of
from utuning_search.training.ood_scores import Floats, nearest
from utuning_search.training.recipe import Recipe

Named = Mapping[str, Floats]  # scores by name, (images,) each


@dataclass(frozen=True, eq=False)
class Sets:
    """Images, uint8 (images, channels, size, size), and their classes, (images,).

    Attributes:
        train, train_labels: That the model was trained on.
        test, test_labels: Of the same classes.
        outliers: Unknown images by the name of their set.
        scale: Of the same classes too, and not trained on: they set the scales of USE. None for the training images.
        preprocessing: Of all of them.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    outliers: Mapping[str, Tensor]
    scale: Tensor | None
    preprocessing: Preprocessing


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model computes of `Sets`."""

    train: Outputs
    test: Outputs
    outliers: Mapping[str, Outputs]
    scale: Outputs | None


@dataclass(frozen=True, eq=False)
class Answers:
    """What a method says of `Sets`: accuracy on the test images, their scores, and those of each unknown set."""

    accuracy: float
    known: Named
    unknown: Mapping[str, Named]


def see(model: TunedModel, sets: Sets) -> Seen:
    """One pass of a model, in evaluation mode, over all images."""
    own = sets.preprocessing
    return Seen(
        outputs(model, sets.train, own),
        outputs(model, sets.test, own),
        {name: outputs(model, images, own) for name, images in sets.outliers.items()},
        None if sets.scale is None else outputs(model, sets.scale, own),
    )


def compare(
    tuned: Seen, frozen: Seen | None, sets: Sets, recipe: Recipe, seed: int, methods: Collection[str]
) -> dict[str, Answers]:
    """What each method says, by its name.

    Args:
        tuned: Of the tuned model.
        frozen: Of the bare backbone, whose head does not matter; None where only the tuned model is asked.
        sets: That both have seen.
        recipe, seed: Of the head that DSGF trains.
        methods: Of `scoring.METHODS`.
    """
    found = {}
    if TUNED in methods:
        found[TUNED] = _answers(tuned, sets)
    if frozen is not None and USE in methods:
        found[USE] = _ensembled(tuned, frozen, sets)
    if frozen is not None and DSGF in methods:
        head = fusion_head(frozen.train, tuned.train, sets.train_labels, recipe, seed)
        both = Seen(
            fused(frozen.train, tuned.train, head),
            fused(frozen.test, tuned.test, head),
            {name: fused(frozen.outliers[name], own, head) for name, own in tuned.outliers.items()},
            None,
        )
        found[DSGF] = _answers(both, sets)
    return found


def _answers(seen: Seen, sets: Sets) -> Answers:
    known = bank(seen.train, sets.train_labels)
    unknown = {name: scores(own, known) for name, own in seen.outliers.items()}
    return Answers(_accuracy(seen, sets), scores(seen.test, known), unknown)


def _ensembled(tuned: Seen, frozen: Seen, sets: Sets) -> Answers:
    own, bare = bank(tuned.train, sets.train_labels), bank(frozen.train, sets.train_labels)
    # Training images are compared with the others: each would be nearest to itself.
    alone = tuned.scale is None or frozen.scale is None
    scale, scale_bare = (tuned.train, frozen.train) if alone else (tuned.scale, frozen.scale)
    assert scale is not None
    assert scale_bare is not None
    scales = scores(scale, own, own=alone), nearest(scale_bare.features, bare.features, bare.k, own=alone)

    def both(one: Outputs, other: Outputs) -> Named:
        return ensemble(scores(one, own), nearest(other.features, bare.features, bare.k), *scales)

    unknown = {name: both(outs, frozen.outliers[name]) for name, outs in tuned.outliers.items()}
    return Answers(_accuracy(tuned, sets), both(tuned.test, frozen.test), unknown)


def _accuracy(seen: Seen, sets: Sets) -> float:
    return accuracy_of(seen.test.logits.cpu(), sets.test_labels)
