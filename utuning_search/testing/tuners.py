"""The contract of tuners: at every corner of what it allows, a tuner does what it claims."""

import pickle
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import pytest
import tomli_w
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from utuning_search.backbones.loading import freeze
from utuning_search.backbones.merge import merge
from utuning_search.backbones.placed_tuner import PlacedTuner
from utuning_search.backbones.quick_block import quick, tokens_read
from utuning_search.backbones.registry import adapter_of
from utuning_search.backbones.tuned_block import TunedBlock
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design
from utuning_search.designs.flops import num_flops
from utuning_search.designs.placement import PLACEMENT_KEYS, Placement
from utuning_search.testing.cases import Case, Options, cases, readings
from utuning_search.testing.models import (
    CLASSES,
    DEPTH,
    images,
    parts,
    same_snapshot,
    snapshot,
    tiny_vit,
    tuned,
)
from utuning_search.tuners import (
    FORMS,
    GATE,
    LINEAR_OPERATIONS,
    NORM_OPERATIONS,
    OPERATIONS,
    OUTSIDE_OPERATIONS,
    AdapterConfig,
    BiasConfig,
    InsideTuner,
    LoraConfig,
    NormConfig,
    PrefixConfig,
    PromptConfig,
    ScaleShiftConfig,
    Site,
    Tuner,
    TunerConfig,
)

FOLDING_OPERATIONS = LINEAR_OPERATIONS + NORM_OPERATIONS + OUTSIDE_OPERATIONS
SITES = (Site(6, 6, 3, 2), Site(4, 12, 2, 2), Site(12, 4, 2, 2))
NO_COUNTS: tuple[object, ...] = (0, -1, 10**6, 1.5, "8", True, None)
# What a tuner meets in one block where its own class names no others: tuners that fold, and tuners in their way.
OTHERS = (
    *(Placement(operation, LoraConfig(2)) for operation in LINEAR_OPERATIONS),
    Placement("attention", ScaleShiftConfig()),
    Placement("norm2", BiasConfig()),
    Placement("mlp", NormConfig()),
    Placement("proj", AdapterConfig(2), "sequential"),
    Placement("fc2", AdapterConfig(2), "parallel"),
    Placement("ffn", AdapterConfig(2)),
    Placement("attention", PrefixConfig(2, "exact")),
    Placement("attention", PromptConfig(2, "parallel")),
)


class TunerContract:
    """Inherit it in a test module, and name a tuner's config and the corners of its options:

    class TestMine(TunerContract):
        tuner = MyConfig
        corners = ({"rank": 1, "activation": "gelu"}, {"rank": 3, "activation": "relu"})

    Each option takes two values or more, text every value that it may have; ({},) where there is no option. Whole
    numbers are sizes, refused by `tuners.check_count`; text is a name, refused by `tuners.check_choice`.
    """

    tuner: ClassVar[type[TunerConfig]]
    corners: ClassVar[Sequence[Options]]
    shared: ClassVar[nn.Module]
    shared64: ClassVar[nn.Module]
    partly: ClassVar[nn.Module]
    images: ClassVar[Tensor]
    _before: ClassVar[list[dict[str, tuple[bool, Tensor]]]]
    _threads: ClassVar[int]

    @classmethod
    def others(cls, case: Case) -> Sequence[Placement]:
        """What stands beside one of its cases, each by itself, when the two are merged."""
        del case
        return OTHERS

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        found = tuple(cases(self.tuner, self.corners))
        together = [c for c in readings(found) if self.others(c)]
        values: dict[str, Sequence[tuple[str, object]]] = {
            "case": [(c.name, c) for c in found],
            "together": [(c.name, c) for c in together],
            "refused": sorted(_refused(self.tuner, self.corners), key=lambda refused: refused[0]),
            "site": [(f"{s.in_dim} to {s.out_dim}", s) for s in SITES],
            "count": [(repr(v), v) for v in NO_COUNTS],
        }
        for name in set(values) & set(metafunc.fixturenames):
            metafunc.parametrize(name, [v for _, v in values[name]], ids=[i for i, _ in values[name]])

    @classmethod
    def setup_class(cls) -> None:
        """One backbone for all tests, which have to leave it as it was; one in double precision, pooled by average, so
        that every token of every block matters; and one of which every third parameter is trainable.
        """
        cls._threads = torch.get_num_threads()
        torch.set_num_threads(1)
        cls.shared, cls.shared64 = freeze(tiny_vit()), freeze(tiny_vit(global_pool="avg").double())
        cls._before = [snapshot(cls.shared), snapshot(cls.shared64)]
        cls.partly, cls.images = tiny_vit(), images()
        for i, parameter in enumerate(cls.partly.parameters()):
            parameter.requires_grad_(i % 3 == 0)

    @classmethod
    def teardown_class(cls) -> None:
        torch.set_num_threads(cls._threads)
        same = [same_snapshot(snapshot(m), b) for m, b in zip((cls.shared, cls.shared64), cls._before, strict=True)]
        assert all(same), "a test changed the shared backbone"

    def setup_method(self) -> None:
        """Each test draws from its own fresh stream, whatever ran before."""
        torch.default_generator.manual_seed(0)

    # Claims

    def test_it_has_a_kind_a_summary_and_references(self) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", self.tuner.kind)
        assert self.tuner.kind != "none"
        assert self.tuner.summary
        assert self.tuner.references
        for reference in self.tuner.references:
            assert reference.title
            assert reference.arxiv.count(".") == 1
            assert reference.arxiv.replace(".", "").isdigit()
            assert 2015 < reference.year < 2100
            assert reference.bibtex().startswith("@")
            assert reference.bibtex().count("{") == reference.bibtex().count("}")
            assert reference.arxiv in str(reference)

    def test_options_have_names_of_their_own(self) -> None:
        """They stand beside the keys of placements and slots."""
        assert not {f.name for f in fields(self.tuner)} & {"kind", "name", *PLACEMENT_KEYS}

    def test_corners_vary_every_option(self) -> None:
        assert self.corners
        for field in fields(self.tuner):
            assert len({corner[field.name] for corner in self.corners}) > 1, field.name

    def test_corners_reach_every_named_value(self) -> None:
        """The refusal of a made-up value lists the legal ones; each stands in a corner."""
        for field in fields(self.tuner):
            named = {c[field.name] for c in self.corners if type(c[field.name]) is str}
            if named:
                with pytest.raises(InputError) as refused:
                    self.tuner(**{**self.corners[0], field.name: "no such value"})
                assert set(refused.value.rule.split(" is one of ")[1].split(", ")) == named

    def test_sizes_are_counts_with_a_maximum(self, count: object) -> None:
        corner = self.corners[0]
        for name in [name for name, v in corner.items() if type(v) is int]:
            rule = rf"tuner '{self.tuner.kind}': {name} is an integer from 1 to \d+; got"
            with pytest.raises(InputError, match=rule):
                self.tuner(**{**corner, name: count})

    def test_what_is_not_claimed_cannot_be_built(self, refused: tuple[TunerConfig, dict[str, Any]]) -> None:
        tuner, where = refused
        with pytest.raises(InputError, match=f"placement of '{tuner.kind}' at '{where['operation']}': "):
            Placement(tuner=tuner, blocks="first 1", **where)

    def test_claims_are_legal_and_dict_round_trips(self, case: Case) -> None:
        claims, placement = case.claims, case.placement
        assert set(claims.operations) <= set(OPERATIONS)
        forms = claims.forms_at(placement.operation)
        assert set(forms) <= set(FORMS)
        assert placement.form in forms
        assert Placement(placement.operation, claims, blocks=placement.blocks).form == forms[0]
        design = Design((placement,), learning_rate=1e-3)
        assert Placement.from_dict(placement.to_dict()) == placement
        assert Design.from_dict(design.to_dict()) == design
        assert Design.from_dict(tomllib.loads(tomli_w.dumps(design.to_dict()))) == design
        assert pickle.loads(pickle.dumps(design)) == design
        resolved = design.resolve(DEPTH)
        again = Design.from_dict(tomllib.loads(tomli_w.dumps(resolved.to_dict())))
        assert again.key == resolved.key
        assert again.resolve(DEPTH) == resolved

    def test_configs_claim_what_their_modules_do(self, case: Case) -> None:
        """What closed forms take from a config is what its module gives."""
        shape = adapter_of(self.shared).shape
        claims, block = case.claims, TunedBlock([case.placement], shape)
        (group,) = (*block.added.values(), *block.inside.values())
        (module,) = group.children()
        if isinstance(module, InsideTuner):
            tokens, rows = module.extra_tokens(), module.extra_keys_values(torch.zeros(2, 3, shape.dim))
            assert claims.extra_tokens == (0 if tokens is None else len(tokens))
            assert claims.extra_keys == (0 if rows is None else rows[0].shape[-2])
            assert module.stays is (claims.once and claims.extra_tokens > 0)
            assert claims.changes_norm is (type(module).normalise is not InsideTuner.normalise)
            return
        assert isinstance(module, PlacedTuner)
        for part in filter(None, (module.parallel, module.sequential)):
            assert isinstance(part, Tuner)
            if part.shares is not None:
                part.connect(claims.build_shared(case.placement.sites(shape)[0]))
            weight = torch.ones(case.placement.sites(shape)[0].out_dim, case.placement.sites(shape)[0].in_dim)
            affine = part.affine(weight) if claims.reads_weight else part.affine()
            assert claims.mergeable is (affine is not None)
            assert claims.is_constant is (affine is not None and affine[0] is None)

    # Sizes

    def test_declared_size_is_counted_size(self, case: Case) -> None:
        design = Design((case.placement,))
        model = TunedModel(self.shared, design, CLASSES)
        shape = adapter_of(self.shared).shape
        assert sum(p.numel() for p in model.tuners.parameters()) == design.num_parameters(shape) > 0
        trained = [p for p in model.parameters() if p.requires_grad]
        assert sum(p.numel() for p in trained) == design.num_parameters(shape, CLASSES)
        assert {id(p) for p in trained} == {id(p) for p in model.parameters_trained()}

    def test_closed_form_holds_at_any_width(self, site: Site) -> None:
        for options in self.corners:
            config = self.tuner(**options)
            if site.in_dim == site.out_dim or set(config.operations) & set(LINEAR_OPERATIONS):
                assert sum(p.numel() for p in config.build(site).parameters()) == config.num_parameters(site)
                if config.shared_name(site) is not None:
                    shared = config.build_shared(site)
                    assert sum(p.numel() for p in shared.parameters()) == config.num_shared(site)

    def test_stated_flops_are_counted_flops(self, case: Case) -> None:
        """Of the merged model, with the attention as it is and with plain matmuls."""
        if self.tuner.num_flops is TunerConfig.num_flops:
            pytest.skip(f"{self.tuner.kind} states no FLOPs")
        merged = merge(tuned(self.shared, case.placement))
        expected = num_flops(Design((case.placement,)), adapter_of(self.shared).shape, CLASSES)
        assert _counted(merged, self.images[:1]) == expected
        merged.adapter.unfuse_attention()
        assert _counted(merged, self.images[:1]) == expected

    # Function

    def test_starts_as_claimed(self, case: Case) -> None:
        """Bit for bit the bare backbone where claimed, and something else where not."""
        model = tuned(self.shared, case.placement)
        with torch.no_grad():
            same = torch.equal(model(self.images), model.head(self.shared(self.images)))
        assert same == model.design.starts_as_backbone
        assert (case.claims.starts_at_zero and case.placement.form != "bypass") <= same

    def test_shape_and_dtype(self, case: Case) -> None:
        model = tuned(self.shared, case.placement, random=True)
        with torch.no_grad():
            logits, bare = model(self.images), model.head(self.shared(self.images))
            assert logits.shape == (len(self.images), CLASSES)
            assert logits.dtype == torch.float32
            assert not torch.allclose(logits, bare, atol=1e-5), "random weights change nothing"
            alone = torch.cat([model(image[None]) for image in self.images])
            assert torch.allclose(logits, alone, atol=1e-5), "an image sees the others of its batch"
            with torch.autocast("cpu", torch.bfloat16):
                assert model(self.images).dtype == torch.bfloat16

    def test_forward_from_the_first_tuned_block(self, case: Case) -> None:
        p = case.placement
        blocks = "all" if p.is_outside else "last 1"
        model = tuned(self.shared, Placement(p.operation, p.tuner, p.form, p.scale, blocks), random=True)
        first, adapter = model.first_tuned_block, model.adapter
        assert first == {"patches": -1, "final": DEPTH}.get(p.operation, DEPTH - 1)
        with torch.no_grad():
            tokens = self.images if first < 0 else adapter.run(adapter.embed(self.images), 0, first)
            assert torch.equal(model.forward_from(tokens, first), model(self.images))

    def test_only_the_token_that_is_read_is_needed_where_claimed(self, case: Case) -> None:
        """In the last block of a model that pools its class token; gates read all tokens, and so do unclaimed ones."""
        p = case.placement
        if p.is_outside:
            pytest.skip("outside the blocks nothing is left out")
        model = tuned(self.shared, Placement(p.operation, p.tuner, p.form, p.scale, "last 1"), random=True)
        read, alone = tokens_read(model.adapter, model.design), p.tuner.per_token and p.scale != GATE
        assert read == (1 if alone else None)
        with torch.no_grad():
            whole, blocks = model(self.images), quick(model.adapter.blocks, read)
            tokens = model.adapter.embed(self.images)
            assert torch.allclose(model.forward_from(tokens, 0, blocks), whole, atol=1e-5)

    def test_two_steps_train_every_tuner_parameter_and_nothing_frozen(self, case: Case) -> None:
        before = snapshot(self.shared64)
        model = TunedModel(self.shared64, Design((case.placement,)), CLASSES).double().train()
        start = {n: p.detach().clone() for n, p in model.tuners.named_parameters()}
        optimizer = torch.optim.SGD(model.parameters_trained(), lr=1.0)
        labels = torch.arange(len(self.images)) % CLASSES
        reached: set[str] = set()
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(model(self.images.double()), labels).backward()
            reached |= {n for n, p in model.tuners.named_parameters() if p.grad is not None and p.grad.any()}
            optimizer.step()
        self.shared64.eval()
        assert [n for n in start if n not in reached] == []
        assert [n for n, p in model.tuners.named_parameters() if torch.equal(p, start[n])] == []
        assert all(p.grad is None and not p.requires_grad for p in self.shared64.parameters())
        assert same_snapshot(snapshot(self.shared64), before)

    # Life

    def test_tuner_state_restores_the_model(self, case: Case) -> None:
        trained = tuned(self.shared, case.placement, random=True)
        state = trained.tuner_state_dict()
        assert not any(name.startswith("backbone.") for name in state)
        fresh = tuned(self.shared, case.placement)
        with torch.no_grad():
            assert not torch.equal(fresh(self.images), trained(self.images))
            fresh.load_tuner_state_dict(state)
            assert torch.equal(fresh(self.images), trained(self.images))

    def test_detach_restores_the_backbone(self, case: Case) -> None:
        backbone = self.partly
        assert {p.requires_grad for p in backbone.parameters()} == {True, False}
        before, modules = snapshot(backbone), parts(backbone)
        with torch.no_grad():
            plain = backbone(self.images)
            model = tuned(backbone, case.placement, random=True)
            assert not any(p.requires_grad for p in backbone.parameters())
            model(self.images)
            assert torch.equal(backbone(self.images), plain), "attached tuners reach the backbone itself"
            assert model.detach() is backbone
            assert torch.equal(backbone(self.images), plain)
        assert same_snapshot(snapshot(backbone), before)
        assert parts(backbone) == modules
        hooks = [h for m in backbone.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks, *m._backward_hooks)]
        assert not hooks
        assert not any("forward" in vars(m) for m in backbone.modules())

    def test_merge_computes_the_same(self, case: Case) -> None:
        """Folded or not, the logits stay; what claims to merge is gone from where it claims it."""
        claims, placement = case.claims, case.placement
        model = tuned(self.shared64, placement, random=True, double=True)
        before, pixels = snapshot(model), self.images.double()
        merged = merge(model)
        with torch.no_grad():
            assert torch.allclose(merged(pixels), model(pixels), rtol=0, atol=1e-9)
        assert same_snapshot(snapshot(model), before)
        foldable = placement.operation in FOLDING_OPERATIONS or claims.forms == ("inside",)
        if claims.mergeable and foldable and placement.scale != GATE:
            assert len(merged.tuners) == 0
        if not claims.mergeable or placement.scale == GATE:
            assert merged.tuners.state_dict().keys() == model.tuners.state_dict().keys()

    def test_merge_beside_another_tuner_computes_the_same(self, together: Case) -> None:
        """A weight must not be folded into while something else reads it, or the map's output, as it was."""
        backbone, wrong = tiny_vit(depth=1, global_pool="avg").double(), []
        pixels, others = self.images[:2].double(), self.others(together)
        for other in others:
            model = tuned(backbone, together.placement, other, random=True, double=True)
            with torch.no_grad():
                gap = (merge(model)(pixels) - model(pixels)).abs().max().item()
            if gap > 1e-9:
                wrong.append(f"{other}: {gap:.1e}")
        assert not wrong, f"not the same function beside {len(wrong)} of {len(others)}:\n" + "\n".join(wrong)


def _counted(model: nn.Module, pixels: Tensor) -> int:
    """What torch counts."""
    model.requires_grad_(False)  # the counter's module hooks stumble over parameters that come out of a module
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(pixels)
    return int(counter.get_total_flops())


def _refused(
    tuner_class: type[TunerConfig], corners: Sequence[Options]
) -> Iterator[tuple[str, tuple[TunerConfig, dict[str, Any]]]]:
    """Names, configs and placements that the tuner does not claim."""
    for options in corners:
        tuner = tuner_class(**options)
        home = {"operation": tuner.operations[0], "form": tuner.forms[0]}
        name = "-".join(map(str, (tuner.kind, *options.values())))
        for operation in set(OPERATIONS) - set(tuner.operations):
            yield f"{name} at {operation}", (tuner, {**home, "operation": operation})
        for operation in tuner.operations:
            for form in set(FORMS) - set(tuner.forms_at(operation)):
                yield f"{name} {form} at {operation}", (tuner, {"operation": operation, "form": form})
        if not tuner.scalable:
            for scale in ("scalar", "channel", "gate", 0.5):
                yield f"{name} x {scale}", (tuner, {**home, "scale": scale})
