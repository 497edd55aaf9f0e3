"""Who only asks for help does not wait for torch: what is imported for what, looked up in a fresh process each time.

Modules are looked at, not clocks; what the process says and its exit code show that it did what was asked.
"""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import utuning_search
from utuning_search import HOMES
from utuning_search.cli.commands import COMMANDS, module_of

ROOT = Path(__file__).parents[1]
EXPORTED = ROOT / "studies" / "2026-11-25_full_cifar100-subset" / "tuner.toml"
HEAVY = {"torch", "torchvision", "timm", "optuna", "sklearn", "scipy", "pandas", "matplotlib"}
BEYOND_TORCH = HEAVY - {"torch"}
BEYOND_TUNERS = (HEAVY | {"rich"}) - {"torch", "torchvision", "timm"}
SCRIPT = """
import json, sys
sys.argv[0] = "utuning-search"
code = 0
try:
    exec({code!r}, {{}})
except SystemExit as error:
    code = error.code or 0
print()
print(json.dumps([code, sorted(sys.modules)]))
"""
MAIN = "import sys; from utuning_search.cli import main; sys.exit(main({arguments!r}))"


@dataclass(frozen=True)
class Done:
    """A process that has ended.

    Attributes:
        code: Exit code.
        said: On both streams.
        modules: That were imported.
    """

    code: int
    said: str
    modules: frozenset[str]


def run(code: str, folder: Path) -> Done:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-c", SCRIPT.format(code=code)]
    done = subprocess.run(
        line,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=300,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    *said, last = done.stdout.splitlines()
    exit_code, modules = json.loads(last)
    return Done(exit_code, "\n".join(said) + done.stderr, frozenset(modules))


def command(*arguments: str, folder: Path) -> Done:
    return run(MAIN.format(arguments=arguments), folder)


def command_modules(done: Done) -> set[str]:
    return {module_of(name) for name in COMMANDS} & done.modules


def test_the_package_alone_is_light(tmp_path: Path) -> None:
    done = run("import utuning_search; print(utuning_search.__all__, dir(utuning_search))", tmp_path)
    assert "load_tuned" in done.said
    assert not done.modules & (HEAVY | {"numpy", "rich"})


def test_a_loaded_tuner_needs_no_search(tmp_path: Path) -> None:
    done = run("from utuning_search import load_tuned; print(load_tuned.__name__)", tmp_path)
    assert "load_tuned" in done.said
    assert {"torch", "timm"} <= done.modules, "the claim below would be empty"
    assert not done.modules & BEYOND_TUNERS


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--help",), 0, "go on with a study"),
        (("--version",), 0, "utuning-search 0."),
        ((), 2, "the following arguments are required: COMMAND"),
        (("--versoin",), 2, "error: "),
        (("serch",), 2, "invalid choice: 'serch'"),
        (("run", "--help"), 0, "one of ehvi, tpe, random, nsga2 (default: ehvi)"),
        (("confirm", "--help"), 0, "trainings each (default: 3)"),
        (("run", "--spase", "full"), 2, "unrecognized arguments: --spase full"),
        (("run", "--trials", "many"), 2, "argument --trials: invalid int value: 'many'"),
        (("export",), 2, "the following arguments are required: NAME"),
    ],
)
def test_help_and_mistakes_are_answered_at_once(
    arguments: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    done = command(*arguments, folder=tmp_path)
    assert done.code == code
    assert said in done.said
    assert not done.modules & (HEAVY | {"numpy", "rich"})
    assert not command_modules(done)


def test_a_shell_that_starts_does_not_wait_for_completions(tmp_path: Path) -> None:
    done = command("completion", "bash", folder=tmp_path)
    assert "_shtab_utuning_search" in done.said
    assert not done.modules & (HEAVY | {"numpy", "rich"})


def test_the_command_line_is_there_as_a_module_too(tmp_path: Path) -> None:
    """For a script that pip made may lie where no shell looks."""
    done = run("import runpy; runpy.run_module('utuning_search.cli', run_name='__main__', alter_sys=True)", tmp_path)
    assert done.code == 2
    assert "usage: utuning-search " in done.said
    imported = run("import utuning_search.cli.__main__", tmp_path)
    assert (imported.code, imported.said.strip()) == (0, ""), "worker processes import the module that was run"


LISTINGS = (
    (("tasks",), "digits"),
    (("tasks", "digits"), 'name = "digits"'),
    (("spaces",), "Explain one: utuning-search spaces full"),
    (("spaces", "full"), "Tried first: linear-probe"),
    (("presets",), "u-tuning-dual"),
    (("presets", "--sizes"), "(666,964)"),
    (("presets", "convpass"), "jie2022convpass"),
    (("cite", "ssf"), "@inproceedings"),
    (("cite", str(EXPORTED)), "@"),
)
ONE_AFTER_ANOTHER = """
import json, sys
from utuning_search.cli import main
for arguments in {listings!r}:
    code = main(arguments)
    print("\\n@@", json.dumps([code, sorted(sys.modules)]))
"""


def test_what_there_is_is_listed_without_the_searching_libraries(tmp_path: Path) -> None:
    """One process for all, since torch takes seconds: what a command imports is there after each later one too."""
    done = run(ONE_AFTER_ANOTHER.format(listings=[arguments for arguments, _ in LISTINGS]), tmp_path)
    assert done.code == 0
    first, *marked = done.said.split("\n@@ ")
    told = [mark.split("\n", 1) for mark in marked]
    used: set[str] = set()
    for (arguments, said), shown, (after, _) in zip(LISTINGS, (first, *(rest for _, rest in told)), told, strict=False):
        code, modules = json.loads(after)
        assert code == 0, arguments
        assert said in shown, arguments
        assert not set(modules) & BEYOND_TORCH, arguments
        used.add(module_of(arguments[0]))
        assert {module_of(name) for name in COMMANDS} & set(modules) == used, arguments
    assert len(told) == len(LISTINGS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_there_and_says_what_it_is_for(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(importlib.import_module(module_of(name)).run)
    assert len(COMMANDS[name].help) > 10
    main = importlib.import_module("utuning_search.cli").main
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: utuning-search {name} " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--help"])
    assert re.search(rf"^    {name}\s+{COMMANDS[name].help[:20]}", capsys.readouterr().out, flags=re.MULTILINE)


# Public names


def test_each_public_name_lives_where_the_table_says() -> None:
    assert set(HOMES) == set(utuning_search.__all__)
    assert sorted(utuning_search.__all__) == sorted(set(utuning_search.__all__))
    assert set(HOMES) <= set(dir(utuning_search))
    for name, home in HOMES.items():
        found = getattr(utuning_search, name)
        assert found is getattr(importlib.import_module(home), name)
        assert getattr(found, "__module__", home) in (home, "utuning_search.designs.placement")  # Design's door to it


def test_type_checkers_see_the_same_names() -> None:
    """What they read are imports that never run; so nothing else would notice if one were missing or of another."""
    tree = ast.parse((ROOT / "utuning_search" / "__init__.py").read_text(encoding="utf-8"))
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == HOMES


def test_an_unknown_name_is_refused_as_ever() -> None:
    with pytest.raises(AttributeError, match=r"module 'utuning_search' has no attribute 'Studdy'"):
        _ = utuning_search.Studdy
    with pytest.raises(ImportError, match="Studdy"):
        exec("from utuning_search import Studdy")
