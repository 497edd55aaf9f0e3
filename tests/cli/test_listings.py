"""`spaces`, `tasks`, `presets` and `cite`: what there is to choose from, and whom to cite."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from utuning_search import PRESETS, Space, Task
from utuning_search.cli.commands import COMMANDS
from utuning_search.cli.json_output import plain
from utuning_search.common.bundled import bundled
from utuning_search.designs.placement import Placement

from ..repositories import write_model
from .commands import command, refused, succeeded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("spaces", "ful"), "Did you mean 'full'?"),
        (("spaces", "full", "--depth", "0"), "--depth: it is at least 1; got 0"),
        (("spaces", "--format", "csv"), "--format: format is one of table, json; got 'csv'"),
        (("tasks", "--format", "csv"), "--format: format is one of table, json; got 'csv'"),
        (("presets", "--format", "xml"), "--format: format is one of table, json; got 'xml'"),
        (("completion", "bahs"), "the shell is one of bash, zsh, tcsh; got 'bahs'. Did you mean 'bash'?"),
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
    assert "As published on plain transformers; on other backbones it is our reading." in out
    assert "and Swin, but for the steps between its stages; on" in succeeded("presets", "ssf")
    assert "ffn: parallel conv adapter r=8" in out


def test_papers_are_cited() -> None:
    assert "@inproceedings{steitz2024adapters" in succeeded("cite", "adapter-plus")
    assert "hu2022lora" in succeeded("cite", "lora")
    assert "nothing to cite" in succeeded("cite", "linear-probe")
    refused = command("cite", "adapter-pluss")
    assert refused.code == 2
    assert "Did you mean 'adapter-plus'?" in refused.err


@pytest.mark.parametrize(
    ("depth", "told"),
    [("12", ""), ("3", "got 3"), ("501", "got 501"), ("2147483647", "6 at least and 500 at most"), ("'a'", "got 'a'")],
)
@pytest.mark.usefixtures("place")
def test_papers_of_an_export_are_cited_whatever_depth_it_says(depth: str, told: str, tmp_path: Path) -> None:
    """Which sizes are told by; very many blocks would take for ever."""
    design = '[[design.placements]]\noperation = "q"\ntuner = "lora"\nrank = 2\nform = "parallel"\nscale = "none"\n'
    text = (
        f'format = 1\nclasses = ["a", "b"]\n{design}blocks = "1-6"\n[backbone]\nname = "x"\n[shape]\ndepth = {depth}\n'
    )
    (tmp_path / "tuner.toml").write_text(text)
    if told:
        assert told in refused("cite", str(tmp_path))
    else:
        assert "hu2022lora" in succeeded("cite", str(tmp_path))


# For other programs


def no_constants(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def printed(*arguments: str) -> object:
    out = succeeded(*arguments, "--format", "json")
    assert out.isascii()
    return json.loads(out, parse_constant=no_constants)


DOCUMENTED = (Path(__file__).parents[2] / "docs" / "reference" / "json.md").read_text(encoding="utf-8")


def documented(command: str, entry: dict[str, object]) -> None:
    """Every key stands in the command's section."""
    section = DOCUMENTED.split(f"\n## {command}\n")[1].split("\n## ")[0]
    assert not [key for key in entry if f"`{key}`" not in section]


@pytest.mark.parametrize(("command", "names"), [("spaces", list(bundled("space"))), ("tasks", list(bundled("task")))])
def test_listings_are_printed_as_json(command: str, names: list[str]) -> None:
    found = printed(command)
    assert isinstance(found, list)
    assert [entry["name"] for entry in found] == names
    assert printed(command, names[-1]) == found[-1]
    assert len({tuple(entry) for entry in found}) == 1, "all have the same keys"
    documented(command, found[0])


def test_a_space_says_all_in_json() -> None:
    found, space = printed("spaces", "full", "--depth", "6"), Space.load("full")
    assert isinstance(found, dict)
    assert int(found["designs"]) == space.size(6)
    assert [v["name"] for v in found["variables"]] == [v.name for v in space.variables(6)]
    assert all((v["values"] is None) == (v["low"] is not None) for v in found["variables"])
    task = printed("tasks", "digits")
    assert isinstance(task, dict)
    assert task["proxy"] == Task.load("digits").data.proxy


def test_known_methods_are_printed_as_json() -> None:
    found = printed("presets")
    assert isinstance(found, list)
    assert [entry["name"] for entry in found] == [known.name for known in PRESETS]
    for entry, known in zip(found, PRESETS, strict=True):
        assert tuple(Placement.from_dict(p) for p in entry["placements"]) == known.placements()
    assert printed("presets", "ssf") in found
    documented("presets", found[0])
    sizes = printed("presets", "--sizes")
    assert isinstance(sizes, list)
    documented("presets", sizes[0])


def test_backbones_are_listed_and_explained() -> None:
    out = " ".join(succeeded("backbones").split())
    assert "a timm VisionTransformer" in out
    assert "Explain one: utuning-search backbones" in out
    out = " ".join(succeeded("backbones", "vit_small_patch14_reg4_dinov2.lvd142m", "--image-size", "224").split())
    for said in (
        "blocks 12, 384 wide; MLP 1,536",
        "heads 6 of 64",
        "tokens 261: 16 x 16 patches, and 5 before them",
        "weights timm/vit_small_patch14_reg4_dinov2.lvd142m, apache-2.0",
        "images 224 px, 3 channels, bicubic",
        "operations attention, mlp, block,",
        "lora at qkv, q, k, v, proj, fc1, fc2;",
        "left out no tuner",
    ):
        assert said in out


def test_backbones_are_printed_as_json(tmp_path: Path) -> None:
    families = printed("backbones")
    assert isinstance(families, list)
    write_model(tmp_path / "models" / "mine")
    (tmp_path / "models" / "mine" / "model.safetensors").unlink()  # it is not looked at
    one = printed("backbones", "models/mine", "--data-dir", str(tmp_path))
    assert isinstance(one, dict)
    assert [one[key] for key in ("class", "architecture", "tokens", "mean")] == [
        "VisionTransformer",
        "vit_tiny_patch16_224",
        17,
        [0.4],
    ]
    assert {key: one[key] for key in families[0]} in families
    assert one["shape"]["depth"] == 2
    documented("backbones", one)
    documented("backbones", families[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet18",), "the model is a timm VisionTransformer"),
        (("test_vit.of_nobody",), "timm can make it; got Invalid pretrained tag"),
        (("test_vit", "--image-size", "40"), "Take 32 or 48"),
        (("--image-size", "40"), "it is given with the name of a backbone"),
        (("no/folder",), "a repository of the hub is hf-hub:USER/MODEL"),
        (("hub:me/m",), "a prefix of its name is hf-hub: or local-dir:"),
    ],
)
@pytest.mark.usefixtures("place")
def test_a_backbone_that_cannot_be_is_not_explained(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused("backbones", *arguments)


def test_json_has_no_numbers_that_are_none() -> None:
    assert plain({"a": float("nan"), 1: (float("inf"), 2.5, True, None)}) == {"a": None, "1": [None, 2.5, True, None]}
    with pytest.raises(TypeError, match="Path"):
        plain(Path())


def completed(*words: str) -> list[str]:
    """What bash offers for the last of the words."""
    script = succeeded("completion", "bash")
    ask = (
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _shtab_utuning_search; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    bash = ["bash", "--norc", "-c", f"complete() {{ :; }}\n{script}\n{ask}"]
    done = subprocess.run(bash, capture_output=True, text=True, check=True, timeout=60)
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed here, and it is bash that completes")
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("utuning-search", "fro"), ["front"]),
        (("utuning-search", "run", "--prun"), ["--pruner"]),
        (("utuning-search", "run", "--sampler", "ns"), ["nsga2"]),
        (("utuning-search", "run", "--task", "vtab-d"), ["vtab-dtd"]),
        (("utuning-search", "front", "x", "--format", "c"), ["csv"]),
        (("utuning-search", "spaces", "sm"), ["smoke"]),
    ],
)
def test_bash_completes(words: tuple[str, ...], offered: list[str]) -> None:
    assert completed(*words) == offered


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_get_every_command(shell: str) -> None:
    script = succeeded("completion", shell)
    assert all(name in script for name in COMMANDS)
    assert not re.search(r"(?<!\\)`ps`", script), "help must not be run as a command"
