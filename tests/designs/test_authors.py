"""`benchmarks/originals.py`: which presets it compares, what its recorded table says, and what it finds.

The authors' repositories are not here; small ones are written to a folder instead.
"""

import importlib
import re
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from utuning_search.designs.presets import PRESETS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
NAMES = {p.name for p in PRESETS}


@pytest.fixture
def authors(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Modules of the benchmark by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    found = {name: importlib.import_module(f"authors.{name}") for name in ("rows", "checkout", "compare")}
    return {**found, "originals": importlib.import_module("originals")}


def recorded() -> list[list[str]]:
    """Cells of the table in the README: preset, repository, commit, compared, outputs, gradients, verdict."""
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## The authors' own code\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [
        [cell.strip(" `") if i == 0 else cell.strip() for i, cell in enumerate(line[1:-1].split("|"))] for line in lines
    ]


def test_every_preset_is_compared_or_has_a_reason_not_to_be(authors: dict[str, Any]) -> None:
    compared = {row.preset for row in authors["rows"].ROWS}
    reasons = authors["rows"].NOT_COMPARABLE
    assert compared | reasons.keys() == NAMES
    assert not compared & reasons.keys()
    assert all(reasons.values())


def test_the_recorded_table_is_of_these_comparisons(authors: dict[str, Any]) -> None:
    rows = authors["rows"].ROWS
    assert [cells[:2] + cells[3:4] for cells in recorded()] == [[r.preset, r.repository, r.compared] for r in rows]
    for (*_, commit, _, outputs, gradients, verdict), row in zip(recorded(), rows, strict=True):
        assert re.fullmatch(rf"{row.package} \d+(\.\d+)+" if row.package else r"[0-9a-f]{12}", commit)
        equal = max(float(outputs), float(gradients)) <= authors["compare"].TOLERANCE
        assert equal is not bool(row.differs)
        assert verdict.startswith(f"differs: {row.differs}" if row.differs else "equal")


def adapter_of_others(factor: float) -> str:
    """A repository's file with the adapter of U-Tuning's tables, whose output is multiplied."""
    return f"""
        from . import nowhere, elsewhere
        from unheard_of import decorator, Base

        @decorator(1)
        class Adapter(Base):
            pass

        def adapter(x, down, up):
            return {factor} * up(torch.nn.functional.gelu(down(x)))
    """


def compared(authors: dict[str, Any], file: Path, factor: float) -> Any:
    """The difference of `adapter` and an original whose adapter is multiplied."""
    checkout, compare = authors["checkout"], authors["compare"]
    lines = adapter_of_others(factor).splitlines()
    (file / "own+repository" / "code").mkdir(parents=True)
    (file / "own+repository" / "code" / "adapter.py").write_text("\n".join(["import torch", *(s[8:] for s in lines)]))
    found = checkout.Checkout.find(file, "own/repository")
    given = {
        ".code.nowhere": checkout.StandIn(),
        ".code.elsewhere": checkout.StandIn(),
        "unheard_of": checkout.StandIn(),
    }
    original = found.load("code/adapter.py", given)
    backbone = compare.vit()
    model = compare.preset(backbone, "adapter", rank=2)
    blocks, pairs = [], []
    for name, block in compare.numbered(model):
        down, up = torch.nn.Linear(64, 2).double(), torch.nn.Linear(2, 64).double()
        pairs += compare.bottleneck(name, "added.mlp.adapter.sequential", down, up)

        def run(x: Tensor, block: Any = block, down: Any = down, up: Any = up) -> Tensor:
            x = x + block.attn(block.norm1(x))
            y = block.mlp(block.norm2(x))
            return x + y + original.adapter(y, down, up)

        blocks.append(run)
    return compare.compare(model, lambda images: compare.with_blocks(backbone, blocks, images), pairs)


@pytest.mark.parametrize(("factor", "equal"), [(1.0, True), (1.001, False)])
def test_a_small_difference_is_found(authors: dict[str, Any], tmp_path: Path, factor: float, equal: bool) -> None:
    before = set(sys.modules)
    difference = compared(authors, tmp_path, factor)
    assert difference.equal is equal
    assert (difference.outputs < 1e-12) is equal
    assert (difference.gradients < 1e-12) is equal
    left: set[str] = set(sys.modules) - before
    assert not {name for name in left if name.startswith(("original_", "unheard_of"))}


def test_what_is_not_compared_is_refused(authors: dict[str, Any]) -> None:
    compare = authors["compare"]
    model = compare.preset(compare.vit(), "adapter", rank=2)
    with pytest.raises(AssertionError, match="not compared"):
        compare.compare(model, lambda images: images, [])


def test_a_missing_package_is_named(authors: dict[str, Any], tmp_path: Path) -> None:
    checkout: ModuleType = authors["checkout"]
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "code.py").write_text("import unheard_of\n")
    with pytest.raises(checkout.Missing, match=r"^pip install unheard_of$"):
        checkout.Checkout.find(tmp_path, "own/repository").load("code.py")


def test_an_installed_library_is_told_with_its_version(authors: dict[str, Any]) -> None:
    package = authors["checkout"].Package
    assert package.find("torch").commit == f"torch {metadata.version('torch')}"
    with pytest.raises(authors["checkout"].Missing, match=r"^pip install unheard-of-library$"):
        package.find("unheard-of-library")


def test_missing_repositories_give_rows_that_say_how_to_get_them(
    authors: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert authors["originals"].main(["--root", str(tmp_path), "--only", "ssf", "vpt-deep"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "| missing: git clone https://github.com/dongzelian/SSF DIR/dongzelian+SSF |" in said[2]
    assert len(said) == 2 + 2


def test_a_row_that_should_be_equal_and_is_not_is_told(
    authors: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, apart = authors["rows"], authors["compare"].Difference(0.0, 1e-3)
    (tmp_path / "name").mkdir()
    told = []
    for differs, code in (("", 1), ("no reason", 0)):
        row = rows.Row("ssf", "owner/name", "all", lambda _: apart, differs)
        monkeypatch.setattr(authors["originals"], "ROWS", (row,))
        assert authors["originals"].main(["--root", str(tmp_path), "--only", "ssf"]) == code
        told.append(capsys.readouterr().out.splitlines()[-1])
    assert told == [
        f"| `ssf` | owner/name | unknown | all | 0e+00 | 1e-03 | {verdict} |"
        for verdict in ("NOT EQUAL", "differs: no reason")
    ]


def test_a_root_that_is_no_folder_is_refused(
    authors: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert authors["originals"].main(["--root", str(tmp_path / "nothing")]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert said.out == ""
