"""The command line as a whole: exit codes, usage, studies that are not there or damaged."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

from .commands import INLINE, command, refused, succeeded, tree

HERE = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["front", "export", "resume"])
@pytest.mark.usefixtures("studied")
def test_an_unknown_study_is_refused_with_the_known(name: str) -> None:
    found = refused(name, "smoke-tinny")
    assert "study 'smoke-tinny': it lies in studies; got no such study. Known: smoke-tiny." in found


@pytest.mark.usefixtures("place")
def test_without_any_study_run_is_offered() -> None:
    assert "Start one with: utuning-search run" in refused("front", "x")
    assert "got no such file" in refused("repair", "x")


@pytest.mark.parametrize("name", ["front", "export", "resume"])
def test_a_damaged_journal_is_refused_and_can_be_repaired(name: str, studied: Path) -> None:
    journal = studied / "studies" / "smoke-tiny" / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 5, "worker')
    found = refused(name, "smoke-tiny")
    assert "journal studies/smoke-tiny/journal.log: every line is whole; got 22 unreadable bytes" in found
    offered = re.search(r"Run: utuning-search (repair .*)$", found)
    assert offered is not None
    assert "22 bytes cut off" in succeeded(*shlex.split(offered[1]))
    assert journal.read_bytes() == whole
    assert journal.with_suffix(".damaged").read_bytes() == b'{"op_code": 5, "worker'
    assert "nothing to repair" in succeeded("repair", "smoke-tiny")
    succeeded(name, "smoke-tiny", *(INLINE if name == "resume" else ()))


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("search",),
        ("run", "--spaces", "full"),
        ("run", "--trials", "many"),
        ("run", "--seed"),
        ("front",),
        ("export",),
    ],
)
@pytest.mark.usefixtures("place")
def test_argparse_exits_with_2_too(arguments: tuple[str, ...]) -> None:
    before = tree(Path.cwd())
    said = command(*arguments)
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("usage: utuning-search")
    assert "error: " in said.err.splitlines()[-1]
    assert tree(Path.cwd()) == before


def test_a_real_process_says_the_same(place: Path) -> None:
    script = "import sys; from utuning_search.cli import main; sys.exit(main())"  # as installed
    line = [sys.executable, "-c", script, "run", "--space", "ful"]
    environment = {"PYTHONPATH": str(HERE), "PATH": "/usr/bin:/bin", "HOME": str(place)}
    # Where matplotlib keeps what it knows of fonts: it takes seconds to find out in a new home.
    environment |= {"MPLCONFIGDIR": matplotlib.get_cachedir(), "OMP_NUM_THREADS": "1"}
    before = set(tree(place))
    done = subprocess.run(line, capture_output=True, text=True, cwd=place, env=environment, timeout=300, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.strip() == refused("run", "--space", "ful")
    assert not {p.name for p in set(tree(place)) - before} & {"studies"}


def test_version_and_help() -> None:
    said = command("--version")
    assert said.code == 0
    assert re.fullmatch(r"utuning-search \d+\.\d+\.\d+\n", said.out)
    said = command("run", "--help")
    assert said.code == 0
    for option in ("--space", "--task", "--trials", "--workers", "--no-pruning"):
        assert option in said.out
