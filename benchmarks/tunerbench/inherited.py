"""A child design that starts from its parent's trained weights, as in LEMONADE (Elsken et al., 2018).

A tensor comes from the parent's tuner of the same kind, in the same form, at the same operation of the same block,
whatever the order of placements (that no kind stands twice at an operation of a block holds in the space `full`); the
head always comes along. Of another rank or length the leading part is taken and the rest stays fresh, so that the
factor which tuners begin with at zero is zero there: a tuner that grows, or is new, leaves the parent's function as it
was. A scale of another sort starts afresh, and what it was is multiplied into the tuner. Nothing of a tuner comes along
where its options make it another function.
"""

import re
from collections.abc import Mapping
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import TrainingError
from utuning_search.designs.design import Design
from utuning_search.designs.placement import Placement
from utuning_search.training.context import SearchContext
from utuning_search.training.loop import measure, train
from utuning_search.training.proxy import ProxyTrainer
from utuning_search.training.recipe import Recipe
from utuning_search.tuners import GATE, LEARNED_SCALES

Weights = Mapping[str, Tensor]
GATED = 0.5  # value of a fresh gate
# Tensors that U is linear in; of the first ones, rows are the output's channels, which a scale may tell apart.
OUTPUTS = ("up.weight", "up.bias", "b")
LINEAR = (*OUTPUTS, "values", "core")


class Trained(NamedTuple):
    """A design, its validation accuracy in [0, 1], 0 where the loss became infinite, and what was trained."""

    design: Design
    accuracy: float
    weights: Weights


def trained(
    trainer: ProxyTrainer,
    context: SearchContext,
    design: Design,
    recipe: Recipe,
    seed: int,
    parent: Trained | None = None,
) -> Trained:
    """Train a resolved design from fresh weights, or from its parent's, and measure it as searches do at rungs.

    Args:
        trainer: Of the task; lends its cached tokens.
        context: What the trainer was made from.
        design: Resolved.
        recipe: With as many epochs as this training has.
        seed: Of fresh weights and of the order of images.
        parent: Whose weights are taken over.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = TunedModel(context.backbone, design, context.data.num_classes)
    if parent is not None:
        model.load_tuner_state_dict(inherited(parent, model))
    model.train()
    model.backbone.eval()
    block = model.first_tuned_block
    views, validation = trainer.examples_from(block)

    def forward(tokens: Tensor) -> Tensor:
        return model.forward_from(tokens, block)

    rate, parameters = design.learning_rate or recipe.learning_rate, model.parameters_trained()
    try:
        for _ in train(forward, parameters, views, recipe, learning_rate=rate, seed=seed, autocast=nullcontext):
            pass
    except TrainingError:
        return Trained(design, 0.0, model.tuner_state_dict())
    model.eval()
    return Trained(design, measure(forward, validation), model.tuner_state_dict())


def inherited(parent: Trained, child: TunedModel) -> dict[str, Tensor]:
    """The weights that a fresh child starts from."""
    before, after = _placed(parent.design), _placed(child.design)
    known = {_rankless(name): tensor for name, tensor in parent.weights.items()}
    factors = any(name.startswith("tuners.shared.fact") for name in known)
    found = {}
    for name, fresh in child.tuner_state_dict().items():
        old, place = known.get(_rankless(name)), _place(name)
        if place is None:  # the head, and what tuners share
            found[name] = fresh if old is None else _leading(fresh, old)
            continue
        was, now = before.get(place), after[place]
        if was is None or not _alike(was, now) or (name.endswith("_scale") and was.scale != now.scale):
            old = None
        if name.endswith(".core"):
            found[name] = _core(fresh, old, now.tuner.options()["rank"], was, factors)
        else:
            found[name] = fresh if old is None else _leading(fresh, old)
        if old is not None and was is not None:
            found[name] = found[name] * _made_good(name, was, now, parent.weights, fresh.ndim)
    return found


def _place(name: str) -> tuple[int, str, str, str] | None:
    """Block, group, operation and kind of a tuner's tensor; None for the head and what tuners share."""
    found = re.match(r"tuners\.block_(\d+)\.(added|inside)\.(\w+)\.(\w+)\.", name)
    return None if found is None else (int(found[1]), found[2], found[3], found[4])


def _placed(design: Design) -> dict[tuple[int, str, str, str], Placement]:
    return {
        (block, "inside" if p.form == "inside" else "added", p.operation, p.tuner.kind): p
        for p in design.placements
        for block in p.block_numbers()
    }


def _rankless(name: str) -> str:
    """A name that does not say the rank of FacT's factors, as those of shared modules do."""
    return re.sub(r"\.fact_\d+_", ".fact_", name)


def _alike(was: Placement, now: Placement) -> bool:
    """Whether two tuners of one kind differ by no more than size, scale, activation and dropout."""
    one, other = was.tuner.options(), now.tuner.options()
    same = all(one.get(option) == other.get(option) for option in ("depthwise", "reading"))
    return same and (was.form == "bypass") == (now.form == "bypass")


def _leading(fresh: Tensor, old: Tensor) -> Tensor:
    """As much of the old tensor as there is room for; beyond it the fresh one."""
    found, part = fresh.clone(), tuple(slice(min(a, b)) for a, b in zip(fresh.shape, old.shape, strict=True))
    found[part] = old[part]
    return found


def _core(fresh: Tensor, old: Tensor | None, rank: int, was: Placement | None, factors: bool) -> Tensor:
    """FacT's Σ, a grid of (rank, rank). Where the factors V are trained it is zero but for what was there."""
    if old is None or was is None:
        return torch.zeros_like(fresh) if factors else fresh
    size = was.tuner.options()["rank"]
    small = min(rank, size)
    grid: Tensor = fresh.clone().unflatten(0, (-1, rank)).unflatten(2, (-1, rank))
    grid[:, :small, :, small:] = 0
    grid[:, :small, :, :small] = old.unflatten(0, (-1, size)).unflatten(2, (-1, size))[:, :small, :, :small]
    return grid.flatten(2, 3).flatten(0, 1)


def _made_good(name: str, was: Placement, now: Placement, weights: Weights, axes: int) -> Tensor:
    """What a tensor is multiplied by, so that a scale of another sort changes nothing."""
    stem, tensor = next(((name[: -len(t) - 1], t) for t in LINEAR if name.endswith(f".{t}")), ("", ""))
    if not tensor or was.scale == now.scale or not now.tuner.starts_at_zero:
        return torch.ones(1)
    learned = was.scale in LEARNED_SCALES
    ratio: Tensor = (weights[f"{stem}_scale"] if learned else torch.tensor([_constant(was)])) / _constant(now)
    return ratio.view(-1, *[1] * (axes - 1)) if tensor in OUTPUTS else ratio.mean()


def _constant(placement: Placement) -> float:
    """Value of a scale that is constant, or fresh and learned."""
    if placement.scale == GATE:
        return GATED
    return placement.scale if isinstance(placement.scale, float) else 1.0
