"""Full training: all images, augmentation where it helps, and what is kept is what the model computes."""

from dataclasses import replace

import pytest
import safetensors.torch
import torch

from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.tuned_model import IMAGES, TunedModel
from utuning_search.data.decoded import FinalData, Split
from utuning_search.designs.design import Design
from utuning_search.training import augmentation
from utuning_search.training import full as module
from utuning_search.training.context import load_search
from utuning_search.training.full import FullTrainer, Trained
from utuning_search.training.loop import Examples, predict, train
from utuning_search.training.runtime import Runtime
from utuning_search.training.weights import CHECK, SEAL, check_images, is_whole

from .helpers import DEPTH, DESIGNS, SEED, TASK

RECIPE = replace(TASK.recipe, epochs=2, rungs=())


@pytest.fixture(scope="module")
def full() -> FullTrainer:
    """On the tiny task's proxy split, and tested on its validation split: no test images are needed here."""
    context = load_search(TASK, None)
    data = FinalData(context.data.proxy, context.data.validation, context.data.classes, "none")
    return FullTrainer(context.backbone, context.preprocessing, data, Runtime(), mirrored=False)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROUNDS", 2)


def run(full: FullTrainer, design: Design, *, augmented: bool = True) -> Trained:
    return full.run(design.resolve(DEPTH), RECIPE, SEED, augmented=augmented)


@pytest.mark.parametrize("design", [DESIGNS["everywhere"], Design.preset("mlae", rank=8)], ids=["adapter", "dropout"])
def test_it_is_the_loop_on_all_images_and_a_fresh_model(full: FullTrainer, design: Design) -> None:
    """Drawn from the seed in the same order as ever, dropout included."""
    found, context = run(full, design), load_search(TASK, None)
    adapter_of(context.backbone).unfuse_attention()
    torch.manual_seed(SEED)
    model = TunedModel(context.backbone, design.resolve(DEPTH), 10).train()
    model.backbone.eval()
    rate = design.learning_rate or RECIPE.learning_rate
    normalise, split = context.preprocessing.normalise, context.data.proxy
    options = {"learning_rate": rate, "seed": SEED, "autocast": Runtime().autocast()}
    blocks = full._stand_ins(full._read(model))  # whose losses tests/backbones/test_quick_block.py compares

    def forward(images: torch.Tensor) -> torch.Tensor:
        return model.forward_from(normalise(images), IMAGES, blocks)

    (last,) = train(forward, model.parameters_trained(), [as_examples(split)], RECIPE, **options)  # type: ignore[arg-type]  # as named
    assert (last.number, last.accumulation) == (RECIPE.epochs, found.accumulation)
    model.eval()
    tensors = safetensors.torch.load(found.weights)
    assert is_whole(tensors)
    check, _ = tensors.pop(CHECK), tensors.pop(SEAL)
    assert tensors.keys() == model.tuner_state_dict().keys()
    for name, tensor in model.tuner_state_dict().items():
        assert torch.equal(tensors[name], tensor)
    assert torch.equal(predict(model, normalise(check_images(context.preprocessing))), check)
    held_out = context.data.validation
    hits = predict(model, normalise(held_out.images)).argmax(1) == held_out.labels
    assert found.accuracy == int(hits.sum()) / len(hits)


def as_examples(split: Split) -> Examples:
    return Examples(split.images, split.labels)


def test_tiny_images_are_trained_on_as_they_are_and_larger_ones_are_changed(
    full: FullTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(full, DESIGNS["last-half"], augmented=False).weights
    assert run(full, DESIGNS["last-half"]).weights == plain
    monkeypatch.setattr(augmentation, "SMALLEST_AUGMENTED", 8)
    assert run(full, DESIGNS["last-half"]).weights != plain
    assert run(full, DESIGNS["last-half"], augmented=False).weights == plain
