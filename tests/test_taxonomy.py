"""The page of a survey's methods is made of one file, which names every preset and designs that can be built.

`python -m tests.test_taxonomy` writes the page.
"""

import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from utuning_search.common.bundled import bundled
from utuning_search.designs.design import Design, Placement
from utuning_search.designs.presets import PRESETS, preset
from utuning_search.tuners.references import SURVEY

PLACE = Path(__file__).parents[1] / "docs" / "explanation"
DATA, PAGE = PLACE / "taxonomy.toml", PLACE / "taxonomy.md"
BEYOND = "Beyond the survey"
METHODS: list[dict[str, Any]] = tomllib.loads(DATA.read_text(encoding="utf-8"))["methods"]
KEYS = {"name", "group", "arxiv", "status", "preset", "space", "placements", "why"}
HEAD = """# The methods that a survey names

"{title}"
(Xin et al., [arXiv {arxiv}](https://arxiv.org/abs/{arxiv})) sorts methods of tuning by what they do, and keeps
[a list of them](https://github.com/synbol/Awesome-Parameter-Efficient-Transfer-Learning). Each stands here with the
known method of this package that it is, with the design that its tuners equal though it trains or starts otherwise, or
with what the algebra of designs lacks for it. Of {named} methods {expressible} can be written as designs, and {presets}
of these are known methods; `utuning-search presets NAME` says what differs from the paper.

| group | named | designs | known methods |
|---|---|---|---|
"""
END = """
What most of the others need lies outside a frozen vision transformer that classifies one image: a text encoder, a
video, a point cloud, a pyramid for dense prediction, several tasks at once, or pixels that change before the backbone.
"""


def linked(method: dict[str, Any]) -> str:
    name, arxiv = method["name"], method.get("arxiv")
    return f"[{name}](https://arxiv.org/abs/{arxiv})" if arxiv else name


def said(method: dict[str, Any]) -> tuple[str, str]:
    """What it is here, and what is to say of that."""
    why = method.get("why", "")
    if method["status"] == "lacks":
        return "-", why
    if "space" in method:
        return f"designs of the space `{method['space']}`", why
    if "placements" in method:
        places = (str(Placement.from_dict(p)).removesuffix(", blocks all") for p in method["placements"])
        return "design: " + "; ".join(places), why
    return (f"`{method['preset']}`" if method["status"] == "preset" else f"as `{method['preset']}`"), why


def counts(methods: list[dict[str, Any]]) -> tuple[int, int, int]:
    """Named, expressible as designs, and presets."""
    by_status = Counter(m["status"] for m in methods)
    return len(methods), by_status["preset"] + by_status["design"], by_status["preset"]


def page() -> str:
    named, expressible, presets = counts([m for m in METHODS if m["group"] != BEYOND])
    told = {"named": named, "expressible": expressible, "presets": presets}
    text = HEAD.format(title=SURVEY.title, arxiv=SURVEY.arxiv, **told)
    groups = list(dict.fromkeys(m["group"] for m in METHODS))
    by_group = {g: [m for m in METHODS if m["group"] == g] for g in groups}
    for group, methods in by_group.items():
        text += f"| {group} | {' | '.join(map(str, counts(methods)))} |\n"
    for group, methods in by_group.items():
        text += f"\n## {group}\n\n| method | here | remark |\n|---|---|---|\n"
        for method in methods:
            here, why = said(method)
            text += f"| {linked(method)} | {here} | {why} |\n"
    return text + END


def test_the_page_is_made_of_its_file() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m tests.test_taxonomy"


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m["name"])
def test_each_method_is_here_or_says_why_not(method: dict[str, Any]) -> None:
    assert method.keys() <= KEYS
    homes = {"preset", "space", "placements"} & method.keys()
    assert len(homes) == (method["status"] != "lacks")
    assert method["status"] in ("preset", "design", "lacks")
    assert ("why" in method) == (method["status"] != "preset")
    if "preset" in method:
        known = preset(method["preset"])
        assert method["status"] == "design" or not known.references or "arxiv" in method
    if "space" in method:
        assert method["space"] in bundled("space")
    if "placements" in method:
        assert Design.from_dict({"placements": method["placements"]}).resolve(12).placements


def test_each_method_is_named_once() -> None:
    assert max(Counter(m["name"] for m in METHODS).values()) == 1


def test_every_paper_of_a_preset_is_named() -> None:
    """A known method stands in the file under its first paper, whichever of its readings is shown."""
    named = {m["arxiv"] for m in METHODS if m["status"] == "preset" and "arxiv" in m}
    assert {p.references[0].arxiv for p in PRESETS if p.references} - named == {"2211.08682"}  # LN-Tune's elder twin


def test_presets_that_are_named_have_that_paper() -> None:
    """So that no row points at a neighbour's preset."""
    for method in METHODS:
        if method["status"] == "preset" and (papers := preset(method["preset"]).references):
            assert method["arxiv"] in {p.arxiv for p in papers} | {"2304.01917"}, method["name"]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
