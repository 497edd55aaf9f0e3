"""Spaces that papers searched hold every winner that those papers print or release, and lead to the paper."""

import math
import re
from itertools import product
from typing import Any

import optuna
import pytest

from utuning_search.cli import main
from utuning_search.common.bundled import bundled
from utuning_search.common.errors import InputError
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.spaces.domains import Choice
from utuning_search.designs.spaces.space import Space
from utuning_search.search.pruners.none import NoPruner
from utuning_search.search.samplers.wrapped import TPESampler
from utuning_search.search.spec import StudySpec
from utuning_search.training.task import Task
from utuning_search.tuners import AdapterConfig, LoraConfig, PrefixConfig, PromptConfig, Scale, TunerConfig

DEPTH = 12  # of ViT-B/16, on which all three papers but AutoPEFT's report, and of its BERT-base
RATE = 0.005
ARXIV = {"utuning": "2303.00690", "noah": "2206.04673", "autopeft": "2301.12132"}
SCALES: tuple[Scale, ...] = ("none", "scalar", "channel", "gate")


def assert_inside(name: str, design: Design, depth: int = DEPTH) -> None:
    """The space holds the design, and the values it names give the design back."""
    space = Space.load(name)
    params = space.params_of(design, depth)
    assert params is not None, f"{name} does not hold {design}"
    again = space.suggest(optuna.trial.FixedTrial(params), depth, RATE)
    assert Design(again.placements).key == Design(design.resolve(depth).placements).key


# U-Tuning, Tables 4 to 6 of arXiv 2303.00690: CIFAR-100 at size 10; on FGVC it uses size 4.

KINDS = ("adapter", "prefix", "prompt")
OPERATIONS = ("attention", "mlp", "block")
SINGLE = {  # top-1 of one tuner at attention, mlp, block
    "adapter": (92.43, 92.19, 92.13),
    "prefix": (91.42, 90.27, 90.26),
    "prompt": (91.54, 90.01, 90.12),
}
DUAL = {  # row: at attention; column: at mlp
    "adapter": (92.57, 92.45, 92.30),
    "prefix": (92.10, 91.52, 91.69),
    "prompt": (92.27, 91.60, 91.76),
}
TRI = {"adapter": 92.69, "prefix": 92.75, "prompt": 92.53}  # at block, beside two adapters


def tuner(kind: str, size: int) -> TunerConfig:
    return {
        "adapter": AdapterConfig(size),
        "prefix": PrefixConfig(size, "parallel"),
        "prompt": PromptConfig(size, "parallel"),
    }[kind]


def printed_cells() -> dict[str, dict[str, str]]:
    """Tuner kinds by operation, for each printed cell."""
    cells: dict[str, dict[str, str]] = {}
    for kind, row in SINGLE.items():
        for operation, top1 in zip(OPERATIONS, row, strict=True):
            cells[f"single {kind} at {operation} {top1}"] = {operation: kind}
    for at_attention, row in DUAL.items():
        for at_mlp, top1 in zip(KINDS, row, strict=True):
            cells[f"dual {at_attention} {at_mlp} {top1}"] = {"attention": at_attention, "mlp": at_mlp}
    for at_block, top1 in TRI.items():
        cells[f"tri {at_block} {top1}"] = {"attention": "adapter", "mlp": "adapter", "block": at_block}
    return cells


def test_u_tuning_prints_twenty_one_cells() -> None:
    assert len(printed_cells()) == 9 + 9 + 3


@pytest.mark.parametrize("cell", printed_cells())
@pytest.mark.parametrize("size", [4, 10])
def test_every_printed_cell_of_u_tuning_lies_inside(cell: str, size: int) -> None:
    for scale, at_block in product(SCALES, SCALES):
        placements = [
            Placement(operation, tuner(kind, size), "parallel", at_block if operation == "block" else scale)  # type: ignore[arg-type]  # a literal
            for operation, kind in printed_cells()[cell].items()
        ]
        assert_inside("utuning", Design(tuple(placements)))


def test_u_tuning_holds_the_product_and_no_more() -> None:
    """Counted by hand: which kinds stand at the three operations, then sizes and scales of those in use."""
    total = 0
    for kinds in product(("none", *KINDS), repeat=3):
        sizes = 2 ** ("adapter" in kinds) * 2 ** (not {"prefix", "prompt"}.isdisjoint(kinds))
        scales = 4 ** (set(kinds[:2]) != {"none"}) * 4 ** (kinds[2] != "none")
        total += sizes * scales
    assert Space.load("utuning").size(DEPTH) == Space.load("utuning").size(1) == total
    for outside in (
        Design((Placement("mlp", AdapterConfig(10), "sequential"),)),
        Design((Placement("mlp", AdapterConfig(8), "parallel"),)),
        Design((Placement("mlp", AdapterConfig(10), "parallel", blocks="first 1"),)),
        Design((Placement("attention", PrefixConfig(10, "exact")),)),
    ):
        assert not Space.load("utuning").contains(outside, DEPTH), str(outside)


# NOAH: the RETRAIN tables of experiments/NOAH/subnet/ in its released code (ZhangYuanhan-AI/NOAH): sizes of the deep
# prompt, the LoRA and the adapter in blocks 1 to 12.

NOAH_WINNERS = {
    "VTAB/cifar100": ("10 5 10 1 5 1 10 1 10 5 1 10", "10 1 5 5 1 10 1 1 1 10 1 1", "5 10 10 10 5 1 1 1 10 10 10 1"),
    "VTAB/caltech101": (
        "5 10 1 5 10 1 10 1 10 1 10 1",
        "1 10 10 10 5 10 10 10 5 1 10 1",
        "10 1 5 10 10 1 5 5 10 1 5 10",
    ),
    "VTAB/clevr_count": (
        "10 1 5 10 5 1 10 5 5 5 10 1",
        "1 1 10 5 10 10 10 1 5 1 10 1",
        "1 10 10 10 10 1 5 10 10 10 1 1",
    ),
    "VTAB/clevr_dist": ("10 1 1 10 5 10 5 1 5 10 5 5", "5 1 10 5 10 10 1 1 5 10 1 10", "1 1 1 10 1 1 1 10 5 1 10 10"),
    "VTAB/diabetic_retinopathy": (
        "10 1 5 10 1 5 5 10 5 10 5 5",
        "1 1 10 5 5 10 1 10 10 5 10 1",
        "1 1 5 5 10 10 10 5 1 10 10 1",
    ),
    "VTAB/dmlab": ("1 10 5 1 10 10 5 10 10 1 1 1", "10 5 1 5 10 10 5 5 5 10 10 1", "5 1 5 1 5 1 5 5 5 10 10 10"),
    "VTAB/dsprites_loc": (
        "5 10 1 10 10 5 5 1 5 5 10 1",
        "1 1 1 1 10 10 1 10 5 1 5 10",
        "1 1 1 10 1 1 10 10 10 10 10 1",
    ),
    "VTAB/dsprites_ori": (
        "5 5 1 1 10 5 1 10 10 10 10 10",
        "1 10 1 10 1 5 10 10 5 5 1 5",
        "1 10 10 10 10 1 5 10 10 10 1 1",
    ),
    "VTAB/dtd": ("10 5 1 1 5 10 5 1 1 5 1 1", "10 5 1 1 5 10 5 1 1 5 1 1", "1 1 1 10 1 1 10 10 10 10 10 1"),
    "VTAB/eurosat": (
        "10 10 10 10 10 1 5 5 10 10 5 10",
        "10 1 10 10 1 5 10 1 1 1 10 1",
        "10 10 5 1 10 1 10 5 10 1 10 10",
    ),
    "VTAB/kitti": ("1 5 10 1 10 5 1 1 1 5 5 5", "5 10 10 10 1 10 5 5 10 5 10 1", "5 1 10 10 1 10 1 1 5 10 5 5"),
    "VTAB/oxford_flowers102": (
        "10 10 5 5 1 10 1 5 10 1 5 10",
        "10 10 5 5 1 10 1 5 10 1 5 10",
        "5 1 5 5 1 1 10 5 5 10 5 10",
    ),
    "VTAB/oxford_pet": ("10 5 5 10 1 10 10 10 10 5 10 10", "10 1 1 10 5 1 1 5 10 10 1 10", "1 5 5 5 5 10 1 5 10 1 1 5"),
    "VTAB/patch_camelyon": ("10 10 5 10 1 10 10 10 5 1 5 5", "10 10 1 10 1 1 5 5 5 1 5 5", "5 1 10 5 5 1 1 10 1 5 1 5"),
    "VTAB/resisc45": ("5 5 10 1 5 1 5 10 1 1 5 1", "10 10 5 5 5 10 10 10 1 5 1 5", "5 5 5 1 5 1 10 5 5 1 5 5"),
    "VTAB/smallnorb_azi": ("1 10 1 10 1 5 10 10 1 10 10 5", "10 5 1 5 1 1 5 5 10 1 1 10", "5 1 1 1 5 5 1 10 1 1 5 1"),
    "VTAB/smallnorb_ele": (
        "10 1 1 1 1 5 10 10 10 10 1 10",
        "10 1 1 1 5 5 10 5 1 10 1 1",
        "1 1 1 10 1 1 10 10 10 10 10 1",
    ),
    "VTAB/sun397": ("5 1 10 5 5 10 1 5 1 1 1 1", "10 10 5 5 1 1 10 1 1 1 1 10", "10 5 1 1 1 10 5 5 1 1 5 1"),
    "VTAB/svhn": ("10 5 5 10 5 5 5 5 5 5 5 5", "5 5 5 10 5 5 5 10 10 10 10 5", "5 5 5 5 5 10 5 10 5 5 5 5"),
    "few-shot/fgvc_aircraft-1": ("5 5 5 5 50 10", "5 5 5", "50 10 5"),
    "few-shot/fgvc_aircraft-2": ("5 5 10 50 10 10 5 5 10", "5 5 10", "5 10 5 5 10 5"),
    "few-shot/fgvc_aircraft-16": ("10 5 10 5 10 5", "10 10 10 10 5 10 10 10 10 5 5 5", "10 10 5"),
    "few-shot/food-101-1": ("10 50 5 5 10 10", "10 5 5", "5 5 10 5 10 10"),
    "few-shot/food-101-2": ("5 5 5 5 50 10", "10 5 10", "50 10 5"),
    "few-shot/food-101-4": ("50 10 5", "10 5 5 5 10 10 5 5 5", "10 5 50"),
    "few-shot/food-101-8": ("10 100 5 10 10 5", "50 5 10", "50 50 50"),
    "few-shot/food-101-16": ("50 10 50", "10 10 5 5 10 5", "50 10 10 50 10 5 5 10 5 5 5 5"),
    "few-shot/imagenet-16": ("5 10 10", "5 10 10", "10 10 50"),
    "few-shot/oxford_flowers-4": ("10 10 10", "50 50 10", "10 50 10"),
    "few-shot/oxford_flowers-8": ("10 10 10", "50 10 10", "10 10 50"),
    "few-shot/oxford_flowers-16": ("50 10 50 10 100 10", "10 10 10", "10 10 100"),
    "few-shot/oxford_pets-1": ("50 10 10", "10 10 50", "10 10 50"),
    "few-shot/oxford_pets-2": ("10 10 50", "10 10 10", "10 10 10 10 100 10"),
    "few-shot/oxford_pets-4": ("10 10 50", "10 10 10", "10 10 100 50 10 50"),
    "few-shot/oxford_pets-8": ("10 50 50 10 10 10", "50 10 10", "10 10 10 10 10 10"),
    "few-shot/oxford_pets-16": ("10 50 50", "10 10 10", "100 100 10 10 10 10"),
    "few-shot/stanford_cars-1": ("10 5 5 5 5 10", "50 10 10", "10 10 10"),
    "few-shot/stanford_cars-2": ("10 10 100", "10 10 5", "5 5 10 5 10 10"),
    "few-shot/stanford_cars-4": ("10 5 10 5 10 5", "10 10 10 10 5 10 10 10 10 5 5 5", "10 10 5"),
    "few-shot/stanford_cars-16": ("10 5 10 5 10 5", "10 10 10 10 5 10 10 10 10 5 5 5", "10 10 5"),
}
NOAH_SIZES = (1, 5, 10, 50, 100)
DECLARED = (10, 50, 100)  # beside each winner of VTAB-1k, in its own file


def noah(prompts: list[int], loras: list[int], adapters: list[int]) -> Design:
    """The design of three lists of sizes, of which 0 is absent."""
    found: list[Placement] = []
    for i in range(len(prompts)):
        blocks = (i + 1,)
        if prompts[i]:
            found.append(Placement("block", PromptConfig(prompts[i], "deep"), blocks=blocks))
        if loras[i]:
            found.append(Placement("qkv", LoraConfig(loras[i]), "parallel", blocks=blocks))
        if adapters[i]:
            found.append(Placement("mlp", AdapterConfig(adapters[i]), "sequential", blocks=blocks))
    return Design(tuple(found))


def sizes(text: str) -> list[int]:
    """Twelve sizes; missing ones at the end are 0."""
    given = [int(word) for word in text.split()]
    return given + [0] * (DEPTH - len(given))


def test_noah_released_forty_winners() -> None:
    groups = [name.split("/")[0] for name in NOAH_WINNERS]
    assert (groups.count("VTAB"), groups.count("few-shot")) == (19, 21)


@pytest.mark.parametrize("name", NOAH_WINNERS)
def test_every_released_winner_of_noah_lies_inside(name: str) -> None:
    prompts, loras, adapters = map(sizes, NOAH_WINNERS[name])
    assert {len(prompts), len(loras), len(adapters)} == {DEPTH}
    assert_inside("noah", noah(prompts, loras, adapters))


def test_winners_of_noah_lie_outside_the_space_declared_beside_them() -> None:
    """What the header says of them: their own files list no size 1 or 5."""
    for name, lists in NOAH_WINNERS.items():
        used = {n for text in lists for n in sizes(text) if n}
        assert used <= set(NOAH_SIZES), name
        if name.startswith("VTAB/"):
            assert not used <= set(DECLARED), name


def test_corners_of_noah_lie_inside() -> None:
    smallest, largest = [1] * DEPTH, [100] * DEPTH
    alternating = [NOAH_SIZES[i % 5] if i % 2 else 0 for i in range(DEPTH)]
    for lists in product((smallest, largest, alternating, [0] * DEPTH), repeat=3):
        assert_inside("noah", noah(*lists))
    assert not Space.load("noah").contains(noah([2] * DEPTH, smallest, smallest), DEPTH)
    assert Space.load("noah").size(DEPTH) == (1 + len(NOAH_SIZES)) ** (3 * DEPTH)


# AutoPEFT: no winner is in its released code (cambridgeltl/autopeft), so the corners of what that code searches.

BOTTLENECKS = (0, 1, *(768 // 2**k for k in range(8, -1, -1)))
LONGEST_PREFIX = 512  # of this package
SUBSETS = {
    "all": tuple(range(1, DEPTH + 1)),
    "first": (1,),
    "last": (DEPTH,),
    "odd": tuple(range(1, DEPTH + 1, 2)),
    "even": tuple(range(2, DEPTH + 1, 2)),
    "scattered": (3, 4, 8, 9, 10),
}


def autopeft(serial: int, parallel: int, prefix: int, blocks: tuple[int, ...]) -> Design:
    found: list[Placement] = []
    if serial:
        found.append(Placement("block", AdapterConfig(serial, "relu"), "sequential", blocks=blocks))
    if parallel:
        found.append(Placement("ffn", AdapterConfig(parallel, "relu"), "parallel", 4.0, blocks))
    if prefix:
        found.append(Placement("attention", PrefixConfig(prefix, "exact"), blocks=blocks))
    return Design(tuple(found))


@pytest.mark.parametrize("blocks", SUBSETS.values(), ids=SUBSETS)
def test_corners_of_autopeft_lie_inside(blocks: tuple[int, ...]) -> None:
    prefixes = [n for n in BOTTLENECKS if n <= LONGEST_PREFIX]
    for serial, parallel, prefix in product((0, 1, 768), (0, 1, 768), (0, 1, max(prefixes))):
        assert_inside("autopeft", autopeft(serial, parallel, prefix, blocks))
    for n in BOTTLENECKS:
        assert_inside("autopeft", autopeft(n, n, min(n, max(prefixes)), blocks))


def test_tuners_of_autopeft_stand_in_the_same_blocks_and_have_one_size() -> None:
    space, serial, parallel = Space.load("autopeft"), autopeft(6, 0, 0, (1, 5)), autopeft(0, 6, 0, (1, 6))
    assert not space.contains(Design((*serial.placements, *parallel.placements)), DEPTH)
    unequal = (*autopeft(6, 0, 0, (1,)).placements, *autopeft(12, 0, 0, (2,)).placements)
    assert not space.contains(Design(unequal), DEPTH)


def test_size_of_autopeft_counts_nothing_once() -> None:
    """Sizes, less all three absent, in each subset of blocks but the empty one; and the linear probe."""
    for depth in (1, 6, DEPTH):
        tuned = len(BOTTLENECKS) ** 2 * (len(BOTTLENECKS) - 1) - 1
        assert Space.load("autopeft").size(depth) == tuned * (2**depth - 1) + 1


# The paper of a space.


@pytest.mark.parametrize(("name", "arxiv"), ARXIV.items())
def test_names_its_paper(name: str, arxiv: str, capsys: pytest.CaptureFixture[str]) -> None:
    space = Space.load(name)
    assert space.reference is not None
    assert space.reference.arxiv == arxiv
    header = bundled("space")[name].read_text(encoding="utf-8").split("\nname = ")[0]
    assert arxiv in header
    assert main(["spaces", name]) == 0
    assert f"Reference: {space.reference}\n" in capsys.readouterr().out


def test_the_list_of_spaces_shows_size_cost_and_paper(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spaces"]) == 0
    listed = capsys.readouterr().out
    for name, arxiv in ARXIV.items():
        (line,) = (text for text in listed.splitlines() if text.startswith(f"{name} "))
        assert arxiv in line
        size = Space.load(name).size(DEPTH)
        shown = re.search(r"\d[\d,.e+]*", line.split(str(len(Space.load(name).variables(DEPTH))), 1)[1])
        assert shown is not None
        assert math.isclose(float(shown[0].replace(",", "")), size, rel_tol=0.05)
    assert "unknown" not in listed


SMALL: dict[str, Any] = {"name": "n", "slots": [{"name": "a", "operation": "mlp", "tuner": "norm"}]}


def test_ones_own_space_needs_no_paper() -> None:
    assert Space.from_dict(SMALL).reference is None


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("2303.00691", "Did you mean '2303.00690'?"),
        ("https://arxiv.org/abs/2303.00690", "Known: "),
        (2303.00690, "Write it as text."),
        (["2303.00690"], "Write it as text."),
        ("", "Known: "),
    ],
)
def test_a_paper_that_is_not_cited_anywhere_is_refused(reference: object, told: str) -> None:
    with pytest.raises(InputError, match="reference: it is the arXiv identifier") as caught:
        Space.from_dict({**SMALL, "reference": reference})
    assert told in str(caught.value)


def test_the_paper_does_not_decide_what_a_space_holds() -> None:
    cited = Space.from_dict({**SMALL, "reference": "2303.00690"})
    assert cited.digest == Space.from_dict(SMALL).digest
    specs = [
        StudySpec(s, Task.load("digits"), 0, TPESampler(), NoPruner(), "fp32", "x")
        for s in (cited, Space.from_dict(SMALL))
    ]
    assert specs[0].digest == specs[1].digest
    assert specs[0].differences(specs[1]) == []


def test_switches_of_autopeft_are_one_variable_a_block() -> None:
    switches = [v for v in Space.load("autopeft").variables(DEPTH) if v.name.startswith("block_")]
    assert [v.name for v in switches] == [f"block_{b:02d}" for b in range(1, DEPTH + 1)]
    assert {v.domain for v in switches} == {Choice((False, True))}
