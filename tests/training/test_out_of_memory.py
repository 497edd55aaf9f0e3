"""Where memory runs out, the same is done in smaller pieces: same gradients, same results, and it is told."""

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from utuning_search.backbones import loading
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.spec import BackboneSpec
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.data.spec import DataSpec
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.presets import PRESETS
from utuning_search.results.tables import read_table, table
from utuning_search.search.budget import Budget
from utuning_search.search.study import Study
from utuning_search.training import out_of_memory as memory
from utuning_search.training.context import load_search
from utuning_search.training.feature_cache import BUDGET, FeatureCache, budget_on
from utuning_search.training.loop import Examples, Report, _accumulate, predict, train
from utuning_search.training.out_of_memory import halve_to_fit, note, to_device
from utuning_search.training.proxy import Evaluator, Result
from utuning_search.training.recipe import Recipe
from utuning_search.training.runtime import Runtime, runtimes
from utuning_search.training.task import Task
from utuning_search.tuners import AdapterConfig

from ..helpers import CASES, CLASSES, DEPTH, IMAGE, randomise

optuna.logging.set_verbosity(optuna.logging.ERROR)

CPU = torch.device("cpu")
SAID = "CUDA out of memory. Tried to allocate 2.00 GiB.\nA second line."


class Small:
    """Memory for so many rows at a time: a function that remembers what it was asked for."""

    def __init__(self, rows: int, work: Callable[[Tensor], Tensor]) -> None:
        self.rows, self.work = rows, work
        self.seen: list[int] = []

    def __call__(self, inputs: Tensor) -> Tensor:
        self.seen.append(len(inputs))
        if len(inputs) > self.rows:
            raise torch.OutOfMemoryError(SAID)
        return self.work(inputs)


# The helper


def test_sizes_are_halved_until_they_fit() -> None:
    for size, tried in ((64, [64, 32, 16, 8]), (33, [33, 17, 9]), (9, [9])):
        seen: list[int] = []

        def work(size: int, seen: list[int] = seen) -> str:
            seen.append(size)
            if size > 9:
                raise torch.OutOfMemoryError(SAID)
            return "done"

        assert halve_to_fit(work, size, CPU) == ("done", tried[-1])
        assert seen == tried


def test_a_single_row_that_does_not_fit_is_an_error() -> None:
    seen: list[int] = []

    def work(size: int) -> None:
        seen.append(size)
        raise torch.OutOfMemoryError(SAID)

    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        halve_to_fit(work, 5, CPU)
    assert seen == [5, 3, 2, 1]


def test_other_errors_are_not_tried_again() -> None:
    with pytest.raises(ZeroDivisionError):
        halve_to_fit(lambda size: size // 0, 8, CPU)


def test_data_go_to_a_gpu_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the same code as on a GPU, but for the pinning."""
    pinned: list[int] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(len(self)) or self)
    monkeypatch.setattr(memory, "PINNED", 100)
    images = torch.randint(0, 256, (23, 1, 3, 3), dtype=torch.uint8)
    assert torch.equal(memory._through_pinned(images, "cpu"), images)
    assert pinned == [11, 11, 1]
    pinned.clear()
    assert torch.equal(memory._through_pinned(images[:0], "cpu"), images[:0])
    monkeypatch.setattr(memory, "PINNED", 1)  # less than a row
    assert torch.equal(memory._through_pinned(images, "cpu"), images)
    assert to_device(images, "cpu") is images


# Training


def gradients(model: TunedModel, images: Tensor, labels: Tensor, size: int) -> tuple[Tensor, ...]:
    parameters = model.parameters_trained()
    _accumulate(model, parameters, images, labels, nullcontext, 0.1, size)
    return tuple(p.grad.clone() for p in parameters if p.grad is not None)


DESIGNS = {
    **{p.name: Design(p.placements()) for p in PRESETS},
    **{c.name: Design((c.placement,)) for c in CASES},
}


@pytest.mark.parametrize("name", DESIGNS)
def test_gradients_of_parts_add_up_to_those_of_the_batch(
    name: str, shared64: VisionTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For every known method and every tuner at every place."""
    monkeypatch.setattr(torch.Tensor, "float", lambda x: x)  # the loss in double precision too
    model = TunedModel(shared64, DESIGNS[name].resolve(DEPTH), CLASSES).double().eval()  # eval: no dropout
    randomise(model.tuners, seed=2)
    draw = torch.Generator().manual_seed(3)
    images = torch.randn(7, 3, IMAGE, IMAGE, generator=draw, dtype=torch.float64)
    labels = torch.randint(CLASSES, (7,), generator=draw)
    whole = gradients(model, images, labels, 7)
    assert len(whole) == len(model.parameters_trained())
    rounding = 1e-12 * max(float(g.abs().max()) for g in whole)  # of those that are zero: the bias of k has no effect
    for size in (4, 1):
        for ours, theirs in zip(gradients(model, images, labels, size), whole, strict=True):
            assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max() + rounding


RECIPE = Recipe(epochs=2, batch_size=64, rungs=(1,))
ROWS = 150  # two batches and one of 22


def linear() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(6, CLASSES)


def examples(count: int) -> Examples:
    draw = torch.Generator().manual_seed(count)
    return Examples(torch.randn(count, 6, generator=draw), torch.randint(CLASSES, (count,), generator=draw))


def trained(
    model: nn.Linear, forward: Callable[[Tensor], Tensor], recipe: Recipe = RECIPE, **options: Any
) -> list[Report]:
    parameters, validation = list(model.parameters()), examples(9)
    made = {"learning_rate": 0.01, "seed": 5, "autocast": nullcontext, **options}
    return list(train(forward, parameters, [examples(ROWS)], validation, recipe, **made))


def test_training_with_little_memory_ends_at_the_same_weights() -> None:
    whole, parts = linear(), linear()
    wanted = trained(whole, whole)
    forward = Small(20, parts)
    found = trained(parts, forward)
    assert [r.accumulation for r in wanted] == [1, 1]
    assert [r.accumulation for r in found] == [4, 4]
    epoch = [16] * 8 + [16, 6]
    assert forward.seen == [64, 32, *epoch, 9, *epoch, 9]
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-6)
        assert ours.accuracy == theirs.accuracy


def test_memory_that_gets_short_later_is_told_from_then_on() -> None:
    model = linear()
    forward = Small(64, model)
    draws: list[int] = []

    def augment(inputs: Tensor) -> Tensor:
        draws.append(len(inputs))
        if len(draws) == 4:  # the second epoch's first step
            forward.rows = 40
        return inputs

    found = trained(model, forward, augment=augment)
    assert [r.accumulation for r in found] == [1, 2]
    assert draws == [64, 64, 22] * 2, "augmentation was not drawn once a batch"


def test_gradients_of_a_step_that_broke_off_do_not_count() -> None:
    whole, parts = linear(), linear()
    trained(whole, whole)

    def work(inputs: Tensor) -> Tensor:
        if forward.seen == [64, 32]:  # the first half of the first step fits; the second half no longer will
            forward.rows = 20
        return parts(inputs)

    forward = Small(40, work)
    assert trained(parts, forward)[-1].accumulation == 4
    assert forward.seen[:7] == [64, 32, 32, 16, 16, 16, 16]
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_batches_larger_than_the_data_are_counted_as_they_are() -> None:
    model = linear()
    assert trained(model, Small(80, model), replace(RECIPE, batch_size=1000))[-1].accumulation == 2  # 75 of 150


def test_training_that_does_not_fit_at_all_is_an_error() -> None:
    model = linear()
    forward = Small(0, model)
    with pytest.raises(torch.OutOfMemoryError):
        trained(model, forward)
    assert forward.seen == [64, 32, 16, 8, 4, 2, 1]


class Backward(torch.autograd.Function):
    """The identity, whose backward pass needs memory for 20 rows at most."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        del ctx
        if len(grad) > 20:
            raise torch.OutOfMemoryError(SAID)
        return grad


def test_what_a_failed_step_made_is_freed_before_it_is_done_again() -> None:
    """Its activations would fill the memory that the next attempt needs."""
    whole, parts = linear(), linear()
    trained(whole, whole)
    alive: list[list[bool]] = []
    made: list[weakref.ref[Tensor]] = []

    def forward(inputs: Tensor) -> Tensor:
        alive.append([ref() is not None for ref in made])
        logits: Tensor = Backward.apply(parts(inputs))  # type: ignore[no-untyped-call]  # torch's own
        made.append(weakref.ref(logits))
        return logits

    trained(parts, forward)
    assert alive[:3] == [[], [False], [False, False]]
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_evaluation_batches_are_halved() -> None:
    model, inputs = linear(), examples(300).inputs
    forward = Small(100, model)
    assert torch.allclose(predict(forward, inputs), predict(model, inputs), atol=1e-6)
    assert forward.seen == [256, 128, 64, 64, 64, 64, 44]
    with pytest.raises(torch.OutOfMemoryError):
        predict(Small(0, model), inputs)


# Tokens


@pytest.fixture(scope="module")
def glyph() -> VisionTransformer:
    return loading.load_backbone(loading.GLYPH_VIT)


def pixels(count: int) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(count))


def test_tokens_are_computed_in_batches_that_fit(glyph: VisionTransformer) -> None:
    images = {"a": pixels(300), "b": pixels(40)}
    embed = Small(100, lambda x: x)
    cache = FeatureCache(glyph, images, nullcontext, prepare=lambda _, x: embed(x))
    plain = FeatureCache(glyph, images, nullcontext)
    assert torch.allclose(cache.tokens("a", 3), plain.tokens("a", 3), atol=1e-5)
    assert embed.seen == [256, 256, 128, 64, 64, 64, 64, 44]  # once more without what was kept, of which there was none
    assert torch.allclose(cache.tokens("b", 3), plain.tokens("b", 3), atol=1e-5)
    assert embed.seen[8:] == [40]


def test_kept_tokens_make_room(glyph: VisionTransformer) -> None:
    images = {"a": pixels(300)}
    cache, plain = (FeatureCache(glyph, images, nullcontext) for _ in range(2))
    cache.tokens("a", 1)
    full: list[int] = []

    def block(*_: object) -> None:
        if cache.bytes:
            full.append(cache.bytes)
            raise torch.OutOfMemoryError(SAID)

    handle = glyph.blocks[2].register_forward_hook(block)
    found = cache.tokens("a", 4)
    handle.remove()
    assert full == [300 * 17 * 64 * 4]
    assert torch.equal(found, plain.tokens("a", 4)), "the batches are smaller than they need to be"
    assert cache.bytes == full[0], "more than the new tokens is kept"


def test_tokens_that_do_not_fit_at_all_are_an_error(glyph: VisionTransformer) -> None:
    cache = FeatureCache(glyph, {"a": pixels(3)}, nullcontext, prepare=lambda _, x: Small(0, lambda x: x)(x))
    with pytest.raises(torch.OutOfMemoryError):
        cache.tokens("a", 1)


def test_a_gpu_keeps_tokens_in_a_quarter_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: asked.append(device) or (80_000, 96_000))
    assert budget_on("cpu") == budget_on("mps") == BUDGET
    assert (budget_on("cuda:1"), budget_on("cuda", sharers=2)) == (20_000, 10_000)
    assert asked == ["cuda:1", "cuda"]


TASK = Task(
    "tiny",
    BackboneSpec("glyph_vit"),
    DataSpec("digits", proxy=100, validation=60, views=2),
    Recipe(epochs=2, batch_size=50),
)


def test_images_stay_as_they_are_and_inputs_are_the_same_to_the_bit(glyph: VisionTransformer) -> None:
    context = load_search(TASK, None)
    evaluator = Evaluator(TASK, Runtime(), context)
    sources = evaluator.cache._sources
    assert {t.dtype for t in sources.values()} == {torch.uint8}
    assert sources["view_0"] is sources["view_1"], "the mirror image is kept too"
    proxy, validation = (
        context.preprocessing.normalise(s.images) for s in (context.data.proxy, context.data.validation)
    )
    adapter_of(glyph).unfuse_attention()
    with torch.no_grad():
        for name, wanted in {"view_0": proxy, "view_1": proxy.flip(-1), "validation": validation}.items():
            assert torch.equal(evaluator.cache.tokens(name, 0), adapter_of(glyph).embed(wanted))


# Workers on GPUs


@pytest.mark.parametrize(
    ("device", "gpus", "workers", "devices", "sharers"),
    [
        ("cuda", 2, 5, ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"], [3, 2, 3, 2, 3]),
        ("cuda", 4, 2, ["cuda:0", "cuda:1"], [1, 1]),
        ("cuda", 4, 1, ["cuda"], [1]),
        ("cuda", 4, 0, ["cuda"], [1]),
        ("cuda:1", 4, 2, ["cuda:1", "cuda:1"], [2, 2]),
        ("cpu", 0, 2, ["cpu", "cpu"], [2, 2]),
    ],
)
def test_workers_are_dealt_out_to_gpus(
    device: str, gpus: int, workers: int, devices: list[str], sharers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    dealt = runtimes(Runtime(device, "bf16", "there"), workers)
    assert ([r.device for r in dealt], [r.sharers for r in dealt]) == (devices, sharers)
    assert {(r.precision, r.data_dir, r.threads) for r in dealt} == {("bf16", "there", 1)}


# Studies

DEPTH_OF_GLYPH = 6
SPACE = """
name = "two"
presets = ["linear-probe", "adapter"]
[[slots]]
name = "mlp"
operation = "mlp"
tuner = ["none", "adapter"]
form = "sequential"
rank = 10
blocks = "all"
"""


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Memory for so many images at a time: of designs with tuners, and of the linear probe."""
    rows = {"tuned": 20, "probe": 1000}
    real = TunedModel.forward_from

    def forward_from(self: TunedModel, tokens: Tensor, start: int) -> Tensor:
        kind = "tuned" if self.first_tuned_block < DEPTH_OF_GLYPH else "probe"
        return Small(rows[kind], lambda x: real(self, x, start))(tokens)

    monkeypatch.setattr(TunedModel, "forward_from", forward_from)
    return rows


ADAPTER = Design((Placement("mlp", AdapterConfig(2), "parallel"),))


def study_in(folder: Path, name: str) -> Study:
    task = 'name = "tiny"\n[backbone]\nname = "glyph_vit"\n[data]\nsource = "digits"\nproxy = 100\nvalidation = 60\n'
    (folder / "task.toml").write_text(task + "[training]\nepochs = 2\nbatch_size = 50\nrungs = [1]\n")
    (folder / "space.toml").write_text(SPACE)
    return Study.create(str(folder / "space.toml"), str(folder / "task.toml"), name=name, studies_dir=folder)


def test_an_evaluation_with_little_memory_gives_the_same(short: dict[str, int]) -> None:
    evaluator = Evaluator(TASK, Runtime())
    results = []
    for rows in (1000, 20):
        short["tuned"] = rows
        *_, result = evaluator.evaluate(ADAPTER.resolve(DEPTH_OF_GLYPH), 3)
        assert isinstance(result, Result)
        results.append(result)
    assert [r.accumulation for r in results] == [1, 4]  # 50, 25, 13
    assert results[0].accuracy == pytest.approx(results[1].accuracy, abs=1 / 60)


@pytest.mark.usefixtures("short")
def test_a_study_notes_what_did_not_fit(tmp_path: Path) -> None:
    study = study_in(tmp_path, "noted")
    assert study.run(Budget(trials=5), workers=0)
    records = study.trials()
    assert {r.state for r in records} == {"complete"}
    probe, adapter, *again = records
    assert (probe.preset, probe.accumulation, probe.reason) == ("linear-probe", 1, "")
    assert (adapter.preset, adapter.accumulation) == ("adapter", 4)
    assert adapter.reason == "out of memory: batches of 50 were taken in 4 parts"
    reused = [r for r in again if r.reused == adapter.number]
    assert reused, "no trial reused the adapter"
    assert all((r.accumulation, r.reason) == (4, adapter.reason) for r in reused)
    attributes = [t.user_attrs for t in study._optuna.get_trials()]
    assert "accumulation" not in attributes[0]
    assert attributes[1]["accumulation"] == 4
    path = tmp_path / "trials.csv"
    path.write_text(table(records).to_csv(index=False))
    assert read_table(path)["reason"].tolist()[:2] == ["", adapter.reason]
    assert study.front()[-1].reason in ("", adapter.reason)


def test_pruned_trials_note_it_and_failed_ones_say_why(tmp_path: Path) -> None:
    scheduler = study_in(tmp_path, "states").scheduler
    for wanted in ("pruned", "failed"):
        running, _ = scheduler.ask()
        scheduler.rung(running, Report(1, 0.1, 1.0, 2))
        if wanted == "pruned":
            scheduler.pruned(running, 1.0)
        else:
            scheduler.failed(running, "the loss is finite", 1.0)
    pruned, failed = scheduler.records()
    assert (pruned.state, pruned.reason) == ("pruned", note(50, 2))
    assert (failed.state, failed.reason) == ("failed", "the loss is finite")


def test_a_design_that_does_not_fit_at_all_fails_alone(tmp_path: Path, short: dict[str, int]) -> None:
    short["tuned"] = 0
    study = study_in(tmp_path, "short")
    assert study.run(Budget(trials=3), workers=0)
    probe, adapter, *_ = study.trials()
    assert (probe.state, probe.reason) == ("complete", "")
    assert (adapter.state, adapter.reason) == ("failed", f"out of memory: {SAID.splitlines()[0]}")
