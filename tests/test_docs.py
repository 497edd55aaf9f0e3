"""What the pages say is there: command lines parse, Python compiles and imports, links lead to files, words to code."""

import argparse
import ast
import importlib
import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import utuning_search
from utuning_search.cli.commands import COMMANDS
from utuning_search.cli.parser import make_parser
from utuning_search.search.defaults import NAMES, PRUNERS, SAMPLERS
from utuning_search.tuners import FORMS, OPERATIONS

ROOT = Path(__file__).parents[1]
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
PAGES = ("README.md", "CONTRIBUTING.md", "examples/README.md", *DOCS)
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
README = TEXTS["README.md"]
LONGEST = 120  # lines of the README, which is for the first five minutes


def fenced(*languages: str) -> list[tuple[str, str, str]]:
    """Page, what its fence says behind the language, and code of each block."""
    pattern = re.compile(rf"^```(?:{'|'.join(languages)})\b([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [(page, *match) for page, text in TEXTS.items() for match in pattern.findall(text)]


LINES = sorted(
    {
        line.split("  #")[0].strip()
        for _, _, code in fenced("sh", "bash")
        for line in code.splitlines()
        if line.startswith("utuning-search ")
    }
)


@pytest.mark.parametrize("line", LINES)
def test_command_lines_parse(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = shlex.split(line)[1:]
    if arguments == ["--help"]:
        with pytest.raises(SystemExit, match="0"):
            make_parser().parse_args(arguments)
        assert "usage" in capsys.readouterr().out
    else:
        assert make_parser().parse_args(arguments).command == arguments[0]


def test_the_pages_show_most_commands() -> None:
    assert len(LINES) > 30
    assert len({line.split()[1] for line in LINES}) > 12


@pytest.mark.parametrize(("page", "code"), [(page, code) for page, title, code in fenced("python") if not title])
def test_python_names_what_is_there(page: str, code: str) -> None:
    for node in ast.walk(ast.parse(code, page)):
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("tunerbench"):  # benchmarks/
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, alias.name) for alias in node.names)


SHOWN = [
    (page, title.split('"')[1], code) for page, title, code in fenced("python") if title.startswith(' title="examples/')
]


@pytest.mark.parametrize(("page", "name", "code"), SHOWN)
def test_an_example_is_shown_as_it_is(page: str, name: str, code: str) -> None:
    assert code == (ROOT / name).read_text(encoding="utf-8"), f"{page} shows another {name}"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)", TEXTS[page])
    missing = [link for link in links if "://" not in link and not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing


def test_modules_that_pages_name_exist() -> None:
    named = {name for text in TEXTS.values() for name in re.findall(r"python -m (utuning_search[\w.]*)", text)}
    assert named
    for name in named:
        assert ROOT.joinpath(*name.split(".")).with_suffix(".py").exists()


def test_the_glossary_has_each_operation_and_form_and_its_rooms_exist() -> None:
    text = TEXTS["docs/glossary.md"]
    for word in (*OPERATIONS, *FORMS):
        assert f"`{word}`" in text
    rooms = re.findall(r"`([a-z/]+)/`", text)
    assert len(rooms) >= 8
    for room in rooms:
        assert (ROOT / "utuning_search" / room).is_dir() or (ROOT / room).is_dir()


def test_the_page_of_choices_lists_what_can_be_chosen() -> None:
    for name in (*NAMES, *SAMPLERS, *PRUNERS):
        assert f"`{name}`" in TEXTS["docs/explanation/choices.md"]


def test_the_readme_is_short_and_begins_with_a_picture() -> None:
    assert len(README.splitlines()) <= LONGEST
    picture = re.search(r"!\[[^]]+\]\((studies/[^)]+\.png)\)", README)
    assert picture is not None
    assert README.index(picture[0]) < README.index("\n## ")
    assert sum(text.count(picture[1]) for text in TEXTS.values()) == 1, "one place, so that it can be replaced"


# The site


def hook(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_site_has_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r": ([\w/-]+\.md)$", text, flags=re.MULTILINE)
    assert sorted(f"docs/{name}" for name in listed if (ROOT / "docs" / name).exists()) == DOCS
    elsewhere = [name for name in listed if not (ROOT / "docs" / name).exists()]
    assert elsewhere[0] == "index.md", "the README"
    assert all((ROOT / name).exists() for name in elsewhere[1:])


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_of_commands_is_their_help(name: str) -> None:
    section = hook("cli_reference").reference().split(f"## {name}\n")[1].split("\n## ")[0]
    own = argparse.ArgumentParser(add_help=False)
    COMMANDS[name].add_options(own)
    for action in own._actions:  # argparse has no public way to list them
        for word in action.option_strings or [str(action.metavar).replace("|", "\\|")]:
            assert re.search(rf"`{re.escape(word)}[ `]", section), word
    plain = re.sub(r"&#(\d+);", lambda found: chr(int(found[1])), section)
    helps = [str(action.help).replace("%%", "%") for action in own._actions]
    assert all(text in plain for text in helps)
    for row in section.splitlines():
        assert not row.startswith("|") or len(re.findall(r"(?<!\\)\|", row)) == 3, "nothing in a cell may end it"


def test_the_reference_of_python_has_every_public_name() -> None:
    assert not [
        name
        for name in utuning_search.__all__
        if f"utuning_search.{name}\n" not in TEXTS["docs/reference/api.md"]
        and f"`{name}`" not in TEXTS["docs/reference/api.md"]
    ]


def test_the_site_is_built_where_all_is_checked() -> None:
    """Not quietly: MkDocs counts no warning that it does not print."""
    (line,) = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if "mkdocs build" in line]
    assert "--strict" in line
    assert "-q" not in line


def test_links_out_of_docs_lead_to_pages_of_the_site() -> None:
    pytest.importorskip("mkdocs")
    files = importlib.import_module("mkdocs.structure.files")
    plugins = SimpleNamespace(_current_plugin="repository")  # MkDocs says which one it calls
    config = SimpleNamespace(site_dir="site", use_directory_urls=False, plugins=plugins)
    repository = hook("repository")
    own = [
        files.File(name.removeprefix("docs/"), str(ROOT / "docs"), "site", use_directory_urls=False) for name in DOCS
    ]
    found = files.Files(own)
    repository.on_files(found, config=config)
    assert {"index.md", "CHANGELOG.md", "benchmarks/README.md"} <= set(found.src_uris)

    def moved(uri: str, markdown: str) -> str:
        class Page:
            file = found.src_uris[uri]

        text: str = repository.on_page_markdown(markdown, page=Page, files=found)
        return text

    assert moved("index.md", "[a](docs/how-to/trouble.md#x)") == "[a](how-to/trouble.md#x)"
    assert moved("index.md", "![a](studies/2026-11-24_full_digits/front.png)").endswith(
        "(studies/2026-11-24_full_digits/front.png)"
    )
    assert (
        moved("results.md", "[a](../studies/2026-11-24_full_digits)") == "[a](studies/2026-11-24_full_digits/README.md)"
    )
    assert moved("how-to/trouble.md", "[a](../../README.md)") == "[a](../index.md)"
    assert moved("benchmarks/README.md", "[a](tunerbench/README.md)") == "[a](tunerbench/README.md)"
    assert moved("tutorial.md", "[a](https://x.org) [b](gone.md)") == "[a](https://x.org) [b](gone.md)"


def test_the_tests_that_pages_name_are_there() -> None:
    named = {found for text in TEXTS.values() for found in re.findall(r"`([a-z_/]+\.py)::(test_\w+)`", text)}
    assert len(named) > 50
    for file, test in sorted(named):
        assert re.search(rf"^ *def {test}\(", (ROOT / "tests" / file).read_text(encoding="utf-8"), re.M), (file, test)
