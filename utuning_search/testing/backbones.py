"""The contract of backbone families: an adapter does what it claims, step by step as the model itself does."""

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from utuning_search.backbones import registry
from utuning_search.backbones.family import BackboneAdapter, BackboneBlock
from utuning_search.backbones.merge import merge
from utuning_search.backbones.registry import adapter_of
from utuning_search.common.errors import BackboneError
from utuning_search.designs.design import Design
from utuning_search.designs.legality import misplaced
from utuning_search.designs.placement import Placement
from utuning_search.testing.models import parts, same_snapshot, snapshot, tuned
from utuning_search.testing.recorder import Recorder
from utuning_search.tuners import (
    LINEAR_OPERATIONS,
    OPERATIONS,
    OUTSIDE_OPERATIONS,
    AdapterConfig,
    BackboneShape,
    LoraConfig,
    Operation,
    PrefixConfig,
    PromptConfig,
)

Maker = Callable[[], nn.Module]
WITHIN = ("qkv", "q", "k", "v", "proj")  # operations that see what fills up windows
READ = ("norm1", "qkv", "q", "k", "v")  # and those that see the tokens of which an attention makes fewer
# Whole operations with their norm, without it, and what they are made of.
HALVES: tuple[tuple[Operation, Operation, Operation, tuple[str, ...]], ...] = (
    ("attention", "norm1", "mhsa", ("q", "k", "v", "proj")),
    ("mlp", "norm2", "ffn", ("fc1", "fc2")),
)


class BackboneContract:
    """Inherit it in a test module, and name an adapter, which is registered, and tiny models of its family:

    class TestMine(BackboneContract):
        adapter = MyAdapter
        models = {"plain": make_plain, "gated": make_gated}

    A maker gives a fresh model without a head in evaluation mode, with at least two blocks and random weights that are
    the same each time. The first makes the family's plainest, whose attention knows no places and sees all tokens; of
    a family that has no such models `placeless` is false.

    Where windows of a family's attention cut tokens out of their order, patches overlap, or a block does more than add
    the outputs of attention and MLP to its residual stream, `reorders`, `overlaps` and `plain_residuals` say so.
    """

    adapter: ClassVar[type[BackboneAdapter]]
    models: ClassVar[Mapping[str, Maker]]
    reorders: ClassVar[bool] = False
    overlaps: ClassVar[bool] = False
    plain_residuals: ClassVar[bool] = True
    placeless: ClassVar[bool] = True

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "make" in metafunc.fixturenames:
            metafunc.parametrize("make", list(self.models.values()), ids=list(self.models))
        if "plainest" in metafunc.fixturenames:
            name = next(iter(self.models))
            metafunc.parametrize("plainest", [self.models[name]], ids=[name])

    def setup_method(self) -> None:
        """Each test draws from its own fresh stream, whatever ran before."""
        torch.default_generator.manual_seed(0)

    # The adapter

    def test_its_family_alone_recognises_it(self, make: Maker) -> None:
        model = make()
        (family,) = (f for f in registry.FAMILIES.values() if f.recognises(model))
        assert type(adapter_of(model)) is family is self.adapter
        assert set(family.operations) <= set(OPERATIONS)
        assert not any(f.recognises(nn.Linear(2, 2)) for f in registry.FAMILIES.values())

    def test_shape_says_what_there_is(self, make: Maker) -> None:
        model = make()
        adapter = adapter_of(model)
        assert adapter.shape.depth == len(adapter.blocks)
        named = [(n, p) for n, p in model.named_parameters() if not n.startswith(adapter.head)]
        assert adapter.shape.parameters == sum(p.numel() for _, p in named)
        shape, family = adapter.shape, self.adapter
        assert set(shape.lacks) == set(OPERATIONS) - set(family.operations)
        assert (shape.attends, shape.joins) == (family.attends, family.joins)
        assert shape.num_features == adapter.num_features

    @torch.no_grad()
    def test_the_adapter_changes_nothing(self, make: Maker) -> None:
        model = make()
        model.requires_grad_(True)
        before, modules = snapshot(model), parts(model)
        adapter = adapter_of(model)
        assert not any(isinstance(part, nn.Module) for part in (adapter, *adapter.blocks))
        assert adapter.model is model
        last = len(adapter.blocks) - 1
        tokens = adapter.enter(last, adapter.run(adapter.embed(pictures(adapter)), 0, last))
        adapter.pool(adapter.blocks[last].run(tokens, Recorder(steps=True)))
        assert same_snapshot(snapshot(model), before)
        assert parts(model) == modules

    def test_blocks_of_several_widths_are_refused(self, plainest: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Sizes are told from one block's widths, so another block must not have others, unless there are stages."""
        model = plainest()
        adapter = adapter_of(model)
        if adapter.shape.stages:
            return
        operation: Operation = "fc2" if "fc2" in adapter.operations else "qkv"
        last: Any = adapter.blocks[-1].linear(operation)
        monkeypatch.setattr(last.module, "in_features", 7)
        rule = rf"block {len(adapter.blocks)}: all blocks are of one width, .* at "
        with pytest.raises(BackboneError, match=rule):
            tuned(model, Placement(operation, LoraConfig(1)))

    # Steps

    @torch.no_grad()
    def test_step_by_step_it_is_the_models_own_forward(self, make: Maker) -> None:
        """Embedding, blocks and pooling; the blocks bare, and with tuners inside that add nothing."""
        model = make()
        adapter = adapter_of(model)
        images = pictures(adapter)
        tokens = adapter.embed(images)
        features = adapter.pool(adapter.run(tokens, 0, len(adapter.blocks)))
        assert torch.equal(features, model(images))
        assert features.shape == (3, adapter.num_features)
        for i, block in enumerate(adapter.blocks):
            tokens = adapter.enter(i, tokens)
            bare, shape = block(tokens), adapter.shape.at(i + 1)
            assert bare.shape == (3, adapter.num_prefix_tokens + math.prod(shape.grid), shape.dim)
            for steps in (False, True):
                assert torch.equal(block.run(tokens, Recorder(steps=steps)), bare)
            tokens = bare

    @torch.no_grad()
    def test_any_stretch_of_blocks_can_be_run(self, make: Maker) -> None:
        adapter = adapter_of(make())
        tokens, depth = adapter.embed(pictures(adapter)), len(adapter.blocks)
        assert adapter.run(tokens, 1, 1) is tokens
        assert torch.equal(adapter.run(adapter.run(tokens, 0, 1), 1, depth), adapter.run(tokens, 0, depth))

    @torch.no_grad()
    def test_prefix_tokens_come_before_a_grid_row_by_row(self, make: Maker) -> None:
        """Changing one pixel changes one token before the blocks: that of its patch."""
        adapter = adapter_of(make())
        shape = adapter.shape.at(1)
        rows, columns = shape.grid
        images = pictures(adapter, 1)
        tokens = adapter.embed(images)
        assert tokens.shape == (1, adapter.num_prefix_tokens + rows * columns, shape.dim)
        size = adapter.image_size
        for row, column in ((0, 0), (0, columns - 1), (rows - 1, 0), (1, 2)):
            changed = images.clone()
            changed[..., row * size // rows, column * size // columns] += 1
            differs = (adapter.embed(changed) != tokens).any(dim=-1)[0]
            found = differs.nonzero().flatten().tolist()
            if self.overlaps:  # those around it see the pixel too
                away = [divmod(token - adapter.num_prefix_tokens, columns) for token in found]
                assert (row, column) in away
                assert all(abs(a - row) <= 1 and abs(b - column) <= 1 for a, b in away)
            else:
                assert found == [adapter.num_prefix_tokens + row * columns + column]

    @torch.no_grad()
    def test_what_lies_outside_the_blocks_is_passed_once(self, make: Maker) -> None:
        """Embedding and pooling with tuners that add nothing are those without, bit for bit."""
        adapter = adapter_of(make())
        images = pictures(adapter)
        tokens = adapter.embed(images)
        if "patches" in adapter.operations:
            recorder = Recorder(steps=True)
            assert torch.equal(adapter.embed_tuned(images, recorder), tokens)
            assert recorder.order == ["patches"]
        if "final" in adapter.operations:
            recorder = Recorder(steps=True)
            last = adapter.run(tokens, 0, len(adapter.blocks))
            assert torch.equal(adapter.pool_tuned(last, recorder), adapter.pool(last))
            assert recorder.order == ["final"]

    # Operations

    @torch.no_grad()
    def test_a_block_passes_each_operation_once_at_its_widths(self, make: Maker) -> None:
        adapter = adapter_of(make())
        tokens = adapter.embed(pictures(adapter))
        for i, block in enumerate(adapter.blocks):
            tokens, shape = adapter.enter(i, tokens), adapter.shape.at(i + 1)
            recorder = Recorder(steps=True)
            block.run(tokens, recorder)
            asked = [o for o in recorder.order if o in OPERATIONS]
            inside = [o for o in adapter.operations if o not in ("block", *OUTSIDE_OPERATIONS)]
            assert sorted(asked) == sorted(inside)
            assert recorder.blocks == {id(block)}
            for operation, (x, y) in recorder.seen.items():
                assert (x.shape[-1], y.shape[-1]) == block.widths(operation) == shape.widths(operation)
                assert x.shape[:-1] == y.shape[:-1] == (tokens.shape[0], self._count(adapter, shape, operation))
            if "block" in adapter.operations:
                assert block.widths("block") == (tokens.shape[-1],) * 2
            for whole, norm, core, inner in HALVES:
                if whole in recorder.seen:
                    norm = "norm1" if shape.one_norm else norm
                    self._check_order(recorder.order, whole, norm, core, inner, post_norm=shape.post_norm)
                    self._check_half(block, recorder, whole, norm, core, shape)
                    assert block.norm(norm) is block.norm(whole)
            self._check_residuals(recorder, tokens, block(tokens), shape)
            tokens = block(tokens)

    def _count(self, adapter: BackboneAdapter, shape: BackboneShape, operation: Operation) -> int:
        """How many tokens pass an operation of a block whose shape is given."""
        stage = shape.stages[0] if shape.stages else None
        if stage and stage.read and operation in READ:
            return stage.read
        if stage and stage.attended and operation in WITHIN:
            return stage.attended
        return adapter.num_prefix_tokens + math.prod(shape.grid)

    def _check_order(
        self, order: list[str], whole: str, norm: str, core: str, inner: tuple[str, ...], *, post_norm: bool
    ) -> None:
        norms, made = [f"norm of {whole}", norm], [*(o for o in inner if o in order), core]
        parts = [*made, *norms] if post_norm else [*norms, *made]
        places = [order.index(o) for o in (*(p for p in parts if p in order), whole)]
        assert places == sorted(places), f"{whole} comes after what it is made of"

    def _check_half(
        self,
        block: BackboneBlock,
        recorder: Recorder,
        whole: Operation,
        norm: Operation,
        core: Operation,
        shape: BackboneShape,
    ) -> None:
        """A norm before attention or MLP reads what the whole reads; one after gives what the whole gives."""
        (x, y), (before, after) = recorder.seen[whole], recorder.seen[norm]
        assert torch.equal(after, block.normed(norm, before))
        if core not in recorder.seen:  # it may give other tokens than it reads
            assert torch.equal(before, x) is not shape.widens
            return
        read, given = recorder.seen[core]
        read_first, given_first, read_last, given_last = (
            (read, given, before, after) if shape.post_norm else (before, after, read, given)
        )
        assert torch.equal(read_first, x)
        assert torch.equal(read_last, given_first)
        assert torch.equal(given_last, y)

    def _check_residuals(self, recorder: Recorder, tokens: Tensor, out: Tensor, shape: BackboneShape) -> None:
        """What a block gives is its residual stream with the outputs of attention and MLP added."""
        if shape.widens:  # the stream is what its shortcut gives
            tokens = recorder.seen["attention"][0]
        if "attention" in recorder.seen:
            assert torch.equal(recorder.seen["attention"][0], tokens)
        if self.plain_residuals:
            stream = tokens
            for whole in ("attention", "mlp"):
                if whole in recorder.seen:
                    x, y = recorder.seen[whole]
                    assert torch.equal(x, stream)
                    stream = x + y
            assert torch.equal(stream, out)

    @torch.no_grad()
    def test_linear_maps_are_those_behind_the_operations(self, make: Maker) -> None:
        adapter = adapter_of(make())
        tokens = adapter.embed(pictures(adapter))
        for i, block in enumerate(adapter.blocks):
            tokens = adapter.enter(i, tokens)
            recorder = Recorder(steps=True)
            block.run(tokens, recorder)
            tokens = block(tokens)
            for operation in [o for o in LINEAR_OPERATIONS if o in adapter.operations]:
                linear, (x, y) = block.linear(operation), recorder.seen[operation]
                assert linear is not None
                assert block.widths(operation) == linear.widths == linear.weight().shape[::-1]
                assert torch.allclose(F.linear(x, linear.weight(), linear.bias()), y, atol=1e-5)
                assert block.ends_in_linear(operation)
            ends: tuple[tuple[Operation, Operation], ...] = (("attention", "proj"), ("mlp", "fc2"))
            for outer, last in (end for end in ends if set(end) <= recorder.seen.keys()):
                assert block.linear(outer) == block.linear(last)
                if block.ends_in_linear(outer):
                    outs = [recorder.seen[o][1] for o in (outer, last)]
                    if self.reorders and outs[0].shape != outs[1].shape:
                        continue  # with what fills up windows
                    whole, inner = (out.flatten().sort().values if self.reorders else out for out in outs)
                    assert torch.equal(whole, inner)

    @torch.no_grad()
    def test_frozen_projections_make_the_blocks_own_attention(self, plainest: Maker) -> None:
        """Attending to its own keys and values is the attention itself, but for the output projection's bias."""
        adapter = adapter_of(plainest())
        if not (adapter.attends and self.placeless):
            return
        tokens = adapter.embed(pictures(adapter, 1))
        for i, block in enumerate(adapter.blocks):
            tokens, shape = adapter.enter(i, tokens), adapter.shape.at(i + 1)
            recorder = Recorder(steps=True)
            block.run(tokens, recorder)
            k, v = block.keys_values(recorder.seen["mhsa"][0][0])
            assert k.shape == v.shape == (shape.kv_heads, tokens.shape[1], shape.head_dim)
            linear, own = block.linear("proj"), recorder.seen["mhsa"][1]
            bias = None if linear is None else linear.bias()
            assert bias is not None
            assert torch.allclose(block.attend(tokens, k, v) + bias, own, atol=1e-5)
            tokens = block(tokens)

    @torch.no_grad()
    def test_plain_matmuls_compute_the_same(self, make: Maker) -> None:
        model = make().double()
        plain = copy.deepcopy(model)
        adapter_of(plain).unfuse_attention()
        images = pictures(adapter_of(model)).double()
        assert torch.allclose(plain(images), model(images), rtol=0, atol=1e-10)
        names = dict(plain.named_parameters())
        assert all(torch.equal(p, names[n]) for n, p in model.named_parameters())

    # Tuners

    @torch.no_grad()
    def test_a_design_without_tuners_is_the_bare_model(self, make: Maker) -> None:
        model = make()
        empty = tuned(model)
        images = pictures(empty.adapter)
        assert torch.equal(empty(images), empty.head(model(images)))

    @torch.no_grad()
    def test_a_copy_of_a_tuned_model_runs_on_its_own_backbone(self, plainest: Maker) -> None:
        backbone = plainest()
        operation: Operation = "mlp" if "mlp" in adapter_of(backbone).operations else "block"
        model = tuned(backbone, Placement(operation, AdapterConfig(2)), random=True)
        images = pictures(model.adapter)
        before = model(images)
        twin = copy.deepcopy(model)
        assert twin.adapter.model is twin.backbone is not model.backbone
        assert torch.equal(twin(images), before)
        for parameter in twin.backbone.parameters():
            parameter.zero_()
        assert not torch.allclose(twin(images), before)
        assert torch.equal(model(images), before)

    def test_tuners_of_every_kind_run_train_and_merge(self, plainest: Maker) -> None:
        """LoRA at each linear map folds away; what reads or joins the attention stays, and the function with it."""
        backbone = plainest().double()
        adapter = adapter_of(backbone)
        linear = [o for o in LINEAR_OPERATIONS if o in adapter.operations]
        loras = [Placement(o, LoraConfig(2), form) for o in linear for form in ("parallel", "sequential")]
        others = [
            Placement("attention", PrefixConfig(2, "exact")),
            Placement("attention", PrefixConfig(2, "gated")),
            Placement("attention", PrefixConfig(2, "parallel")),
            Placement("block", PromptConfig(2, "deep")),
            Placement("block", PromptConfig(2, "parallel")),
            Placement("mlp", AdapterConfig(2), "mixed"),
        ]
        others = [p for p in others if misplaced(Design((p,)), adapter.shape) is None]
        images = pictures(adapter).double()
        for placements, left in ((loras, False), ([*loras, *others], True)):
            model = tuned(backbone, *placements, random=True, double=True)
            logits = model(images)
            logits.square().sum().backward()
            assert all(p.grad is not None and p.grad.any() for p in model.tuners.parameters())
            assert all(p.grad is None for p in backbone.parameters())
            merged = merge(model)
            assert (len(merged.tuners) > 0) == left
            with torch.no_grad():
                assert torch.allclose(merged(images), logits, rtol=0, atol=1e-9)


def _changes_tokens(shape: BackboneShape) -> bool:
    """Whether a block, whose shape is given, gives wider or fewer tokens than it reads."""
    return any(stage.dim_in or stage.read for stage in shape.stages)


def pictures(adapter: BackboneAdapter, count: int = 3) -> Tensor:
    """Normalised images for a model."""
    size = adapter.image_size
    return torch.randn(count, adapter.channels, size, size, generator=torch.Generator().manual_seed(3))
