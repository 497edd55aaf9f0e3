"""The plug-in of `examples/plugin`, installed as pip would: what `docs/extending.md` shows is there, and runs."""

import contextlib
import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from utuning_search import testing

from .cli.commands import TASK, refused

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "examples" / "plugin"
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = sorted(str(p.relative_to(PLUGIN)) for p in PLUGIN.rglob("*") if p.suffix in (".py", ".toml"))
MAX_LINES = 60
COMMAND = "import sys; from utuning_search.cli import main; sys.exit(main(sys.argv[1:]))"
# One process for them all: it takes seconds to import torch. After so little training the best may be a linear probe.
COMMANDS = """
import contextlib, io, json, runpy, sys
import torch
from utuning_search import Study, load_tuned
from utuning_search.cli import main
said = []
for command in json.loads(sys.argv[1]):
    if "best" in command:
        tuned = [t.number for t in Study.load("glu-digits").trials() if t.state == "complete" and t.design.placements]
        command[command.index("best")] = f"trial={tuned[0]}"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(command)
    said.append((code, out.getvalue()))
model = load_tuned("out")
kinds = [p.tuner.kind for p in model.design.placements]
shape = model(model.preprocess(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))).shape
script, sys.argv = sys.argv[2], ["own_objective.py", "tiny.toml", "3"]
with contextlib.redirect_stdout(io.StringIO()) as out:
    runpy.run_path(script, run_name="__main__")
print(json.dumps([said, kinds, list(shape), out.getvalue()]))
"""


@dataclass(frozen=True)
class Place:
    """A working directory, and where its processes find distributions besides ours."""

    folder: Path
    installed: Path

    def python(self, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(ROOT), str(self.installed)])
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def refused(self, *arguments: str) -> str:
        """The one line of a refusal."""
        done = self.python(COMMAND, *arguments)
        assert (done.returncode, done.stdout) == (2, ""), done
        assert re.fullmatch(r"utuning-search: error: [^\n]+\n", done.stderr), done.stderr
        return done.stderr.strip()


def install(site: Path, name: str, points: Mapping[str, Mapping[str, str]]) -> None:
    """What pip leaves of a distribution besides its modules."""
    folder = site / f"{name.replace('-', '_')}-0.1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 0.1.0\n")
    groups = (f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in found.items()) for group, found in points.items())
    (folder / "entry_points.txt").write_text("\n".join(groups))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("work")
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    install(folder / "site", project["name"], project["entry-points"])
    shutil.copytree(PLUGIN / "utuning_example", folder / "site" / "utuning_example")
    (folder / "tiny.toml").write_text(TASK)
    return Place(folder, folder / "site")


@dataclass(frozen=True)
class Studied:
    """What the page's commands said and left in `place`."""

    place: Place
    said: dict[str, str]
    kinds: list[str]
    logits: list[int]
    script: str  # what own_objective.py printed


@pytest.fixture(scope="module")
def studied(place: Place) -> Studied:
    """The page's commands, on a task of seconds."""
    shutil.copytree(PLUGIN, place.folder / "examples" / "plugin")
    run, *others = page_commands()
    run += ["--name", "glu-digits", "--task", "tiny.toml", "--trials", "6", "--workers", "1", "--quiet"]
    others = [[*command[:-1], "out"] if command[0] == "export" else command for command in others]
    done = place.python(COMMANDS, json.dumps([run, *others]), str(ROOT / "examples" / "own_objective.py"))
    assert done.returncode == 0, done.stderr
    said, kinds, logits, script = json.loads(done.stdout.splitlines()[-1])
    assert [code for code, _ in said] == [0] * len(said), said
    named = {c[0]: text for c, (_, text) in zip([run, *others], said, strict=True)}
    return Studied(place, named, kinds, logits, script)


def page_commands() -> list[list[str]]:
    """Every command of ours that the page shows, as arguments."""
    return [shlex.split(line)[1:] for line in PAGE.splitlines() if line.startswith("utuning-search ")]


# The page


def test_the_page_shows_the_files() -> None:
    shown = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE, flags=re.MULTILINE | re.DOTALL))
    assert sorted(shown) == [name for name in FILES if not name.endswith("__init__.py")]
    for name, text in shown.items():
        assert text == (PLUGIN / name).read_text(encoding="utf-8"), f"docs/extending.md shows another {name}"


@pytest.mark.parametrize("name", FILES)
def test_each_can_be_read_at_a_glance(name: str) -> None:
    assert len((PLUGIN / name).read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_the_page_names_what_there_is() -> None:
    """Groups and contracts of its table are those of the code."""
    groups = {f"utuning_search.{kind}" for kind in ("tuners", "samplers", "pruners", "objectives", "backbones")}
    code = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "utuning_search").rglob("registry.py"))
    rows = re.findall(r"^\| .* \| `(utuning_search\.\w+)` \| `\w+` \| `(\w+Contract)` \|$", PAGE, flags=re.MULTILINE)
    loggers = "utuning_search.loggers"  # without a contract, on a page of their own
    assert f'"{loggers}"' in (ROOT / "docs/how-to/logging.md").read_text(encoding="utf-8")
    assert {group for group, _ in rows} == groups
    assert groups | {loggers} == set(re.findall(r'Registry\(\s*"([\w.]+)"', code))
    assert {contract for _, contract in rows} == set(testing.__all__)
    assert all(getattr(testing, name).__name__ == name for name in testing.__all__)


# The plug-in


def test_its_contracts_hold(place: Place) -> None:
    """Its modules are imported before ours, which then look it up while it is being imported."""
    code = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    options = ("-c", os.devnull, "--rootdir", str(PLUGIN), "--import-mode=importlib", "-p", "no:cacheprovider")
    done = place.python(code, *options, "-q", str(PLUGIN / "tests"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d{3} passed in", done.stdout, flags=re.MULTILINE), done.stdout


def test_a_study_is_made_of_it(studied: Studied) -> None:
    folder = studied.place.folder / "studies" / "glu-digits"
    spec = tomllib.loads((folder / "spec.toml").read_text(encoding="utf-8"))
    assert spec["sampler"] == "neighbour"
    assert spec["pruner"] == {"kind": "margin", "margin": 0.2}
    assert spec["objectives"] == ["accuracy", "parameters", "tuned_blocks"]
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert {row["state"] for row in rows} <= {"complete", "pruned"}, rows
    glu = [row for row in rows if "glu r=" in row["design"]]
    assert glu
    assert all(float(row["tuned_blocks"]) in range(1, 7) for row in glu)
    assert {row["tuned_blocks"] for row in rows if row["preset"] == "linear-probe"} == {"0.0"}


def test_its_front_shows_its_objective(studied: Studied) -> None:
    assert "tuned_blocks" in studied.said["front"]
    assert "blocks with a tuner" in studied.said["run"]
    assert "tuned_blocks 6 to 0" in studied.said["front"]


def test_the_example_of_python_weighs_it_too(studied: Studied) -> None:
    *front, last = studied.script.splitlines()
    assert front
    assert all(re.match(r"trial \d: accuracy 0\.\d+, parameters \d+, tuned_blocks \d: ", line) for line in front)
    assert last.startswith("hypervolume 0.")


def test_its_tuner_is_exported_loaded_and_cited(studied: Studied) -> None:
    assert studied.kinds == ["glu"]
    assert studied.logits == [2, 10]
    assert "shazeer2020glu" in studied.said["cite"]
    assert "shazeer2020glu" in (studied.place.folder / "out" / "tuner.toml").read_text(encoding="utf-8")


def test_without_it_its_study_is_refused(studied: Studied) -> None:
    with contextlib.chdir(studied.place.folder):
        said = refused("resume", "glu-digits", "--trials", "7")  # in this process, which does not have it
    assert "studies/glu-digits/spec.toml, space, slot 'mlp': tuner is a known kind; got 'glu'. Known: adapter, " in said
    assert said.endswith("Others have to be installed.")


def test_a_second_distribution_with_one_of_its_names_is_refused(place: Place) -> None:
    install(place.installed / "more", "another", {"utuning_search.tuners": {"gated": "another:Gated"}})
    (place.installed / "more" / "another.py").write_text("from utuning_example.tuner import GluConfig as Gated\n")
    both = Place(place.folder, Path(f"{place.installed}{os.pathsep}{place.installed / 'more'}"))
    said = both.refused("spaces", "smoke")
    assert (
        "distribution utuning-example, entry point utuning_search.tuners: glu = utuning_example.tuner:GluConfig: "
        in said
    )
    assert "a kind is taken once; got 'glu', which is utuning_example.tuner.GluConfig. Rename one of them" in said
