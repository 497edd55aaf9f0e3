"""Which known method a design is nearest to, and which papers it uses."""

from dataclasses import replace

import pytest

from utuning_search.designs.design import Design, Placement
from utuning_search.designs.nearest import nearest_preset, published, references
from utuning_search.designs.presets import PRESETS, Preset, parse_presets, title_of
from utuning_search.tuners import (
    AdapterConfig,
    BiasConfig,
    LoraConfig,
    NormConfig,
    PrefixConfig,
    PromptConfig,
    ScaleShiftConfig,
)

DEPTH = 12


@pytest.mark.parametrize("depth", [1, 6, DEPTH])
@pytest.mark.parametrize("known", PRESETS, ids=[p.name for p in PRESETS])
def test_a_preset_is_itself_at_any_size(known: Preset, depth: int) -> None:
    sizes = {k: 3 for k, v in known.options.items() if type(v) is int}
    for options in ({}, sizes):
        nearest = nearest_preset(Design.preset(known.name, **options), depth)
        assert (nearest.differences, nearest.share, nearest.is_new) == ((), 0.0, False)
        first = Design.preset(nearest.preset.name).resolve(depth)
        if nearest.preset is not known:  # some methods are one and the same design, at this depth or at any
            assert first.key == Design.preset(known.name).resolve(depth).key


@pytest.mark.parametrize("rate", [None, 0.02])
@pytest.mark.parametrize("known", PRESETS, ids=[p.name for p in PRESETS])
def test_a_published_design_has_its_label_at_any_rate(known: Preset, rate: float | None) -> None:
    design = Design(known.placements(), rate)
    label = published(design, DEPTH)
    asked = parse_presets(label)[label]
    assert Design(*asked).resolve(DEPTH).key == design.resolve(DEPTH).key


def test_what_was_not_published_has_no_label() -> None:
    assert published(Design.preset("ssf"), DEPTH) == "ssf"
    assert title_of(published(Design.preset("ssf", learning_rate=0.02), DEPTH)) == "SSF lr 0.02"
    assert published(Design.preset("lora", rank=3), DEPTH) == ""
    assert published(Design(Design.preset("ssf").placements[1:]), DEPTH) == ""


SAID = {
    "U-Tuning single r=8, but ×channel in the last 6 blocks": (
        Placement("attention", AdapterConfig(8), "parallel", "channel", "last 1/2"),
    ),
    "Adapter+ r=8, but parallel at attention in the last 5 blocks": (
        Placement("attention", AdapterConfig(8), "parallel", "channel", "last 5"),
    ),
    "Adapter+ r=3, but in blocks 2,4,6,8,10,12": (
        Placement("block", AdapterConfig(3), "sequential", "channel", "every 2"),
    ),
    "LoRA (q, v) r=2, but with a norm at mlp": (
        Placement("q", LoraConfig(2)),
        Placement("v", LoraConfig(2)),
        Placement("mlp", NormConfig()),
    ),
    "VPT-deep l=5, but in the first 4 blocks": (Placement("block", PromptConfig(5, "deep"), blocks="first 4"),),
    "Linear probe": (),
    "new": (
        Placement("mlp", NormConfig(), blocks="last 1/2"),
        Placement("block", ScaleShiftConfig(), blocks="last 1/2"),
        Placement("fc1", BiasConfig(), blocks="last 1/2"),
    ),
}


@pytest.mark.parametrize("said", SAID)
def test_what_differs_is_said(said: str) -> None:
    nearest = nearest_preset(Design(SAID[said], 0.01), DEPTH)
    if said.startswith("Adapter+") and "attention" in said:
        # Nearer still is the single tuner at attention, which differs in its scale alone.
        assert str(nearest) == "U-Tuning single r=8, but ×channel in the last 5 blocks"
    else:
        assert str(nearest) == said


def test_a_difference_of_all_placements_is_said_once() -> None:
    late = tuple(
        Placement(at, AdapterConfig(4), "parallel", "channel", blocks="last 1/3") for at in ("attention", "mlp")
    )
    assert str(nearest_preset(Design(late), DEPTH)) == "U-Tuning dual r=4, but in the last 4 blocks"


def keys(*placements: Placement) -> list[str]:
    return [r.key for r in references(Design(placements), DEPTH)]


def test_papers_of_exactly_what_is_used() -> None:
    assert keys() == []
    assert keys(Placement("qkv", LoraConfig(2))) == ["hu2022lora"]
    assert keys(Placement("attention", PrefixConfig(2, "exact"))) == ["li2021prefix"]
    assert "jiang2023utuning" in keys(Placement("attention", PrefixConfig(2, "parallel")))
    sequential = keys(Placement("attention", AdapterConfig(2), "sequential", blocks="first 3"))
    assert sequential == ["houlsby2019adapter"]
    assert keys(*Design.preset("adapter-plus", rank=2).placements)[0] == "steitz2024adapters"
    assert "jiang2023restuning" in keys(*Design.preset("res-tuning-bypass").placements)
    assert "mao2022unipelt" in keys(Placement("mlp", AdapterConfig(2), "sequential", "gate"))


def changed(design: Design) -> list[Design]:
    """A design with one of its placements in other blocks, with another scale, or left out."""
    found = []
    for i, placement in enumerate(design.placements):
        others = (*design.placements[:i], *design.placements[i + 1 :])
        found.append(Design(others))
        if not placement.tuner.once and not placement.is_outside:
            found.append(Design((*others, replace(placement, blocks=(1, 2)))))
        if placement.tuner.scalable and placement.scale != "gate":
            found.append(Design((*others, replace(placement, scale="gate"))))
    return found


@pytest.mark.parametrize("known", PRESETS, ids=lambda p: p.name)
def test_a_method_is_cited_by_its_own_paper_only_where_nothing_but_sizes_differs(known: Preset) -> None:
    exact = Design(known.placements()).resolve(DEPTH)
    for design in (exact, *changed(exact)):
        nearest = nearest_preset(design, DEPTH)
        own = nearest.preset.references if not nearest.differences and not nearest.is_new else ()
        assert references(design, DEPTH) == tuple(dict.fromkeys((*own, *design.references)))
