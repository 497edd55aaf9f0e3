"""`spaces`, `tasks`, `presets` and `cite`: what there is to choose from, and whom to cite."""

import re
from pathlib import Path

import pytest

from utuning_search.common.bundled import bundled

from .commands import command, refused, succeeded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("spaces", "ful"), "Did you mean 'full'?"),
        (("spaces", "full", "--depth", "0"), "--depth: it is at least 1; got 0"),
        (("spaces", "--depth", "-2"), "--depth: it is at least 1; got -2"),
        (("spaces", "--depth", "100000"), "--depth: it is at most 500, which is more than backbones have; got 100000"),
    ],
)
@pytest.mark.usefixtures("studied")
def test_what_cannot_be_listed_is_refused(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(*arguments)


def test_spaces_lists_all_and_explains_each() -> None:
    out = succeeded("spaces")
    for name in bundled("space"):
        assert re.search(rf"^{name} ", out, flags=re.MULTILINE)
        explained = succeeded("spaces", name, "--depth", "6")
        assert explained.startswith(f"{name}: ")
        assert "search variables for a backbone of 6 blocks" in explained
    full = succeeded("spaces", "full")
    for words in ("attention.tuner", "learning_rate", "linear.rank", "prefix-exact", "Tried first: linear-probe"):
        assert words in full


@pytest.mark.usefixtures("place")
def test_a_space_may_hold_more_designs_than_floats_count() -> None:
    space = Path("own.toml").read_text().replace("[1, 2]", "{ low = 1, high = 4096 }")
    Path("own.toml").write_text(space.replace('["all", "last 1/2"]', '"each"'))
    said = succeeded("spaces", "own.toml", "--depth", "100")
    assert re.search(r"\de\+361 designs and 200 search variables", said)


def test_tasks_and_presets_are_listed() -> None:
    out = succeeded("tasks")
    for name in bundled("task"):
        assert re.search(rf"^{name} ", out, flags=re.MULTILINE)
        explained = succeeded("tasks", name)
        assert explained.startswith("# ")
        assert f'name = "{name}"' in explained
    assert "got 'digit'. Did you mean 'digits'" in refused("tasks", "digit")
    out = succeeded("presets")
    assert "u-tuning-dual" in out
    assert "405,744" in out, "its size on ViT-B/16"
    out = succeeded("presets", "--sizes")
    assert "(666,964)" in out
    out = succeeded("presets", "convpass")
    assert "jie2022convpass" in out
    assert "ffn: parallel conv adapter r=8" in out


def test_papers_are_cited() -> None:
    assert "@inproceedings{steitz2024adapters" in succeeded("cite", "adapter-plus")
    assert "hu2022lora" in succeeded("cite", "lora")
    assert "nothing to cite" in succeeded("cite", "linear-probe")
    refused = command("cite", "adapter-pluss")
    assert refused.code == 2
    assert "Did you mean 'adapter-plus'?" in refused.err
