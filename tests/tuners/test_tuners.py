"""The contract of tuners: every registered one, at every corner of what it allows, does what it claims."""

import copy
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
import tomli_w
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from utuning_search.backbones.merge import merge
from utuning_search.backbones.tuned_model import TunedModel
from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design, Placement
from utuning_search.tuners import (
    FORMS,
    LINEAR_OPERATIONS,
    NORM_OPERATIONS,
    OPERATIONS,
    TUNERS,
    Site,
    Tuner,
    TunerConfig,
    tuner_class,
)

from ..helpers import (
    CASES,
    CLASSES,
    CORNERS,
    DEPTH,
    Case,
    bare_logits,
    embed,
    randomise,
    same_snapshot,
    shape_of,
    snapshot,
    tiny_vit,
    tuned,
)

every_case = pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
every_tuner = pytest.mark.parametrize("tuner", TUNERS, ids=[t.kind for t in TUNERS])


# The registry


def test_kinds_are_distinct() -> None:
    assert len({t.kind for t in TUNERS}) == len(TUNERS)
    assert all(tuner_class(t.kind, "here") is t for t in TUNERS)


def test_every_registered_tuner_has_corners() -> None:
    assert set(CORNERS) == {t.kind for t in TUNERS}


@every_tuner
def test_corners_vary_every_option(tuner: type[TunerConfig]) -> None:
    corners = CORNERS[tuner.kind]
    assert corners
    for field in fields(tuner):
        assert len({corner[field.name] for corner in corners}) > 1, field.name


@every_tuner
def test_corners_reach_every_named_value(tuner: type[TunerConfig]) -> None:
    """The refusal of a made-up value lists the legal ones; each stands in a corner."""
    for field in fields(tuner):
        named = {c[field.name] for c in CORNERS[tuner.kind] if type(c[field.name]) is str}
        if named:
            with pytest.raises(InputError) as refused:
                tuner(**{**CORNERS[tuner.kind][0], field.name: "no such value"})
            assert set(refused.value.rule.split(" is one of ")[1].split(", ")) == named


@every_tuner
@pytest.mark.parametrize("value", [0, -1, 10**6, 1.5, "8", True, None])
def test_sizes_are_counts_with_a_maximum(tuner: type[TunerConfig], value: object) -> None:
    corner = CORNERS[tuner.kind][0]
    for name in [name for name, v in corner.items() if type(v) is int]:
        with pytest.raises(InputError, match=rf"tuner '{tuner.kind}': {name} is an integer from 1 to \d+; got"):
            tuner(**{**corner, name: value})


@every_tuner
def test_references_exist(tuner: type[TunerConfig]) -> None:
    assert tuner.references
    assert tuner.summary
    for reference in tuner.references:
        assert reference.title
        assert reference.arxiv.count(".") == 1
        assert reference.arxiv.replace(".", "").isdigit()
        assert 2015 < reference.year < 2100
        assert reference.bibtex().startswith("@")
        assert reference.bibtex().count("{") == reference.bibtex().count("}")
        assert reference.arxiv in str(reference)


def test_reference_keys_name_one_paper_each() -> None:
    references = {r for t in TUNERS for r in t.references}
    assert len({r.key for r in references}) == len({r.arxiv for r in references}) == len(references)


def _refused() -> Iterator[tuple[str, TunerConfig, dict[str, Any]]]:
    for cls in TUNERS:
        for options in CORNERS[cls.kind]:
            tuner = cls(**options)
            home = {"operation": tuner.operations[0], "form": tuner.forms[0]}
            name = "-".join(map(str, (tuner.kind, *options.values())))
            for operation in set(OPERATIONS) - set(tuner.operations):
                yield f"{name} at {operation}", tuner, {**home, "operation": operation}
            for operation in tuner.operations:
                for form in set(FORMS) - set(tuner.forms_at(operation)):
                    yield f"{name} {form} at {operation}", tuner, {"operation": operation, "form": form}
            if not tuner.scalable:
                for scale in ("scalar", "channel", "gate", 0.5):
                    yield f"{name} x {scale}", tuner, {**home, "scale": scale}


REFUSED = sorted(_refused(), key=lambda case: case[0])


@pytest.mark.parametrize(("tuner", "where"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_what_is_not_claimed_cannot_be_built(tuner: TunerConfig, where: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"placement of '{tuner.kind}' at '{where['operation']}': "):
        Placement(tuner=tuner, blocks="first 1", **where)


# Values


@every_case
def test_claims_are_legal_and_dict_round_trips(case: Case) -> None:
    claims = case.claims
    assert set(claims.operations) <= set(OPERATIONS)
    forms = claims.forms_at(case.placement.operation)
    assert set(forms) <= set(FORMS)
    assert case.placement.form in forms
    assert Placement(case.placement.operation, claims, blocks=case.placement.blocks).form == forms[0]
    design = Design((case.placement,), learning_rate=1e-3)
    assert Placement.from_dict(case.placement.to_dict()) == case.placement
    assert Design.from_dict(design.to_dict()) == design
    assert Design.from_dict(tomllib.loads(tomli_w.dumps(design.to_dict()))) == design
    resolved = design.resolve(DEPTH)
    again = Design.from_dict(tomllib.loads(tomli_w.dumps(resolved.to_dict())))
    assert again.key == resolved.key
    assert again.resolve(DEPTH) == resolved


@every_case
def test_declared_size_is_counted_size(case: Case, shared: VisionTransformer) -> None:
    design = Design((case.placement,))
    model = TunedModel(shared, design, CLASSES)
    shape = shape_of(shared)
    assert sum(p.numel() for p in model.tuners.parameters()) == design.num_parameters(shape) > 0
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == design.num_parameters(shape, CLASSES)
    assert {id(p) for p in trained} == {id(p) for p in model.parameters_trained()}


@pytest.mark.parametrize("site", [Site(6, 6, 3, 2), Site(4, 12, 2, 2), Site(12, 4, 2, 2)])
@every_tuner
def test_closed_form_holds_at_any_width(tuner: type[TunerConfig], site: Site) -> None:
    for options in CORNERS[tuner.kind]:
        config = tuner(**options)
        if site.in_dim == site.out_dim or set(config.operations) & set(LINEAR_OPERATIONS):
            assert sum(p.numel() for p in config.build(site).parameters()) == config.num_parameters(site)
            if config.shared_name(site) is not None:
                shared = config.build_shared(site)
                assert sum(p.numel() for p in shared.parameters()) == config.num_shared(site) > 0


# Function


@every_case
def test_starts_as_claimed(case: Case, shared: VisionTransformer, images: Tensor) -> None:
    """Bit for bit the bare backbone where claimed, and something else where not."""
    model = tuned(shared, case.placement)
    with torch.no_grad():
        same = torch.equal(model(images), bare_logits(model, images))
    assert same == model.design.starts_as_backbone
    assert (case.claims.starts_at_zero and case.placement.form != "bypass") <= same


@every_case
def test_shape_and_dtype(case: Case, shared: VisionTransformer, images: Tensor) -> None:
    model = tuned(shared, case.placement, random=True)
    with torch.no_grad():
        logits = model(images)
        assert logits.shape == (len(images), CLASSES)
        assert logits.dtype == torch.float32
        assert not torch.allclose(logits, bare_logits(model, images), atol=1e-5), "random weights change nothing"
        alone = torch.cat([model(image[None]) for image in images])
        assert torch.allclose(logits, alone, atol=1e-5), "an image sees the others of its batch"
        with torch.autocast("cpu", torch.bfloat16):
            assert model(images).dtype == torch.bfloat16


@every_case
def test_forward_from_the_first_tuned_block(case: Case, shared: VisionTransformer, images: Tensor) -> None:
    p = case.placement
    model = tuned(shared, Placement(p.operation, p.tuner, p.form, p.scale, "last 1"), random=True)
    first = model.first_tuned_block
    assert first == DEPTH - 1
    with torch.no_grad():
        tokens = shared.blocks[:first](embed(shared, images))
        assert torch.equal(model.forward_from(tokens, first), model(images))


@every_case
def test_two_steps_train_every_tuner_parameter_and_nothing_frozen(
    case: Case, shared64: VisionTransformer, images: Tensor
) -> None:
    before = snapshot(shared64)
    model = TunedModel(shared64, Design((case.placement,)), CLASSES).double().train()
    start = {n: p.detach().clone() for n, p in model.tuners.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters_trained(), lr=1.0)
    reached: set[str] = set()
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(model(images.double()), torch.arange(len(images)) % CLASSES).backward()
        reached |= {n for n, p in model.tuners.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
    shared64.eval()
    assert [n for n in start if n not in reached] == []
    assert [n for n, p in model.tuners.named_parameters() if torch.equal(p, start[n])] == []
    assert all(p.grad is None and not p.requires_grad for p in shared64.parameters())
    assert same_snapshot(snapshot(shared64), before)


# Life


@every_case
def test_tuner_state_restores_the_model(case: Case, shared: VisionTransformer, images: Tensor) -> None:
    trained = tuned(shared, case.placement, random=True)
    state = trained.tuner_state_dict()
    assert not any(name.startswith("backbone.") for name in state)
    fresh = tuned(shared, case.placement)
    with torch.no_grad():
        assert not torch.equal(fresh(images), trained(images))
        fresh.load_tuner_state_dict(state)
        assert torch.equal(fresh(images), trained(images))


@pytest.fixture(scope="module")
def partly_trainable() -> VisionTransformer:
    """A backbone of which every third parameter is trainable."""
    backbone = tiny_vit()
    for i, parameter in enumerate(backbone.parameters()):
        parameter.requires_grad_(i % 3 == 0)
    return backbone


@every_case
def test_detach_restores_the_backbone(case: Case, partly_trainable: VisionTransformer, images: Tensor) -> None:
    backbone = partly_trainable
    assert {p.requires_grad for p in backbone.parameters()} == {True, False}
    before, modules = snapshot(backbone), [(n, id(m), m.training) for n, m in backbone.named_modules()]
    with torch.no_grad():
        plain = backbone(images)
        model = tuned(backbone, case.placement, random=True)
        assert not any(p.requires_grad for p in backbone.parameters())
        model(images)
        assert torch.equal(backbone(images), plain), "attached tuners reach the backbone itself"
        assert model.detach() is backbone
        assert torch.equal(backbone(images), plain)
    assert same_snapshot(snapshot(backbone), before)
    assert [(n, id(m), m.training) for n, m in backbone.named_modules()] == modules
    hooks = [h for m in backbone.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks, *m._backward_hooks)]
    assert not hooks
    assert not any("forward" in vars(m) for m in backbone.modules())


@every_case
def test_merge_computes_the_same(case: Case, shared64: VisionTransformer, images: Tensor) -> None:
    """Folded or not, the logits stay; what claims to merge is gone from where it claims it."""
    model = tuned(shared64, case.placement, random=True, double=True)
    before = snapshot(model)
    merged = merge(model)
    with torch.no_grad():
        assert torch.allclose(merged(images.double()), model(images.double()), rtol=0, atol=1e-9)
    assert same_snapshot(snapshot(model), before)
    foldable = case.placement.operation in LINEAR_OPERATIONS + NORM_OPERATIONS or case.claims.forms == ("inside",)
    if case.claims.mergeable and foldable and case.placement.scale != "gate":
        assert len(merged.tuners) == 0
    if not case.claims.mergeable or case.placement.scale == "gate":
        assert merged.tuners.state_dict().keys() == model.tuners.state_dict().keys()


# Tuners together

# Each tuner reading at each operation and form once, in its larger size, with a learned scale where it has one.
DISTINCT = tuple(
    {
        (p.operation, type(p.tuner), p.tuner.label, p.form): Case(c.name, p)
        for c in CASES
        if (p := c.placement).scale in ("scalar", "none") and p.form not in ("mixed", "bypass")
    }.values()
)
MERGEABLE = tuple(c for c in DISTINCT if c.claims.mergeable)


@pytest.mark.parametrize("case", MERGEABLE, ids=[c.name for c in MERGEABLE])
def test_merge_beside_another_tuner_computes_the_same(case: Case, images: Tensor) -> None:
    """A weight must not be folded into while something else reads it, or the map's output, as it was."""
    backbone, wrong, image = tiny_vit(depth=1, global_pool="avg").double(), [], images[:2].double()
    # Each pair once: of two that merge, the later one has seen the earlier one.
    others = [c for c in DISTINCT if not c.claims.mergeable or DISTINCT.index(c) > DISTINCT.index(case)]
    for other in others:
        model = tuned(backbone, case.placement, other.placement, random=True, double=True)
        with torch.no_grad():
            gap = (merge(model)(image) - model(image)).abs().max().item()
        if gap > 1e-9:
            wrong.append(f"{other.name}: {gap:.1e}")
    assert not wrong, f"not the same function beside {len(wrong)} of {len(others)}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("seed", range(3))
def test_tuners_of_one_operation_add_up_in_any_order(seed: int, images: Tensor) -> None:
    """Many placements at once: the order written does not matter, the size adds up, zero starts stay exact."""
    generator = torch.Generator().manual_seed(seed)
    picked = [DISTINCT[int(i)].placement for i in torch.randperm(len(DISTINCT), generator=generator)[:12]]
    shape = shape_of(tiny_vit())
    forward, backward = Design(tuple(picked)), Design(tuple(reversed(picked)))
    assert forward == backward
    assert forward.key == backward.key
    shared = {p.tuner.shared_name(s): p.tuner.num_shared(s) for p in picked for s in p.sites(shape)}
    assert forward.num_parameters(shape) == sum(p.num_parameters(shape) for p in picked) + sum(shared.values())
    model, other = tuned(tiny_vit(), *picked, random=True), tuned(tiny_vit(), *reversed(picked))
    other.load_tuner_state_dict(model.tuner_state_dict())
    with torch.no_grad():
        assert torch.equal(model(images), other(images))
    zero = tuned(tiny_vit(), *(p for p in picked if p.tuner.starts_at_zero))
    with torch.no_grad():
        assert torch.equal(zero(images), bare_logits(zero, images))


def test_many_designs_share_one_backbone(vit: VisionTransformer, images: Tensor) -> None:
    first = tuned(vit, CASES[0].placement, random=True)
    with torch.no_grad():
        alone = first(images)
        others = [tuned(vit, c.placement, random=True) for c in DISTINCT[::5]]
        for other in others:
            other(images)
        assert torch.equal(first(images), alone)


def test_equal_kinds_at_one_operation_are_kept_apart(vit: VisionTransformer) -> None:
    """Two adapters of different rank at one operation: both are trained, neither overwrites the other."""
    adapters = [c.placement for c in DISTINCT if c.claims.kind == "adapter" and c.placement.operation == "mlp"]
    larger = [Placement("mlp", type(p.tuner)(p.tuner.rank + 1), p.form, p.scale) for p in adapters]
    model = tuned(vit, *adapters, *larger)
    assert sum(p.numel() for p in model.tuners.parameters()) == model.design.num_parameters(shape_of(vit))


# Trained weights that do not fit


def test_state_of_another_design_is_refused(vit: VisionTransformer) -> None:
    small, large = (tuned(vit, Placement("mlp", tuner_class("adapter", "")(rank=r))) for r in (2, 3))
    with pytest.raises(Exception, match=r"tuner weights: they fit the design exactly; got tuners\.block_1"):
        small.load_tuner_state_dict(large.tuner_state_dict())
    state = large.tuner_state_dict()
    state.pop("head.bias")
    with pytest.raises(Exception, match=r"tuner weights: they fit the design exactly; got head\.bias"):
        large.load_tuner_state_dict(state)


def test_deepcopy_is_independent(vit: VisionTransformer, images: Tensor) -> None:
    """A copy calls its own modules, the frozen ones too (a patched forward would call the old model's)."""
    model = tuned(vit, *(c.placement for c in DISTINCT[::7]), random=True)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        before = model(images)
        randomise(twin.backbone, seed=5)
        assert torch.equal(model(images), before)
        assert not torch.equal(twin(images), before)


def test_merged_model_can_be_detached(images: Tensor) -> None:
    """Also where folding gave a bias to a linear map that had none."""
    case = next(c for c in CASES if c.claims.mergeable and c.placement.operation == "qkv")
    model = tuned(tiny_vit(qkv_bias=False), case.placement, random=True)
    merged = merge(model)
    with torch.no_grad():
        expected = model(images)
        assert torch.allclose(merged(images), expected, atol=1e-4)
        backbone = merged.detach()
        assert torch.allclose(merged.head(backbone(images)), expected, atol=1e-4)


def test_a_tuner_that_computes_nothing_cannot_be_made() -> None:
    class Unfinished(Tuner):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Unfinished()  # type: ignore[abstract]  # that is what is tested
