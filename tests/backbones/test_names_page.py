"""The page of names: every pretrained name of the modules it looks at, as they are said to be."""

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest
import timm

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/backbone-names.md").read_text(encoding="utf-8")
# Small ones, of each kind of answer.
LOOKED_AT = ("convnext_atto", "poolformer_s12", "hiera_tiny_224", "mvitv2_large", "swin_tiny_patch4_window7_224")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    if f"of timm {timm.__version__}," not in PAGE:
        pytest.skip("the page is of another timm")
    return importlib.import_module("backbone_names")


def rows() -> dict[str, str]:
    """Lines of the page by architecture."""
    return {m[1]: m[0] for m in re.finditer(r"^\| `(\S+)` \| (?:yes|no) \|.*$", PAGE, flags=re.MULTILINE)}


def test_every_pretrained_name_of_the_modules_is_there(names: ModuleType) -> None:
    found = {line.split("|")[1].strip(" `"): line.split("|")[-2].strip() for line in rows().values()}
    known = {name: tags for module in names.MODULES for name, tags in names.architectures(module).items()}
    assert found == {name: ", ".join(tag for tag in tags if tag) or "-" for name, tags in known.items()}


def test_the_counts_are_those_of_the_rows(names: ModuleType) -> None:
    carried = [name for name, line in rows().items() if "| yes |" in line]
    known = {name: tags for module in names.MODULES for name, tags in names.architectures(module).items()}
    count = sum(len(known[name]) for name in carried)
    assert f"{count:,} (" in PAGE
    assert count / len(timm.list_models(pretrained=True)) > 0.40


@pytest.mark.parametrize("name", LOOKED_AT)
def test_what_is_said_of_some_is_so(name: str, names: ModuleType) -> None:
    """Made anew, with a tuner at each operation, whose declared size is the counted one."""
    tags = next(found[name] for module in names.MODULES if name in (found := names.architectures(module)))
    assert str(names.row(name, tags)) == rows()[name]
