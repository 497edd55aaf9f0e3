"""What the pages say is there: command lines parse, Python compiles and imports, links lead to files, words to code."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

from utuning_search.cli.main import _parser
from utuning_search.search.defaults import NAMES, PRUNERS, SAMPLERS
from utuning_search.tuners import FORMS, OPERATIONS

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "docs/glossary.md")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [
    line.split("  #")[0].strip()
    for block in fenced("sh")
    for line in block.splitlines()
    if line.startswith("utuning-search ")
]


@pytest.mark.parametrize("line", COMMANDS)
def test_command_lines_of_the_readme_parse(line: str) -> None:
    assert _parser().parse_args(shlex.split(line)[1:]).command == line.split()[1]


def test_the_readme_shows_command_lines() -> None:
    assert len(COMMANDS) > 15


@pytest.mark.parametrize("code", fenced("python"))
def test_python_of_the_readme_names_what_is_there(code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing


def test_modules_that_the_readme_names_exist() -> None:
    named = re.findall(r"python -m (utuning_search[\w.]*)", README)
    assert named
    for name in named:
        assert ROOT.joinpath(*name.split(".")).with_suffix(".py").exists()


def test_the_glossary_has_each_operation_and_form_and_its_rooms_exist() -> None:
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    for word in (*OPERATIONS, *FORMS):
        assert f"`{word}`" in text
    rooms = re.findall(r"`([a-z/]+)/`", text)
    assert len(rooms) >= 8
    for room in rooms:
        assert (ROOT / "utuning_search" / room).is_dir() or (ROOT / room).is_dir()


def test_the_readme_lists_what_can_be_chosen() -> None:
    for name in (*NAMES, *SAMPLERS, *PRUNERS):
        assert f"`{name}`" in README
