"""`examples/` runs as it stands, on very little."""

import ast
import contextlib
import io
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from utuning_search import load_tuned
from utuning_search.results.recommend import finish, prepare, search
from utuning_search.training import full as full_training

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *arguments: str) -> str:
    """What a script prints, as `python examples/NAME ARGUMENTS`."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return out.getvalue()


def test_images_are_recommended_a_tuner_and_predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock decides: images cost what is said here, and a search ends after a few designs."""
    monkeypatch.chdir(tmp_path)
    run("write_digits.py")
    assert len(list(Path("photos").glob("?/*.png"))) == 1797
    for path in Path("photos").glob("?/*.png"):
        if path.parent.name > "2" or int(path.stem) > 200:
            path.unlink()
    for folder in Path("photos").iterdir():
        if not any(folder.iterdir()):
            folder.rmdir()
    monkeypatch.setattr(full_training, "MOST_ROUNDS", 1)
    monkeypatch.setattr(prepare, "image_seconds", lambda *_: (1.0, 0.4))
    monkeypatch.setattr(search, "MOST_DESIGNS", 2)
    monkeypatch.setattr(finish, "MOST_SEEDS", 1)
    options = ("--backbone", "glyph_vit", "--max-params", "6k", "--time", "1h", "--workers", "0", "-q")
    said = run("my_images.py", "photos", *options)
    assert len(re.findall(r"^photos/0/\d+\.png [012] \d+% [012] \d+%$", said, flags=re.MULTILINE)) == 5
    assert load_tuned("recommended/mine").classes == ("0", "1", "2")


def test_plain_optuna_reads_a_study(studied: Path) -> None:
    said = run("optuna_user.py", str(studied / "studies" / "smoke-tiny"))
    assert said.startswith("['accuracy', 'parameters'] ['MAXIMIZE', 'MINIMIZE']\n0 [")
    assert "linear probe; lr 0.005" in said


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells as a kernel runs them, but in this process, which has imported torch."""
    cells = json.loads((EXAMPLES / "tour.ipynb").read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") for cell in cells), "kept without outputs, which would grow old"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(full_training, "MOST_ROUNDS", 1)
    names: dict[str, object] = {}
    texts = {i: shown(cell["source"], names) for i, cell in enumerate(cells) if cell["cell_type"] == "code"}
    assert "linear probe" in texts[3]
    assert "test images" in texts[7]
    assert (tmp_path / "studies" / "smoke-small" / "exports" / "best" / "tuner.toml").exists()


def shown(source: list[str], names: dict[str, object]) -> str:
    """What a cell prints, and then the value of its last line if that has one."""
    tree = ast.parse("".join(source))
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(tree, "cell", "exec"), names)
        if last is not None:
            print(eval(compile(last, "cell", "eval"), names))
    return out.getvalue()
