"""Proxy training: a result is a function of its design, and is what training from images gives."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import safetensors.torch
import torch
from timm.models.vision_transformer import VisionTransformer

from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.designs.design import Design, Placement
from utuning_search.training.context import load_search
from utuning_search.training.loop import Examples, measure, predict, train
from utuning_search.training.proxy import ProxyTrainer, Result
from utuning_search.training.runtime import Runtime
from utuning_search.training.task import Task
from utuning_search.training.weights import CHECK, SEAL, check_images, is_whole
from utuning_search.tuners import AdapterConfig

from ..helpers import randomise
from .helpers import DEPTH, DESIGNS, SEED, TASK, evaluated, outcome

TWO_VIEWS = replace(TASK, data=replace(TASK.data, views=2))
FIRST_TUNED = {
    "linear-probe": 6,
    "last-block": 5,
    "last-half": 3,
    "shallow-prompt-at-4": 3,
    "prefix-from-2": 1,
    "everywhere": 0,
    "outside-the-blocks": -1,
}


@pytest.mark.parametrize("name", ["linear-probe", "last-half", "everywhere"])
def test_a_result_does_not_depend_on_what_was_evaluated_before(trainer: ProxyTrainer, name: str) -> None:
    alone = outcome(evaluated(ProxyTrainer(TASK, Runtime()), DESIGNS[name]))
    torch.manual_seed(99)
    for other in ("everywhere", "last-block"):
        evaluated(trainer, DESIGNS[other], seed=8)
    next(trainer.evaluate(DESIGNS["prefix-from-2"].resolve(DEPTH), 1))  # pruned at its first rung
    assert outcome(evaluated(trainer, DESIGNS[name])) == alone


def test_designs_may_take_turns(trainer: ProxyTrainer) -> None:
    """Two unfinished trials on one backbone do not disturb each other."""
    wanted = [outcome(evaluated(trainer, DESIGNS[n])) for n in ("everywhere", "last-half")]
    runs = [trainer.evaluate(DESIGNS[n].resolve(DEPTH), SEED) for n in ("everywhere", "last-half")]
    found = list(zip(*runs, strict=True))
    for i, (reports, accuracy, weights) in enumerate(wanted):
        assert [step[i] for step in found[:-1]] == reports
        last = found[-1][i]
        assert isinstance(last, Result)
        assert (last.accuracy, last.weights) == (accuracy, weights)


def test_a_seed_gives_other_weights(trainer: ProxyTrainer) -> None:
    design = DESIGNS["everywhere"]
    assert evaluated(trainer, design, 1)[1].weights != evaluated(trainer, design, 2)[1].weights


def test_the_callers_random_state_is_left_alone(trainer: ProxyTrainer) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    evaluated(trainer, DESIGNS["everywhere"])
    assert torch.equal(torch.rand(3), wanted)


def test_reports_come_at_the_rungs_and_at_the_end(trainer: ProxyTrainer) -> None:
    reports, result = evaluated(trainer, DESIGNS["everywhere"])
    assert [r.epoch for r in reports] == [1, 3]
    assert reports[-1].accuracy == result.accuracy
    assert reports[-1].loss < reports[0].loss


def test_seconds_leave_out_what_the_caller_takes(trainer: ProxyTrainer) -> None:
    ticks = iter(range(1000))
    run = trainer.evaluate(Design(), SEED, clock=lambda: float(next(ticks)))
    for _ in range(2):
        next(run)
        for _ in range(100):
            next(ticks)  # the caller's own time
    result = next(run)
    assert isinstance(result, Result)
    assert result.seconds == 3.0, "one tick in each of three stretches"


def test_check_logits_are_the_tuned_models(trainer: ProxyTrainer) -> None:
    design = DESIGNS["everywhere"].resolve(DEPTH)
    tensors = safetensors.torch.load(evaluated(trainer, design)[1].weights)
    context = load_search(TASK, None)
    adapter_of(context.backbone).unfuse_attention()
    model = TunedModel(context.backbone, design, 10).eval()
    assert is_whole(tensors)
    check, _ = tensors.pop(CHECK), tensors.pop(SEAL)
    model.load_tuner_state_dict(tensors)
    x = context.preprocessing.normalise(check_images(context.preprocessing))
    assert (predict(model, x) - check).abs().max() <= 1e-6


@pytest.mark.parametrize("task", [TASK, TWO_VIEWS], ids=["one-view", "two-views"])
@pytest.mark.parametrize("name", DESIGNS)
def test_training_from_kept_tokens_equals_training_from_images(name: str, task: Task) -> None:
    design = DESIGNS[name].resolve(DEPTH)
    reports, result = evaluated(ProxyTrainer(task, Runtime()), design)
    context = load_search(task, None)
    adapter_of(context.backbone).unfuse_attention()
    torch.manual_seed(SEED)
    model = TunedModel(context.backbone, design, 10).train()
    model.backbone.eval()
    assert model.first_tuned_block == FIRST_TUNED[name]
    proxy, validation = (
        Examples(context.preprocessing.normalise(s.images), s.labels)
        for s in (context.data.proxy, context.data.validation)
    )
    views = [proxy, Examples(proxy.inputs.flip(-1), proxy.labels)][: task.data.views]
    parameters, rate = model.parameters_trained(), task.recipe.learning_rate
    epochs = train(model, parameters, views, task.recipe, learning_rate=rate, seed=SEED, autocast=nullcontext)
    whole = [(epoch, measure(model, validation)) for epoch in epochs]
    assert [e.number for e, _ in whole] == [r.epoch for r in reports]
    for ours, (theirs, accuracy) in zip(reports, whole, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-5)
        assert ours.accuracy == accuracy
    assert result.accuracy == whole[-1][1]


def test_rungs_are_measured_without_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a tuner that leaves experts out in training would be pruned for it."""
    design = Design.preset("mlae", rank=8, dropout=0.9).resolve(DEPTH)
    modes: dict[bool, set[bool]] = {True: set(), False: set()}  # of tuners, by whether gradients are computed
    real = TunedModel.forward_from

    def forward_from(self: TunedModel, *given: Any, **named: Any) -> torch.Tensor:
        modes[torch.is_grad_enabled()].add(self.tuners.training)
        return real(self, *given, **named)

    monkeypatch.setattr(TunedModel, "forward_from", forward_from)
    evaluated(ProxyTrainer(TASK, Runtime()), design)
    assert modes == {True: {True}, False: {False}}
    model = TunedModel(load_search(TASK, None).backbone, design, 10)
    assert any(getattr(m, "dropout", 0) == 0.9 for m in model.tuners.modules())


@pytest.mark.parametrize("name", ["linear-probe", "last-block", "bypass", "bypass-of-last-half"])
def test_what_is_kept_of_images_gives_the_logits_of_the_model(trainer: ProxyTrainer, name: str) -> None:
    blocks = "last 1/2" if name.endswith("half") else "all"
    bypass = Design((Placement("block", AdapterConfig(2), "bypass", blocks=blocks),))
    model = trainer._fresh(DESIGNS.get(name, bypass).resolve(DEPTH), SEED).eval()
    randomise(model.tuners, seed=2)
    inputs = trainer._inputs(model, trainer.cache)
    kept, images = inputs.of("validation"), trainer.data.validation.images
    with torch.no_grad():
        assert torch.allclose(inputs.forward(kept), trainer._whole(model)(images), atol=1e-5)
    tokens = kept.shape[-2]
    assert tokens == (17 if name == "last-block" else 1), "more is kept than is read"


def test_the_last_rung_is_the_result_in_bf16_too() -> None:
    """One measurement, in fp32; it is not made twice."""
    trainer = ProxyTrainer(TASK, Runtime(precision="bf16"))
    reports, result = evaluated(trainer, DESIGNS["last-half"])
    assert [r.epoch for r in reports] == [1, 3]
    assert reports[-1].accuracy == result.accuracy
    tensors = safetensors.torch.load(result.weights)
    model = trainer._fresh(DESIGNS["last-half"].resolve(DEPTH), 0)
    model.load_tuner_state_dict({n: t for n, t in tensors.items() if n not in (CHECK, SEAL)})
    split = trainer.data.validation
    whole = measure(trainer._whole(model.eval()), Examples(split.images, split.labels))
    assert whole == result.accuracy, "it is not that of the model in fp32, from its images"


@pytest.mark.parametrize("name", ["last-half", "prefix-from-2", "everywhere"])
def test_bf16_reaches_the_accuracy_of_fp32(name: str) -> None:
    """Within three standard errors of what so few images can tell, were the two trainings independent."""
    fp32, bf16 = (evaluated(ProxyTrainer(TASK, Runtime(precision=p)), DESIGNS[name])[1] for p in ("fp32", "bf16"))
    error = (2 * fp32.accuracy * (1 - fp32.accuracy) / TASK.data.validation) ** 0.5
    assert abs(bf16.accuracy - fp32.accuracy) <= 3 * max(error, 0.02)


def test_bf16_trains_and_is_measured_in_fp32() -> None:
    trainer = ProxyTrainer(replace(TASK, data=replace(TASK.data, proxy=40)), Runtime(precision="bf16"))
    reports, result = evaluated(trainer, DESIGNS["last-half"])
    tensors = safetensors.torch.load(result.weights)
    assert {t.dtype for name, t in tensors.items() if name != SEAL} == {torch.float32}
    assert reports[-1].accuracy == result.accuracy


def test_images_stay_as_they_are_and_inputs_are_the_same_to_the_bit(glyph: VisionTransformer) -> None:
    context = load_search(TWO_VIEWS, None)
    trainer = ProxyTrainer(TWO_VIEWS, Runtime(), context)
    sources = trainer.cache._sources
    assert {t.dtype for t in sources.values()} == {torch.uint8}
    assert sources["view_0"] is sources["view_1"], "the mirror image is kept too"
    proxy, validation = (
        context.preprocessing.normalise(s.images) for s in (context.data.proxy, context.data.validation)
    )
    adapter_of(glyph).unfuse_attention()
    with torch.no_grad():
        for name, wanted in {"view_0": proxy, "view_1": proxy.flip(-1), "validation": validation}.items():
            assert torch.equal(trainer.cache.tokens(name, 0), adapter_of(glyph).embed(wanted))
