"""The engine: caches change nothing, a result is a function of its design, workers fail one by one."""

import multiprocessing
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from utuning_search.backbones import loading
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import InputError
from utuning_search.data.spec import DataSpec
from utuning_search.designs.design import Design, Placement
from utuning_search.training.context import load_search
from utuning_search.training.feature_cache import FeatureCache
from utuning_search.training.loop import Examples, Report, predict, train
from utuning_search.training.pool import Done, Event, Failed, InlinePool, Job, Pool, ProcessPool, Rung
from utuning_search.training.processes import Lost
from utuning_search.training.proxy import CHECK, Evaluator, Result
from utuning_search.training.recipe import Recipe
from utuning_search.training.runtime import Runtime, resolve_device, resolve_precision
from utuning_search.training.task import Task
from utuning_search.tuners import (
    AdapterConfig,
    LoraConfig,
    NormConfig,
    PrefixConfig,
    PromptConfig,
)

TASK = Task(
    "tiny",
    BackboneSpec("glyph_vit"),
    DataSpec("digits", proxy=100, validation=60),
    Recipe(epochs=3, batch_size=32, rungs=(1,)),
)
TWO_VIEWS = replace(TASK, data=replace(TASK.data, views=2))
DEPTH, SEED = 6, 3
ADAPTER = Placement("mlp", AdapterConfig(2), "parallel", "channel")
DESIGNS = {
    "linear-probe": Design(),
    "last-block": Design((replace(ADAPTER, blocks="last 1"),)),
    "last-half": Design(
        (Placement("qkv", LoraConfig(2), blocks="last 1/2"), Placement("mlp", NormConfig(), blocks="6"))
    ),
    "shallow-prompt-at-4": Design((Placement("block", PromptConfig(2, "shallow"), blocks="4"),)),
    "prefix-from-2": Design((Placement("attention", PrefixConfig(2, "exact"), blocks="2-5"),)),
    "everywhere": Design((ADAPTER,)),
}
FIRST_TUNED = {
    "linear-probe": 6,
    "last-block": 5,
    "last-half": 3,
    "shallow-prompt-at-4": 3,
    "prefix-from-2": 1,
    "everywhere": 0,
}
EXPLODES = Design((Placement("block", PromptConfig(1, "parallel"), "parallel", 1e38),))


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator(TASK, Runtime())


def evaluated(evaluator: Evaluator, design: Design, seed: int = SEED) -> tuple[list[Report], Result]:
    *reports, result = evaluator.evaluate(design.resolve(DEPTH), seed)
    assert isinstance(result, Result)
    assert all(isinstance(r, Report) for r in reports)
    return reports, result  # type: ignore[return-value]  # as asserted


def outcome(found: tuple[list[Report], Result]) -> tuple[list[Report], float, bytes]:
    return found[0], found[1].accuracy, found[1].weights


# Feature cache

SOURCES = {"few": 40, "many": 300}  # more than one batch


def images(name: str) -> Tensor:
    return torch.randn(SOURCES[name], 1, 8, 8, generator=torch.Generator().manual_seed(SOURCES[name]))


@pytest.fixture(scope="module")
def glyph() -> VisionTransformer:
    return loading.load_backbone(loading.GLYPH_VIT)


def cache_of(glyph: VisionTransformer, **options: int) -> FeatureCache:
    return FeatureCache(glyph, {name: images(name) for name in SOURCES}, nullcontext, **options)


@pytest.fixture(scope="module")
def fresh(glyph: VisionTransformer) -> dict[tuple[str, int], Tensor]:
    """Tokens before each block, each from an empty cache."""
    return {(s, b): cache_of(glyph).tokens(s, b) for s in SOURCES for b in range(DEPTH + 1)}


ONE = 300 * 17 * 64 * 4  # bytes of tokens before a block, of the larger source
ORDERS = {
    "ascending": (0, 1, 2, 3, 4, 5, 6),
    "descending": (6, 5, 4, 3, 2, 1, 0),
    "jumping": (3, 6, 0, 5, 1, 4, 2, 6, 3),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("budget", [0, ONE, 2 * ONE + 1, 100 * ONE])
def test_tokens_are_bit_equal_whatever_was_kept(
    glyph: VisionTransformer, fresh: dict[tuple[str, int], Tensor], order: str, budget: int
) -> None:
    cache = cache_of(glyph, budget=budget)
    for boundary in ORDERS[order]:
        for source in SOURCES:
            assert torch.equal(cache.tokens(source, boundary), fresh[source, boundary])
            assert cache.bytes <= max(budget, ONE), "more is kept than the budget and the tokens in use"


def test_tokens_are_what_the_backbone_computes(glyph: VisionTransformer) -> None:
    cache = cache_of(glyph)
    x = images("few")
    with torch.no_grad():
        assert torch.equal(cache.tokens("few", 0), adapter_of(glyph).embed(x))
        assert torch.equal(adapter_of(glyph).pool(cache.tokens("few", DEPTH)), glyph(x))


def test_kept_tokens_are_not_computed_again(glyph: VisionTransformer) -> None:
    cache = cache_of(glyph)
    assert cache.tokens("few", 3) is cache.tokens("few", 3)
    calls = []
    handles = [block.register_forward_hook(lambda *_, i=i: calls.append(i)) for i, block in enumerate(glyph.blocks)]
    cache.tokens("few", 3)
    cache.tokens("few", 5)
    for handle in handles:
        handle.remove()
    assert calls == [3, 4], "blocks before a kept boundary were run"


def test_least_recently_used_tokens_are_dropped(glyph: VisionTransformer) -> None:
    cache = cache_of(glyph, budget=2 * ONE)
    first, second = cache.tokens("many", 1), cache.tokens("many", 2)
    assert cache.tokens("many", 1) is first
    cache.tokens("many", 3)
    assert cache.bytes == 2 * ONE
    assert cache.tokens("many", 1) is first
    assert cache.tokens("many", 2) is not second


# Evaluator


@pytest.mark.parametrize("name", ["linear-probe", "last-half", "everywhere"])
def test_a_result_does_not_depend_on_what_was_evaluated_before(evaluator: Evaluator, name: str) -> None:
    alone = outcome(evaluated(Evaluator(TASK, Runtime()), DESIGNS[name]))
    torch.manual_seed(99)
    for other in ("everywhere", "last-block"):
        evaluated(evaluator, DESIGNS[other], seed=8)
    next(evaluator.evaluate(DESIGNS["prefix-from-2"].resolve(DEPTH), 1))  # pruned at its first rung
    assert outcome(evaluated(evaluator, DESIGNS[name])) == alone


def test_designs_may_take_turns(evaluator: Evaluator) -> None:
    """Two unfinished trials on one backbone do not disturb each other."""
    wanted = [outcome(evaluated(evaluator, DESIGNS[n])) for n in ("everywhere", "last-half")]
    runs = [evaluator.evaluate(DESIGNS[n].resolve(DEPTH), SEED) for n in ("everywhere", "last-half")]
    found = list(zip(*runs, strict=True))
    for i, (reports, accuracy, weights) in enumerate(wanted):
        assert [step[i] for step in found[:-1]] == reports
        last = found[-1][i]
        assert isinstance(last, Result)
        assert (last.accuracy, last.weights) == (accuracy, weights)


def test_a_seed_gives_other_weights(evaluator: Evaluator) -> None:
    design = DESIGNS["everywhere"]
    assert evaluated(evaluator, design, 1)[1].weights != evaluated(evaluator, design, 2)[1].weights


def test_the_callers_random_state_is_left_alone(evaluator: Evaluator) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    evaluated(evaluator, DESIGNS["everywhere"])
    assert torch.equal(torch.rand(3), wanted)


def test_reports_come_at_the_rungs_and_at_the_end(evaluator: Evaluator) -> None:
    reports, result = evaluated(evaluator, DESIGNS["everywhere"])
    assert [r.epoch for r in reports] == [1, 3]
    assert reports[-1].accuracy == result.accuracy
    assert reports[-1].loss < reports[0].loss


def test_seconds_leave_out_what_the_caller_takes(evaluator: Evaluator) -> None:
    ticks = iter(range(1000))
    run = evaluator.evaluate(Design(), SEED, clock=lambda: float(next(ticks)))
    for _ in range(2):
        next(run)
        for _ in range(100):
            next(ticks)  # the caller's own time
    result = next(run)
    assert isinstance(result, Result)
    assert result.seconds == 3.0, "one tick in each of three stretches"


def test_check_logits_are_the_tuned_models(evaluator: Evaluator) -> None:
    design = DESIGNS["everywhere"].resolve(DEPTH)
    tensors = safetensors.torch.load(evaluated(evaluator, design)[1].weights)
    context = load_search(TASK, None)
    adapter_of(context.backbone).unfuse_attention()
    model = TunedModel(context.backbone, design, 10).eval()
    check = tensors.pop(CHECK)
    model.load_tuner_state_dict(tensors)
    x = context.preprocessing.normalise(context.data.validation.images[: len(check)])
    assert (predict(model, x) - check).abs().max() <= 1e-6


@pytest.mark.parametrize("task", [TASK, TWO_VIEWS], ids=["one-view", "two-views"])
@pytest.mark.parametrize("name", DESIGNS)
def test_training_from_kept_tokens_equals_training_from_images(name: str, task: Task) -> None:
    design = DESIGNS[name].resolve(DEPTH)
    reports, result = evaluated(Evaluator(task, Runtime()), design)
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
    options = {"learning_rate": rate, "seed": SEED, "autocast": nullcontext}
    whole = list(train(model, parameters, views, validation, task.recipe, **options))  # type: ignore[arg-type]  # as named
    assert [r.epoch for r in whole] == [r.epoch for r in reports]
    for ours, theirs in zip(reports, whole, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-5)
        assert ours.accuracy == theirs.accuracy
    assert result.accuracy == whole[-1].accuracy


def test_rungs_are_measured_without_dropout() -> None:
    """Else a tuner that leaves experts out in training would be pruned for it."""
    design = Design.preset("mlae", rank=8, dropout=0.9).resolve(DEPTH)
    reports, result = evaluated(Evaluator(TASK, Runtime()), design)
    assert reports[-1].accuracy == result.accuracy
    model = TunedModel(load_search(TASK, None).backbone, design, 10)
    assert any(getattr(m, "dropout", 0) == 0.9 for m in model.tuners.modules())


# Pools


def run_job(pool: Pool, job: Job, patience: int = 240) -> Iterator[Event]:
    """The events of one job on worker 0, each rung answered with go on."""
    pool.start(0, job)
    for _ in range(patience):
        for worker, event in pool.wait(0.5):
            assert worker == 0
            yield event
            if not isinstance(event, Rung):
                return
            pool.answer(0, True)
    raise AssertionError("no event came")


JOB = Job(DESIGNS["last-half"].resolve(DEPTH), SEED)
BAD_JOB = Job(EXPLODES.resolve(DEPTH), SEED)


def check_pool(pool: Pool, evaluator: Evaluator) -> None:
    reports, result = evaluated(evaluator, JOB.design)
    for _ in range(2):
        *rungs, done = run_job(pool, JOB)
        assert rungs == [Rung(r) for r in reports]
        assert isinstance(done, Done)
        assert (done.result.accuracy, done.result.weights) == (result.accuracy, result.weights)
    (failed,) = run_job(pool, BAD_JOB)
    assert isinstance(failed, Failed)
    assert "the loss is finite" in failed.reason
    pool.start(0, JOB)
    events: list[tuple[int, Event]] = []
    while not events:
        events = pool.wait(0.5)
    assert events == [(0, Rung(reports[0]))]
    pool.answer(0, False)
    assert pool.wait(0) == [], "a pruned trial goes on"
    assert isinstance(list(run_job(pool, JOB))[-1], Done), "the worker of a pruned trial is not free again"


def test_inline_pool(evaluator: Evaluator) -> None:
    pool = InlinePool(evaluator)
    assert pool.size == 1
    assert pool.wait(0) == []
    check_pool(pool, evaluator)
    pool.close()
    assert pool.wait(0) == []


def test_process_pool(evaluator: Evaluator) -> None:
    pool = ProcessPool(TASK, [Runtime()])
    try:
        assert pool.size == 1
        check_pool(pool, evaluator)
        (process,) = multiprocessing.active_children()
        pool.start(0, JOB)
        process.kill()
        lost: list[Event] = []
        while not any(isinstance(e, Lost) for e in lost):
            lost += [event for _, event in pool.wait(0.5)]
        assert "killed by SIGKILL" in lost[-1].reason  # type: ignore[union-attr]  # the last one is Lost
        assert isinstance(list(run_job(pool, JOB))[-1], Done), "the lost worker was not replaced"
    finally:
        pool.close()
    assert not multiprocessing.active_children()


# Devices


@pytest.mark.parametrize("name", ["gpu", "", "cpu0", "CPU"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="device is one of auto, cpu, cuda, mps"):
        resolve_device(name)


def test_auto_is_a_device_that_is_there() -> None:
    assert resolve_device("auto") in ("cpu", "cuda", "mps")
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["fp16", "", "FP32"])
def test_an_unknown_precision_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="precision is one of auto, fp32, bf16"):
        resolve_precision(name, "cpu", "glyph_vit")


def test_the_embedded_backbone_runs_in_fp32_on_cpus() -> None:
    assert resolve_precision("auto", "cpu", "glyph_vit") == "fp32"
    assert resolve_precision("bf16", "cpu", "glyph_vit") == "bf16"


def test_bf16_trains_and_is_measured_in_fp32() -> None:
    evaluator = Evaluator(replace(TASK, data=replace(TASK.data, proxy=40)), Runtime(precision="bf16"))
    reports, result = evaluated(evaluator, DESIGNS["last-half"])
    tensors = safetensors.torch.load(result.weights)
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    assert abs(reports[-1].accuracy - result.accuracy) <= 0.05
