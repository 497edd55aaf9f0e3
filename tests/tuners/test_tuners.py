"""Every registered tuner meets the contract; and tuners together do what each does alone."""

import copy
from collections.abc import Sequence

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from utuning_search.backbones.merge import merge
from utuning_search.designs.design import Design, Placement
from utuning_search.testing import TunerContract
from utuning_search.testing.cases import readings
from utuning_search.tuners import (
    TUNERS,
    AdapterConfig,
    ArcConfig,
    BiasConfig,
    CompacterConfig,
    ConvConfig,
    DoraConfig,
    ExpertsConfig,
    FactConfig,
    GraphConfig,
    GroupedConfig,
    KroneckerConfig,
    LoraConfig,
    NormConfig,
    OftConfig,
    PrefixConfig,
    PromptConfig,
    RepAdapterConfig,
    RescaleConfig,
    SasConfig,
    ScaleShiftConfig,
    Tuner,
    VeraConfig,
    tuner_class,
)
from utuning_search.tuners.registry import OURS

from ..helpers import CASES, CORNERS, Case, bare_logits, randomise, shape_of, tiny_vit, tuned

DISTINCT = readings(CASES)
MERGEABLE = tuple(c for c in DISTINCT if c.claims.mergeable)
# Of two tuners one has to merge, or there is nothing to see; so those that merge come first.
ORDER = (*MERGEABLE, *(c for c in DISTINCT if not c.claims.mergeable))


def merging(case: Case) -> tuple[object, ...]:
    """All that what folds beside it depends on; what it folds to, its own contract measures."""
    claims, p = case.claims, case.placement
    reading = (claims.is_constant, claims.mixes_channels, claims.reads_weight, claims.changes_norm)
    return p.operation, p.form, claims.starts_at_zero, reading


# Of those that merge alike the first: LoRA for its experts, FacT and other changes of a weight that do not read it.
BESIDE = tuple({merging(c): c for c in reversed(MERGEABLE)}.values())


class OursContract(TunerContract):
    """Beside each tuner stands one of each sort of ours that merges, each pair of them once."""

    @classmethod
    def others(cls, case: Case) -> Sequence[Placement]:
        return [other.placement for other in BESIDE if ORDER.index(other) < ORDER.index(case)]


class TestAdapter(OursContract):
    tuner, corners = AdapterConfig, CORNERS["adapter"]


class TestConv(OursContract):
    tuner, corners = ConvConfig, CORNERS["conv"]


class TestGraph(OursContract):
    tuner, corners = GraphConfig, CORNERS["graph"]


class TestCompacter(OursContract):
    tuner, corners = CompacterConfig, CORNERS["compacter"]


class TestLora(OursContract):
    tuner, corners = LoraConfig, CORNERS["lora"]


class TestExperts(OursContract):
    tuner, corners = ExpertsConfig, CORNERS["experts"]


class TestFact(OursContract):
    tuner, corners = FactConfig, CORNERS["fact"]


class TestKronecker(OursContract):
    tuner, corners = KroneckerConfig, CORNERS["kronecker"]


class TestGrouped(OursContract):
    tuner, corners = GroupedConfig, CORNERS["grouped"]


class TestVera(OursContract):
    tuner, corners = VeraConfig, CORNERS["vera"]


class TestDora(OursContract):
    tuner, corners = DoraConfig, CORNERS["dora"]


class TestRescale(OursContract):
    tuner, corners = RescaleConfig, CORNERS["rescale"]


class TestOft(OursContract):
    tuner, corners = OftConfig, CORNERS["oft"]


class TestPrefix(OursContract):
    tuner, corners = PrefixConfig, CORNERS["prefix"]


class TestPrompt(OursContract):
    tuner, corners = PromptConfig, CORNERS["prompt"]


class TestScaleShift(OursContract):
    tuner, corners = ScaleShiftConfig, CORNERS["scale_shift"]


class TestBias(OursContract):
    tuner, corners = BiasConfig, CORNERS["bias"]


class TestNorm(OursContract):
    tuner, corners = NormConfig, CORNERS["norm"]


class TestRepAdapter(OursContract):
    tuner, corners = RepAdapterConfig, CORNERS["repadapter"]


class TestArc(OursContract):
    tuner, corners = ArcConfig, CORNERS["arc"]


class TestSas(OursContract):
    tuner, corners = SasConfig, CORNERS["sas"]


# The registry


def test_kinds_are_distinct() -> None:
    assert len({t.kind for t in OURS}) == len(OURS)
    assert all(tuner_class(t.kind, "here") is t for t in TUNERS.values())


def test_every_registered_tuner_has_corners_and_a_contract() -> None:
    assert list(CORNERS) == list(TUNERS)
    assert [cls.tuner for cls in OursContract.__subclasses__()] == list(TUNERS.values())
    assert all(cls.corners is CORNERS[cls.tuner.kind] for cls in OursContract.__subclasses__())


def test_reference_keys_name_one_paper_each() -> None:
    references = {r for t in TUNERS.values() for r in t.references}
    assert len({r.key for r in references}) == len({r.arxiv for r in references}) == len(references)


# Tuners together


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
