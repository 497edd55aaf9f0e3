"""The command line in this process, and what it is given in these tests."""

import contextlib
import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from utuning_search.cli.main import main

TASK = """
name = "tiny"
[backbone]
name = "glyph_vit"
[data]
source = "digits"
proxy = 100
validation = 60
[training]
epochs = 2
batch_size = 50
rungs = [1]
"""
FOLDER_TASK = TASK.replace('"digits"', '"imagefolder"\nroot = "photos"').replace("100", "8").replace("60", "4")
SLOT = """
name = "own"
[[slots]]
name = "mlp"
operation = "mlp"
tuner = ["none", "adapter"]
rank = [1, 2]
blocks = ["all", "last 1/2"]
"""
PROMPT = """
name = "prompt"
[[slots]]
name = "block"
operation = "block"
tuner = ["none", { kind = "prompt", reading = "parallel" }]
length = 1
scale = ["none", 1e38]
"""
TRIALS = 6
INLINE = ("--workers", "0")
RUN = ("run", "--task", "tiny.toml", *INLINE)
OTHER = ("--backbone", "test_vit", "--checkpoint", "w.safetensors")


@dataclass(frozen=True)
class Said:
    """A command's exit code, and what it wrote."""

    code: int | str | None
    out: str
    err: str


def command(*arguments: str) -> Said:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: int | str | None = main(list(arguments))
        except SystemExit as error:  # argparse's way
            code = error.code
    return Said(code, out.getvalue(), err.getvalue())


def succeeded(*arguments: str) -> str:
    said = command(*arguments)
    assert (said.code, said.err) == (0, ""), said
    return said.out


def tree(folder: Path) -> dict[Path, bytes | None]:
    """Every file's content; folders count, locks do not."""
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*") if p.suffix != ".lock"}


def refused(*arguments: str) -> str:
    """The one line of a refusal that left everything in the working directory as it was."""
    # A checkout may hold gigabytes of an environment, which would all be read.
    assert not Path("pyproject.toml").exists(), "refusals are tried in a folder of their own"
    before = tree(Path.cwd())
    said = command(*arguments)
    assert said.code == 2, said
    assert said.out == ""
    assert re.fullmatch(r"utuning-search: error: [^\n]+\n", said.err), said.err
    assert "Traceback" not in said.err
    assert tree(Path.cwd()) == before, "something was written"
    return said.err.strip()


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
